//go:build guest && long

package lvm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// TestLongPoolFillsDuringShip has a neighbour write on and on while a ship
// waits for its network and reads nothing: first the older snapshot goes, then
// the ship gives up and its own goes. The neighbour never gets an error, and
// the pool is never without room.
func TestLongPoolFillsDuringShip(t *testing.T) {
	vg := newGroup(t, 2<<30)
	newPool(t, vg, "pool", 800<<20)
	k := newDesk(t, vg, "pool", "ext4", 256<<20)
	k.write("a", 60<<20)
	k.snapshot()
	k.remove("a")
	k.write("b", 60<<20)
	k.trim()
	s := k.snapshot()
	k.remove("b")
	k.trim() // so that the snapshots alone have them
	r, err := k.driver.Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	const most = 780 // MiB; the pool without any snapshot has that
	neighbour := neighbourOf(t, vg, "pool")
	written := 0
	for ; written < 600; written += 4 {
		neighbour(4)
	}
	for len(k.mustSnapshots()) > 0 && written < most {
		neighbour(1)
		written++
		st, err := poolStatusOf(t.Context(), volume{vg: vg, name: "pool"})
		if err != nil || st.mode != "rw" {
			t.Fatalf("after %d MiB: %+v, %v", written, st, err)
		}
	}
	t.Logf("the last snapshot went after %d MiB of the neighbour's", written)
	for ; written < 750; written++ {
		neighbour(1)
	}
	healthy(t, k.driver, vg, "pool")
	_, failed := io.Copy(io.Discard, r)
	if !errors.Is(failed, fs.ErrNoSpace) || !strings.Contains(failed.Error(), "lvextend") {
		t.Errorf("got %v, want ErrNoSpace", failed)
	}
	t.Log(failed)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left := k.mustSnapshots(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	told, err := k.driver.Tend(t.Context())
	if err != nil || len(told) < 2 || !strings.Contains(told[0], "DROPPED") || !strings.Contains(told[1], "DROPPED") {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	k.write("c", 1<<20) // the owner still writes as well
	healthy(t, k.driver, vg, "pool")
}

// neighbourOf makes a volume in a pool and returns what writes the next few MiB
// to it.
func neighbourOf(t testing.TB, vg, pool string) func(mib int) {
	t.Helper()
	f, err := os.OpenFile(newVolume(t, vg, pool, "others", 1<<30), os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	buf, err := pages(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(0)
	return func(mib int) {
		t.Helper()
		for range mib {
			if _, err := f.WriteAt(buf, at); err != nil {
				t.Fatalf("the neighbour's write at %d MiB: %v", at>>20, err)
			}
			at += 1 << 20
		}
	}
}

// TestLongPoolMetadataNearlyFull does the same where it is the metadata.
func TestLongPoolMetadataNearlyFull(t *testing.T) {
	vg := newGroup(t, 3<<30)
	command(t, "lvcreate", "-q", "-y", "-L", "2G", "--poolmetadatasize", "2M", "--chunksize", "64k", "-T", vg+"/pool")
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	first := k.snapshot()
	pool := volume{vg: vg, name: "pool"}
	// Every volume needs a block of metadata, also one that LVM knows nothing of.
	for id := 1000; ; id += 20 {
		command(t, "sh", "-c", fmt.Sprintf("for id in $(seq %d %d); do dmsetup message %s 0 \"create_thin $id\" || exit 1; done", id, id+19, poolDevice(pool)))
		st, err := poolStatusOf(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if st.meta.use() >= 95 {
			break
		}
	}
	if _, err := k.driver.Prepare(t.Context(), fs.SnapshotName(time.Now(), "x"), []fs.Dataset{k.dataset}); !errors.Is(err, fs.ErrNoSpace) || !strings.Contains(advice.Of(err), "--poolmetadatasize") {
		t.Errorf("prepare: got %v", err)
	} else {
		t.Log(err)
	}
	told, err := k.driver.Tend(t.Context())
	if err != nil || len(told) == 0 || !strings.Contains(told[0], first.Name) {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	healthy(t, k.driver, vg, "pool")
}

// TestLongWithoutThinDelta compares blocks where the metadata cannot be read, and
// says so.
func TestLongWithoutThinDelta(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 600<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	k.write("a", 4<<20)
	first := k.snapshot()
	k.write("a", 1<<20)
	second := k.snapshot()
	want, err := os.Stat(k.stream(second, &first))
	if err != nil {
		t.Fatal(err)
	}
	k.costs(second, &first, "")
	thinDelta := strings.Fields(command(t, "sh", "-c", "readlink -f $(command -v thin_delta)"))[0]
	link := command(t, "sh", "-c", "command -v thin_delta")
	command(t, "mv", link, link+".away")
	defer command(t, "mv", link+".away", link)
	t.Logf("%s is %s", link, thinDelta)
	a, b := k.stream(first, nil), k.stream(second, &first)
	got, err := os.Stat(b)
	if err != nil || got.Size() > want.Size() {
		t.Errorf("compared: %d bytes, by metadata: %d", got.Size(), want.Size())
	}
	k.costs(second, nil, "64 MiB are read")
	k.costs(second, &first, "128 MiB are read")
	told, err := k.driver.Tend(t.Context())
	if err != nil || len(told) != 4 || !strings.Contains(told[1], "128 MiB") {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := errors.Join(applyFile(t, r, a, first.GUID, ""), applyFile(t, r, b, second.GUID, first.GUID)); err != nil {
		t.Fatal(err)
	}
	k.same("compared", second, r.(*receiver).built.volume.full())
}

// costs checks what a stream says that it costs to find out what to send.
func (k *desk) costs(s fs.Snapshot, base *fs.Snapshot, want string) {
	k.t.Helper()
	r, err := k.driver.Send(k.t.Context(), s, base)
	if err != nil {
		k.t.Fatal(err)
	}
	if got := strings.Join(r.(*sending).Notes(), "; "); !strings.Contains(got, want) || want == "" && got != "" {
		k.t.Errorf("it says %q, want %q", got, want)
	}
	if err := r.Close(); err != nil {
		k.t.Error(err)
	}
}

// TestLongPoolWithoutZeroing restores into a pool that gives out blocks with what
// another volume had there before.
func TestLongPoolWithoutZeroing(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 500<<20, "-Z", "n", "--chunksize", "256k")
	dirty(t, newVolume(t, vg, "pool", "dirty", 400<<20), 200)
	removeVolume(t, vg, "dirty")
	other := newGroup(t, 1<<30)
	newPool(t, other, "pool", 500<<20) // blocks of 64 KiB
	k := newDesk(t, other, "pool", "ext4", 64<<20)
	k.write("a", 4<<20)
	first := k.snapshot()
	k.remove("a")
	k.write("b", 1<<20)
	k.trim()
	second := k.snapshot()
	a, b := k.stream(first, nil), k.stream(second, &first)
	r, err := k.driver.Receive(t.Context(), vg+"/pool/restored", fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := applyFile(t, r, a, first.GUID, ""); err != nil {
		t.Fatal(err)
	}
	k.same("full", first, r.(*receiver).built.volume.full())
	if err := applyFile(t, r, b, second.GUID, first.GUID); err != nil {
		t.Fatal(err)
	}
	k.same("increment", second, r.(*receiver).built.volume.full())
}

// TestLongClassicIsExtended fills a classic snapshot that got little room, since
// little had been written: it is extended before it is lost, as often as need be.
func TestLongClassicIsExtended(t *testing.T) {
	vg := newGroup(t, 1<<30)
	k := newDesk(t, vg, "", "ext4", 200<<20)
	k.write("a", 4<<20)
	command(t, "sync", "-f", k.dir)
	k.snapshot()           // from now on it is known what is written
	removeSnapshots(t, vg) // and only the next is looked at
	s := k.snapshot()
	sizeNow := func() (size, use float64) {
		t.Helper()
		out := command(t, "lvs", "--noheadings", "--nosuffix", "--units", "m", "-o", "lv_size,data_percent", vg+"/"+fs.LVMSnapshotName(s.Name, s.Dataset.GUID))
		if _, err := fmt.Sscan(out, &size, &use); err != nil {
			t.Fatal(err)
		}
		return size, use
	}
	before, _ := sizeNow()
	if before > 80 {
		t.Errorf("after nothing was written a snapshot of 200 MiB gets room for %v MiB", before)
	}
	for i := range 3 {
		was, _ := sizeNow()
		k.write(fmt.Sprint("new ", i), 16<<20)
		command(t, "sync", "-f", k.dir)
		_, live, err := k.driver.Watch(t.Context())
		now, use := sizeNow()
		if err != nil || !live || use >= classicFull {
			t.Errorf("%d: it has %v of %v MiB and is %v %% full; live %v, %v", i, now, was, use, live, err)
		}
		t.Logf("16 MiB more: from %v to %v MiB, %v %% full", was, now, use)
	}
	if now, _ := sizeNow(); now <= before {
		t.Errorf("it had %v MiB and has %v", before, now)
	}
	r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := applyFile(t, r, k.stream(s, nil), s.GUID, ""); err != nil {
		t.Fatal(err)
	}
	k.same("after it was extended", s, r.(*receiver).built.volume.full())
}

// TestLongClassicOverflows loses a classic snapshot in the middle of a stream:
// the stream fails, its owner's volume does not.
func TestLongClassicOverflows(t *testing.T) {
	vg := newGroup(t, 1<<30)
	k := newDesk(t, vg, "", "ext4", 300<<20)
	k.write("a", 8<<20)
	first := k.snapshot()
	k.stream(first, nil)
	// At the rate of this test a snapshot gets room for everything, so that
	// there must not be any.
	free := strings.TrimSpace(command(t, "vgs", "--noheadings", "--nosuffix", "--units", "m", "-o", "vg_free", vg))
	var left float64
	if _, err := fmt.Sscan(free, &left); err != nil {
		t.Fatal(err)
	}
	newVolume(t, vg, "", "filler", int64(left-80)<<20)
	second := k.snapshot()
	r, err := k.driver.Send(t.Context(), second, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	command(t, "dd", "if=/dev/urandom", "of="+k.dir+"/c", "bs=1M", "count=150", "conv=fsync", "status=none")
	if _, err := io.Copy(io.Discard, r); err == nil {
		t.Error("a stream of a snapshot that was lost is whole")
	} else {
		t.Log(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	told, err := k.driver.Tend(t.Context())
	if all := strings.Join(told, "\n"); err != nil || !strings.Contains(all, "LOST") || !strings.Contains(all, "no room to extend") {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	known, err := k.driver.Snapshots(t.Context(), k.dataset)
	if err != nil || len(known) != 1 || known[0].GUID != first.GUID {
		t.Errorf("got %v, %v; want the first, of which the digests are known", known, err)
	}
	third := k.snapshot()
	k.costs(third, &first, "300 MiB are read")
	if st, err := os.Stat(k.stream(third, &first)); err != nil || st.Size() > 260<<20 {
		t.Errorf("an increment on digests: %v, %v", st.Size(), err)
	}
}
