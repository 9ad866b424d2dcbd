//go:build guest && long

package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
)

// TestLongStepsOnClassic restores onto what another volume had there before: a classic
// volume is not zeroed.
func TestLongStepsOnClassic(t *testing.T) {
	vg := newGroup(t, 720<<20)
	dirty(t, newVolume(t, vg, "", "dirty", 700<<20), 700)
	removeVolume(t, vg, "dirty")
	newDesk(t, vg, "", "ext4", 64<<20).steps(3, 64<<20)
}

// dirty fills a volume with what no user wants to find in another.
func dirty(t testing.TB, node string, mib int64) {
	t.Helper()
	f, err := os.OpenFile(node, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := bytes.Repeat([]byte{0xee}, 1<<20)
	for i := range mib {
		if _, err := f.WriteAt(garbage, i<<20); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLongShrunk makes a volume smaller between two points, and larger again: what
// was behind its end must not come back.
func TestLongShrunk(t *testing.T) {
	vg := newGroup(t, 2<<30)
	for _, c := range []struct{ name, pool string }{{"thin", "pool"}, {"classic", ""}} {
		t.Run(c.name, func(t *testing.T) {
			if c.pool != "" {
				newPool(t, vg, c.pool, 600<<20)
				t.Cleanup(func() { removeVolume(t, vg, c.pool) })
			}
			k := &desk{t: t, driver: newDriver(t), vg: vg, pool: c.pool}
			k.node = newVolume(t, vg, c.pool, "da-ta", 100<<20)
			t.Cleanup(func() { removeSnapshots(t, vg); removeVolume(t, vg, "da-ta") })
			place, err := k.driver.Locate(t.Context(), realNode(t, k.node))
			if err != nil {
				t.Fatal(err)
			}
			k.dataset = place.Dataset
			pattern := func(seek, count int) {
				command(t, "dd", "if=/dev/urandom", "of="+k.node, "bs=1M", "seek="+strconv.Itoa(seek), "count="+strconv.Itoa(count), "oflag=direct", "status=none")
			}
			var made []fs.Snapshot
			resize := func(to string) {
				removeIfClassic(t, c.pool, k, made)
				command(t, "lvresize", "-q", "-f", "-y", "--fs", "ignore", "-L", to, vg+"/da-ta")
			}
			pattern(0, 100)
			made = append(made, k.snapshot())
			r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			apply := func(i int) {
				t.Helper()
				var base *fs.Snapshot
				guid := ""
				if i > 0 {
					base, guid = &made[i-1], made[i-1].GUID
				}
				if err := applyFile(t, r, k.stream(made[i], base), made[i].GUID, guid); err != nil {
					t.Fatal(err)
				}
				k.same(fmt.Sprint("point ", i), made[i], r.(*receiver).built.volume.full())
			}
			apply(0)
			resize("48M")
			made = append(made, k.snapshot())
			apply(1)
			resize("120M") // brings up again what was behind the end
			pattern(110, 4)
			made = append(made, k.snapshot())
			apply(2)
		})
	}
}

// removeIfClassic removes the snapshots that keep a classic origin from being
// resized; their digests stay.
func removeIfClassic(t testing.TB, pool string, k *desk, made []fs.Snapshot) {
	t.Helper()
	if pool != "" {
		return
	}
	removeSnapshots(t, k.vg)
	listed, err := k.driver.Snapshots(t.Context(), k.dataset)
	if err != nil || len(listed) != len(made) {
		t.Fatalf("classic snapshots that are gone but known by their digests: got %v, %v; want %d", listed, err, len(made))
	}
}

// TestLongUUIDStaysWithTheOrigin sees that no mount by UUID gets a
// snapshot that is being read, or a volume that is being restored.
func TestLongUUIDStaysWithTheOrigin(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 600<<20)
	k := newDesk(t, vg, "pool", "ext4", 64<<20)
	k.write("a", 4<<20)
	uuid := command(t, "blkid", "-o", "value", "-s", "UUID", k.node)
	origin := realNode(t, k.node)
	check := func(when string) {
		t.Helper()
		begin := time.Now()
		command(t, "udevadm", "settle")
		t.Logf("%s: udev settled in %v", when, time.Since(begin).Round(time.Millisecond))
		if got := realNode(t, "/dev/disk/by-uuid/"+uuid); got != origin {
			t.Errorf("%s: the UUID leads to %s, and the volume is %s", when, got, origin)
		}
	}
	check("before")
	s := k.snapshot()
	file := k.stream(s, nil)
	r, err := k.driver.Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	check("while it is sent")
	restoring, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	if err := applyFile(t, restoring, file, s.GUID, ""); err != nil {
		t.Fatal(err)
	}
	check("while it is restored")
	if err := errors.Join(r.Close(), restoring.Close()); err != nil {
		t.Error(err)
	}
	check("after")
}

// TestLongFilesystemIsChecked on restored volumes: a sound one, and one that is
// not.
func TestLongFilesystemIsChecked(t *testing.T) {
	vg := newGroup(t, 3<<30)
	newPool(t, vg, "pool", 1<<30)
	for _, c := range []struct{ name, pool, kind string }{{"thin ext4", "pool", "ext4"}, {"thin XFS", "pool", "xfs"}, {"classic ext4", "", "ext4"}} {
		t.Run(c.name, func(t *testing.T) {
			k := newDesk(t, vg, c.pool, c.kind, 320<<20)
			t.Cleanup(func() { unmount(t, k.dir); removeSnapshots(t, vg); removeVolume(t, vg, "da-ta") })
			k.write("a", 4<<20)
			s := k.snapshot()
			r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := applyFile(t, r, k.stream(s, nil), s.GUID, ""); err != nil {
				t.Fatal(err)
			}
			dataset, err := r.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { removeVolume(t, vg, "restored") })
			if said, err := k.driver.CheckFilesystem(t.Context(), dataset); err != nil {
				t.Errorf("a sound one: %v: %s", err, said)
			}
			k.same("after the check", s, dataset.Name)
			command(t, "lvchange", "-q", "-a", "y", "-K", dataset.Name)
			command(t, "dd", "if=/dev/urandom", "of=/dev/"+dataset.Name, "bs=4k", "seek=1", "count=40", "oflag=direct", "status=none")
			command(t, "lvchange", "-q", "-a", "n", dataset.Name)
			if _, err := k.driver.CheckFilesystem(t.Context(), dataset); !errors.Is(err, fs.ErrDamaged) {
				t.Errorf("a damaged one: got %v, want ErrDamaged", err)
			} else {
				t.Log(err)
			}
		})
	}
}

// TestLongIncrementRefused plays bad increments: what was there before them stays
// as it was, and the good one still fits.
func TestLongIncrementRefused(t *testing.T) {
	vg := newGroup(t, 2<<30)
	for _, c := range []struct{ name, pool string }{{"thin", "pool"}, {"classic", ""}} {
		t.Run(c.name, func(t *testing.T) {
			if c.pool != "" {
				newPool(t, vg, c.pool, 600<<20)
				t.Cleanup(func() { removeVolume(t, vg, c.pool) })
			}
			k := newDesk(t, vg, c.pool, "ext4", 64<<20)
			t.Cleanup(func() { unmount(t, k.dir); removeSnapshots(t, vg); removeVolume(t, vg, "da-ta") })
			k.write("a", 5<<20)
			first := k.snapshot()
			k.write("b", 5<<20)
			k.write("a", 1<<20)
			second := k.snapshot()
			k.write("c", 1<<20)
			third := k.snapshot()
			a, b, skip := k.stream(first, nil), k.stream(second, &first), k.stream(third, &first)
			r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := applyFile(t, r, a, first.GUID, ""); err != nil {
				t.Fatal(err)
			}
			good, err := os.ReadFile(b)
			if err != nil {
				t.Fatal(err)
			}
			for name, bad := range badStreams(good) {
				if err := r.Apply(t.Context(), bytes.NewReader(bad), second.GUID, first.GUID); !errors.Is(err, lvmstream.ErrInvalid) {
					t.Errorf("%s: got %v, want ErrStream", name, err)
				}
				k.same(name, first, r.(*receiver).built.volume.full())
			}
			if err := applyFile(t, r, b, second.GUID, first.GUID); err != nil {
				t.Fatal(err)
			}
			k.same("the good one", second, r.(*receiver).built.volume.full())
			if err := applyFile(t, r, skip, third.GUID, first.GUID); !errors.Is(err, fs.ErrBase) {
				t.Errorf("a stream on another base: got %v, want ErrBase", err)
			}
			k.same("after a wrong base", second, r.(*receiver).built.volume.full())
			left := command(t, "lvs", "--noheadings", "-o", "lv_name", "-S", `lv_name=~"^snapd_restore_"`, vg)
			if n := len(strings.Fields(left)); n != 1 {
				t.Errorf("%d volumes of the restore are there, want 1: %s", n, left)
			}
		})
	}
}

// badStreams are cut, damaged, reordered.
func badStreams(good []byte) map[string][]byte {
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 4
		return b
	}
	// Two whole records in the other order.
	size := func(at int) int {
		r, err := lvmstream.DecodeRecord(good[at : at+lvmstream.RecordSize])
		if err != nil || r.Kind != lvmstream.RecordData {
			return lvmstream.RecordSize
		}
		return lvmstream.RecordSize + int(r.Length)
	}
	one := size(lvmstream.HeaderSize)
	two := size(lvmstream.HeaderSize + one)
	swapped := bytes.Join([][]byte{good[:lvmstream.HeaderSize], good[lvmstream.HeaderSize+one : lvmstream.HeaderSize+one+two], good[lvmstream.HeaderSize : lvmstream.HeaderSize+one], good[lvmstream.HeaderSize+one+two:]}, nil)
	return map[string][]byte{
		"cut in the middle": good[:len(good)/2], "cut at the end": good[:len(good)-1], "without an end": good[:len(good)-lvmstream.RecordSize-lvmstream.EndSize],
		"a bit in the data": flip(len(good) / 2), "a bit in the end": flip(len(good) - 1), "reordered": swapped,
	}
}
