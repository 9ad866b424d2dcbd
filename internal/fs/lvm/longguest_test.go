//go:build guest && long

package lvm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/fs/lvm/lvmstream"
)

// TestLongContract is the whole contract on each kind of volume with each
// filesystem.
func TestLongContract(t *testing.T) {
	for _, c := range []struct{ name, pool, kind string }{
		{"thin ext4", "po-ol", "ext4"},
		{"thin xfs", "po-ol", "xfs"},
		{"classic ext4", "", "ext4"},
		{"classic xfs", "", "xfs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vg := newGroup(t, 6<<30)
			if c.pool != "" {
				newPool(t, vg, c.pool, 4<<30)
			}
			h := harness(t, vg, c.pool, c.kind)
			if c.name == "classic xfs" { // LVM's rules for names know no filesystems
				h.Names = append(h.Names, "plain", "with-dash", "two--dashes", "under_score", "UPPER", "-", "_", "trailing-")
			}
			fstest.Run(t, h)
		})
	}
}

// TestLongSteps makes ten increments and compares every point as its stream is
// applied. Some are restored by themselves too, from nothing and to the end,
// which takes a chain of as many streams each time: on one kind all of them.
func TestLongSteps(t *testing.T) {
	every := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	const small, least = 96 << 20, 320 << 20 // mkfs.xfs makes none below 300 MiB
	for _, c := range []struct {
		name, pool, kind string
		size             int64
		alone            []int
	}{
		{"thin ext4", "pool", "ext4", small, every},
		{"thin xfs", "pool", "xfs", least, []int{5}},
		{"classic ext4", "", "ext4", small, []int{5}},
		{"classic xfs", "", "xfs", least, []int{5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			vg := newGroup(t, 6<<30) // eleven classic snapshots have room for everything each
			if c.pool != "" {
				newPool(t, vg, c.pool, 3<<30)
			}
			newDesk(t, vg, c.pool, c.kind, c.size).steps(10, c.size, c.alone...)
		})
	}
}

func TestLongKilled(t *testing.T) { testKilled(t, 20) }

// counting reads a stream to its end.
func (k *desk) counting(s fs.Snapshot, base *fs.Snapshot) (bytes int64, took time.Duration) {
	k.t.Helper()
	begin := time.Now()
	r, err := k.driver.Send(k.t.Context(), s, base)
	if err != nil {
		k.t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	took = time.Since(begin)
	if err := errors.Join(err, r.Close()); err != nil {
		k.t.Fatal(err)
	}
	return n, took
}

// extentsOf are what a stream carries.
func (k *desk) extentsOf(file string) (all []extent) {
	k.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	d, err := lvmstream.NewDecoder(f, nil)
	for err == nil {
		var r lvmstream.Record
		if r, _, err = d.Next(); err == nil {
			all = append(all, extent{r.Kind, r.Offset, r.Length})
		}
	}
	if !errors.Is(err, io.EOF) {
		k.t.Fatal(err)
	}
	return all
}

// blocks writes a file of whole MiB that are all different and have no zeros.
func (k *desk) blocks(name string, mib int, mark byte) {
	k.t.Helper()
	f, err := os.Create(filepath.Join(k.dir, name))
	if err != nil {
		k.t.Fatal(err)
	}
	block := bytes.Repeat([]byte{mark}, 1<<20)
	for i := range mib {
		copy(block, fmt.Sprintf("%s %d %c", name, i, mark))
		if _, err := f.Write(block); err != nil {
			k.t.Fatal(err)
		}
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		k.t.Fatal(err)
	}
}

// TestLongLarge is a thin volume of 200 GiB with 1 GiB in use: streams are as
// long as what is there or changed, and so is their time.
func TestLongLarge(t *testing.T) {
	vg := newGroup(t, 3<<30)
	command(t, "lvcreate", "-q", "-y", "-L", "2500M", "--poolmetadatasize", "32M", "-T", vg+"/pool")
	k := newDesk(t, vg, "pool", "ext4", 200<<30)
	k.blocks("a", 1<<10, 'a')
	first := k.snapshot()
	k.blocks("b", 50, 'b')
	second := k.snapshot()
	third := k.snapshot()
	full, fullTook := k.counting(first, nil)
	step, stepTook := k.counting(second, &first)
	none, noneTook := k.counting(third, &second)
	t.Logf("full: %.1f MiB in %v; 50 MiB changed: %.1f MiB in %v; nothing changed: %.3f MiB in %v",
		mib(full), fullTook, mib(step), stepTook, mib(none), noneTook)
	if full < 1<<30 || full > 1<<30+64<<20 {
		t.Errorf("the full stream has %d bytes, want about 1 GiB", full)
	}
	if step < 50<<20 || step > 56<<20 {
		t.Errorf("the increment has %d bytes, want about 50 MiB", step)
	}
	// To be snapshotted, ext4 is frozen and thawed, and writes its superblock
	// both times: one block of the pool, and nothing else.
	if none > leastUnit+4<<10 {
		t.Errorf("with nothing changed the increment has %d bytes", none)
	}
	for _, e := range k.extentsOf(k.stream(third, &second)) {
		t.Logf("with nothing changed: kind %d, %d bytes at %d", e.kind, e.length, e.offset)
		if e.offset != 0 || e.length > leastUnit {
			t.Error("more than the superblock's block was shipped")
		}
	}
	if stepTook > fullTook/4 || noneTook > stepTook {
		t.Error("what changed does not say how long it takes")
	}
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// TestLongSideBySide is what bench/lvm runs: an increment of 1 % of 2 GiB
// against what one would use instead, in one run on one machine.
func TestLongSideBySide(t *testing.T) {
	vg := newGroup(t, 5<<30)
	command(t, "lvcreate", "-q", "-y", "-L", "4800M", "--poolmetadatasize", "32M", "-T", vg+"/pool")
	k := newDesk(t, vg, "pool", "ext4", 2300<<20)
	for i := range 64 {
		k.blocks(fmt.Sprint("file ", i), 32, 'a')
	}
	copied := t.TempDir() + "/copy"
	mkfs(t, "ext4", newVolume(t, vg, "pool", "copy", 2300<<20), copied)
	command(t, "rsync", "-a", k.dir+"/", copied)
	command(t, "sync")
	first := k.snapshot()
	for i := range 20 { // 1 %: a MiB in each of twenty files
		f, err := os.OpenFile(filepath.Join(k.dir, fmt.Sprint("file ", i*3)), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(bytes.Repeat([]byte{'c'}, 1<<20), int64(i)<<20)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	second := k.snapshot()
	sent, incrementTook := k.counting(second, &first)
	read, hashTook := k.hashAll(second)
	command(t, "sh", "-c", "echo 3 >/proc/sys/vm/drop_caches")
	begin := time.Now()
	command(t, "rsync", "-a", k.dir+"/", copied)
	rsyncTook := time.Since(begin)
	t.Logf("increment: %.1f MiB sent in %v", mib(sent), incrementTook.Round(time.Millisecond))
	t.Logf("reading and hashing the volume: %.1f MiB read in %v", mib(read), hashTook.Round(time.Millisecond))
	t.Logf("rsync of the mounted filesystem, whole files that changed: %v", rsyncTook.Round(time.Millisecond))
	if sent > 24<<20 || incrementTook > hashTook || incrementTook > rsyncTook {
		t.Errorf("an increment is not what takes the least")
	}
}

// hashAll reads a whole snapshot and makes a digest of each 64 KiB, as tools
// do that know nothing of what changed.
func (k *desk) hashAll(s fs.Snapshot) (int64, time.Duration) {
	t := k.t
	t.Helper()
	begin := time.Now()
	all, err := k.driver.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := all.snapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	f, err := k.driver.open(t.Context(), v, os.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, err := pages(lvmstream.DataMax)
	if err != nil {
		t.Fatal(err)
	}
	defer giveBack(buf) //nolint:errcheck // memory of a test
	for at := int64(0); at < v.size; at += lvmstream.DataMax {
		n := min(lvmstream.DataMax, v.size-at)
		if _, err := f.ReadAt(buf[:n], at); err != nil {
			t.Fatal(err)
		}
		for i := int64(0); i < n; i += leastUnit {
			_ = sha256.Sum256(buf[i:min(i+leastUnit, n)])
		}
	}
	return v.size, time.Since(begin)
}
