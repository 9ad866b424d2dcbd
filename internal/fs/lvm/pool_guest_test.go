//go:build guest

package lvm

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"
)

// inUse makes a volume that uses mib MiB of a pool.
func inUse(t testing.TB, vg, pool, name string, mib string) {
	t.Helper()
	node := newVolume(t, vg, pool, name, 1<<30)
	command(t, "dd", "if=/dev/zero", "of="+node, "bs=1M", "count="+mib, "oflag=direct", "status=none")
}

// healthy fails the test unless the pool takes reads and writes and no program
// has its metadata snapshot.
func healthy(t testing.TB, d *Driver, vg, pool string) {
	t.Helper()
	st, err := poolStatusOf(t.Context(), volume{vg: vg, name: pool})
	if err != nil || st.mode != "rw" || st.held != "-" {
		t.Errorf("the pool is %+v, %v", st, err)
	}
}

// TestPoolNearlyFull sees at 95 % that nothing is begun which needs room, that
// our oldest snapshots go first and that it is said.
func TestPoolNearlyFull(t *testing.T) {
	vg := newGroup(t, 2<<30)
	newPool(t, vg, "pool", 400<<20)
	k := newDesk(t, vg, "pool", "ext4", 256<<20)
	k.write("a", 30<<20)
	first := k.snapshot()
	k.remove("a")
	k.write("b", 8<<20)
	k.trim()
	second := k.snapshot()
	file := k.stream(second, nil)
	inUse(t, vg, "pool", "others", "337") // with the first snapshot: over 95 %
	d := k.driver
	if _, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), "x"), []fs.Dataset{k.dataset}); !errors.Is(err, fs.ErrNoSpace) || !strings.Contains(advice.Of(err), "lvextend") {
		t.Errorf("prepare: got %v", err)
	} else {
		t.Log(err)
	}
	if _, err := d.Receive(t.Context(), vg+"/pool/restored", fs.Placement{}); !errors.Is(err, fs.ErrNoSpace) {
		t.Errorf("receive: got %v", err)
	}
	healthy(t, d, vg, "pool")
	told, err := d.Tend(t.Context())
	if err != nil || len(told) == 0 || !strings.Contains(told[0], "DROPPED") || !strings.Contains(told[0], first.Name) {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	left, err := d.Snapshots(t.Context(), k.dataset)
	if err != nil || len(left) != 1 || left[0] != second {
		t.Errorf("left: %v, %v; want only the second", left, err)
	}
	if more, err := d.Tend(t.Context()); err != nil || len(more) > 0 {
		t.Errorf("once more: got %q, %v", more, err)
	}
	healthy(t, d, vg, "pool")
	k.write("c", 1<<20) // its owner can still write
	_ = file
}

// TestForeignMetadataSnapshot is one that another program left behind: ours
// is not made, theirs is not touched.
func TestForeignMetadataSnapshot(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 400<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	s := k.snapshot()
	device := poolDevice(volume{vg: vg, name: "pool"})
	command(t, "dmsetup", "message", device, "0", "reserve_metadata_snap")
	before := command(t, "dmsetup", "status", device)
	_, err := k.driver.Send(t.Context(), s, nil)
	if !errors.Is(err, fs.ErrBusy) || !strings.Contains(advice.Of(err), "release_metadata_snap") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if _, err := k.driver.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if after := command(t, "dmsetup", "status", device); strings.Fields(after)[6] != strings.Fields(before)[6] {
		t.Errorf("it was %s and is %s", before, after)
	}
	command(t, "dmsetup", "message", device, "0", "release_metadata_snap")
	k.stream(s, nil)
	healthy(t, k.driver, vg, "pool")
}

// TestOwnMetadataSnapshotIsReleased is about what a killed process of ours
// left, at both instants that a kill can hit.
func TestOwnMetadataSnapshotIsReleased(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 400<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	s := k.snapshot()
	all, err := k.driver.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, _ := all.named(vg, "pool")
	for _, known := range []bool{true, false} {
		h, err := k.driver.holdMetadata(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		if !known { // power cut before it was written down where it lies
			if err := os.Truncate(h.file+".made", 0); err != nil {
				t.Fatal(err)
			}
		}
		h.lock.Close() // as the kernel does
		if known {
			removed, err := k.driver.Sweep(t.Context())
			if err != nil || len(removed) != 1 || !strings.Contains(removed[0], vg+"/pool") {
				t.Errorf("got %q, %v", removed, err)
			}
			healthy(t, k.driver, vg, "pool")
		} else {
			k.stream(s, nil) // the next one finds it by itself
		}
	}
	healthy(t, k.driver, vg, "pool")
}

// TestMetadataSnapshotOfSameTransaction is another program's, made after we
// were killed: between writing down that one is to be made and making it, or
// when ours had been released. It is of the transaction that was written down,
// and stays.
func TestMetadataSnapshotOfSameTransaction(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 400<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	k.snapshot()
	all, err := k.driver.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, _ := all.named(vg, "pool")
	lock, err := k.driver.awaitLock(t.Context(), "metadata", pool.uuid)
	if err != nil {
		t.Fatal(err)
	}
	h := k.driver.metadataOf(pool, lock)
	st, err := poolStatusOf(t.Context(), pool)
	if err == nil {
		err = h.write(reservation{Pool: pool.full(), Transaction: st.transaction, Boot: proc.BootID()})
	}
	if err := errors.Join(err, lock.Close()); err != nil {
		t.Fatal(err)
	}
	device := poolDevice(pool)
	command(t, "dmsetup", "message", device, "0", "reserve_metadata_snap")
	before := command(t, "dmsetup", "status", device)
	if _, err := k.driver.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	if after := command(t, "dmsetup", "status", device); strings.Fields(after)[6] != strings.Fields(before)[6] {
		t.Errorf("another program's: it was %s and is %s", before, after)
	}
	command(t, "dmsetup", "message", device, "0", "release_metadata_snap")
}

// TestSnapshotsThatFreeNothingStay in a pool that another program has filled, and
// that is told once.
func TestSnapshotsThatFreeNothingStay(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 400<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	k.write("a", 8<<20)
	// Read only, so that nothing is written and the origin has all they have.
	command(t, "mount", "-o", "remount,ro", k.dir)
	first := k.snapshot()
	second := k.snapshot()
	inUse(t, vg, "pool", "others", "376")
	r, err := k.driver.Send(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	told, err := k.driver.Tend(t.Context())
	if err != nil || len(told) != 1 || !strings.Contains(told[0], "stay") {
		t.Errorf("got %q, %v", told, err)
	}
	t.Log(strings.Join(told, "\n"))
	if again, err := k.driver.Tend(t.Context()); err != nil || len(again) > 0 {
		t.Errorf("once more: got %q, %v", again, err)
	}
	if left := k.mustSnapshots(); len(left) != 2 || left[0] != first || left[1] != second {
		t.Errorf("left: %v", left)
	}
	// What is read keeps no room from others.
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	removeVolume(t, vg, "others")
	if told, err := k.driver.Tend(t.Context()); err != nil || len(told) > 0 {
		t.Errorf("with room again: got %q, %v", told, err)
	}
	healthy(t, k.driver, vg, "pool")
	command(t, "mount", "-o", "remount,rw", k.dir)
}

func (k *desk) mustSnapshots() []fs.Snapshot {
	k.t.Helper()
	found, err := k.driver.Snapshots(k.t.Context(), k.dataset)
	if err != nil {
		k.t.Fatal(err)
	}
	return found
}
