//go:build guest

package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"

	"golang.org/x/sys/unix"
)

func newDriver(t testing.TB) *Driver { return New(t.TempDir()) }

// desk is one volume with a filesystem, for tests that change it step by step.
type desk struct {
	t       testing.TB
	driver  *Driver
	vg      string
	pool    string
	kind    string
	node    string
	dir     string
	dataset fs.Dataset
	fill    *rand.ChaCha8
	taken   int
}

// newDesk makes a volume called data.
func newDesk(t testing.TB, vg, pool, kind string, size int64) *desk {
	t.Helper()
	k := &desk{t: t, driver: newDriver(t), vg: vg, pool: pool, kind: kind, dir: t.TempDir() + "/data", fill: rand.NewChaCha8([32]byte{9})}
	k.node = newVolume(t, vg, pool, "da-ta", size)
	t.Cleanup(func() { removeSnapshots(t, vg) })
	mkfs(t, kind, k.node, k.dir)
	place, err := k.driver.Locate(t.Context(), k.dir)
	if err != nil {
		t.Fatal(err)
	}
	k.dataset = place.Dataset
	return k
}

func (k *desk) write(name string, size int) {
	k.t.Helper()
	data := make([]byte, size)
	_, _ = k.fill.Read(data)
	if err := os.WriteFile(filepath.Join(k.dir, name), data, 0o600); err != nil {
		k.t.Fatal(err)
	}
}

func (k *desk) remove(name string) {
	k.t.Helper()
	if err := os.Remove(filepath.Join(k.dir, name)); err != nil {
		k.t.Fatal(err)
	}
}

// trim discards what is free. ext4 gives back what was removed only once its
// journal is written.
func (k *desk) trim() {
	k.t.Helper()
	command(k.t, "sync", "-f", k.dir)
	command(k.t, "fstrim", k.dir)
}

func (k *desk) grow(size int64) {
	k.t.Helper()
	command(k.t, "lvextend", "-q", "-L", fmt.Sprint(size, "b"), k.vg+"/da-ta")
	if k.kind == "xfs" {
		command(k.t, "xfs_growfs", k.dir)
	} else {
		command(k.t, "resize2fs", k.node)
	}
}

func (k *desk) snapshot() fs.Snapshot {
	k.t.Helper()
	k.taken++
	return take(k.t, k.driver, "s"+strconv.Itoa(k.taken), k.dataset)[0]
}

func take(t testing.TB, d *Driver, id string, datasets ...fs.Dataset) []fs.Snapshot {
	t.Helper()
	p, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), id), datasets)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Take(); err != nil {
		t.Fatal(err)
	}
	made, err := p.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// stream sends into a file, which may be large.
func (k *desk) stream(s fs.Snapshot, base *fs.Snapshot) (file string) {
	k.t.Helper()
	f, err := os.CreateTemp("/var/tmp", "stream-")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { os.Remove(f.Name()) })
	r, err := k.driver.Send(k.t.Context(), s, base)
	if err != nil {
		k.t.Fatal(err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, r.Close(), f.Close()); err != nil {
		k.t.Fatal(err)
	}
	return f.Name()
}

func (k *desk) place(name string) string {
	if k.pool == "" {
		return k.vg + "/" + name
	}
	return k.vg + "/" + k.pool + "/" + name
}

func applyFile(t testing.TB, r fs.Receiver, file, guid, base string) error {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return r.Apply(t.Context(), f, guid, base)
}

// same compares two volumes block by block; the second may be longer by zeros.
func (k *desk) same(what string, s fs.Snapshot, other string) {
	k.t.Helper()
	all, err := k.driver.list(k.t.Context())
	if err != nil {
		k.t.Fatal(err)
	}
	v, err := all.snapshot(s)
	if err != nil {
		k.t.Fatal(err)
	}
	a, err := k.driver.open(k.t.Context(), v, os.O_RDONLY)
	if err != nil {
		k.t.Fatal(err)
	}
	defer a.Close()
	vg, name, _ := strings.Cut(other, "/")
	w, ok := all.named(vg, name)
	if !ok {
		k.t.Fatalf("%s is not there", other)
	}
	b, err := k.driver.open(k.t.Context(), w, os.O_RDONLY)
	if err != nil {
		k.t.Fatal(err)
	}
	defer b.Close()
	compareDevices(k.t, what, a, b, v.size)
}

func compareDevices(t testing.TB, what string, a, b io.ReaderAt, size int64) {
	t.Helper()
	one, err1 := pages(lvmstream.DataMax)
	two, err2 := pages(lvmstream.DataMax)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer giveBack(one) //nolint:errcheck // memory of a test
	defer giveBack(two) //nolint:errcheck // memory of a test
	wrong := 0
	for at := int64(0); at < size; at += lvmstream.DataMax {
		n := min(lvmstream.DataMax, size-at)
		_, err1 := a.ReadAt(one[:n], at)
		_, err2 := b.ReadAt(two[:n], at)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("%s: at %d: %v", what, at, err)
		}
		if bytes.Equal(one[:n], two[:n]) {
			continue
		}
		for i := int64(0); i < n; i += 4096 {
			if !bytes.Equal(one[i:i+4096], two[i:i+4096]) {
				if wrong++; wrong < 4 {
					t.Errorf("%s: differs at byte %d: %x… and %x…", what, at+i, one[i:i+16], two[i:i+16])
				}
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%s: %d blocks of 4 KiB differ", what, wrong)
	}
}

// steps makes n increments with writes, discards and growth, and compares
// every point block by block as its stream is applied; some are restored by
// themselves as well, from nothing.
func (k *desk) steps(n int, size int64, alone ...int) {
	t := k.t
	t.Helper()
	k.write("stays", 3<<20)
	k.write("goes 0", 2<<20)
	var made []fs.Snapshot
	var files []string
	guid := func(i int) string {
		if i < 0 {
			return ""
		}
		return made[i].GUID
	}
	for i := range n + 1 {
		if i > 0 {
			k.change(i, &size)
		}
		made = append(made, k.snapshot())
		var base *fs.Snapshot
		if i > 0 {
			base = &made[i-1]
		}
		files = append(files, k.stream(made[i], base))
	}
	r, err := k.driver.Receive(t.Context(), k.place("restored"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range made {
		if err := applyFile(t, r, files[i], guid(i), guid(i-1)); err != nil {
			t.Fatal(err)
		}
		k.same(fmt.Sprint("after stream ", i), made[i], r.(*receiver).built.volume.full())
		if slices.Contains(alone, i) {
			k.alone(i, made, files)
		}
	}
	dataset, err := r.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer removeVolume(t, k.vg, "restored")
	k.same("finished", made[n], dataset.Name)
	if info := command(t, "lvs", "--noheadings", "-o", "lv_active,lv_skip_activation,lv_tags", dataset.Name); strings.TrimSpace(info) != "skip activation" {
		t.Errorf("a restored volume is %q, want it not active, with activation skipped and without tags", info)
	}
}

func (k *desk) change(i int, size *int64) {
	k.write(fmt.Sprint("new ", i), 1<<20+i*4096)
	k.write("stays", 100_000*i)
	if i%2 == 1 {
		k.remove(fmt.Sprint("goes ", i-1))
		k.write(fmt.Sprint("goes ", i+1), 3<<20)
		if k.pool != "" {
			k.trim()
		}
	}
	if i%3 == 2 && k.pool != "" { // LVM resizes no active volume that has classic snapshots; see TestShrunk
		*size += 68 << 20
		k.grow(*size)
	}
}

// alone restores one point by its chain, from nothing.
func (k *desk) alone(i int, made []fs.Snapshot, files []string) {
	t := k.t
	t.Helper()
	r, err := k.driver.Receive(t.Context(), k.place("alone"), fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	base := ""
	for j := range i + 1 {
		if err := applyFile(t, r, files[j], made[j].GUID, base); err != nil {
			t.Fatal(err)
		}
		base = made[j].GUID
	}
	if _, err := r.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.same(fmt.Sprint("point ", i, " alone"), made[i], k.vg+"/alone")
	removeVolume(t, k.vg, "alone")
	t.Logf("point %d is restored by itself", i)
}

// TestStepsOnThin is the short one; there are ten with the tag long.
func TestStepsOnThin(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "pool", 600<<20)
	newDesk(t, vg, "pool", "ext4", 64<<20).steps(3, 64<<20)
}

func realNode(t testing.TB, link string) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(link)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestThreeVolumes freezes three filesystems under a writer that stamps all
// three: whatever the instant, no file is ahead of what was written before it.
func TestThreeVolumes(t *testing.T) {
	vg := newGroup(t, 3<<30)
	newPool(t, vg, "pool", 2<<30)
	d := newDriver(t)
	var dirs []string
	var datasets []fs.Dataset
	for i, kind := range []string{"ext4", "xfs", "ext4"} {
		name := "vol" + strconv.Itoa(i)
		node := newVolume(t, vg, "pool", name, 304<<20)
		dir := t.TempDir() + "/" + name
		mkfs(t, kind, node, dir)
		place, err := d.Locate(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		dirs, datasets = append(dirs, dir), append(datasets, place.Dataset)
	}
	t.Cleanup(func() { removeSnapshots(t, vg) })
	found, err := d.Filesystems(t.Context(), datasets)
	if err != nil || len(found) != 3 {
		t.Fatalf("got %+v, %v", found, err)
	}
	var frozen []*os.File
	for i, f := range found {
		if f.Refuses != "" || f.Dir != dirs[i] || f.Dataset != datasets[i] || f.Always {
			t.Errorf("got %+v", f)
		}
		dir, err := os.Open(f.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		frozen = append(frozen, dir)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- stamp(dirs, stop) }()
	const points = 3
	var made [][]fs.Snapshot
	for i := range points {
		p, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), "p"+strconv.Itoa(i)), datasets)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for _, f := range frozen {
			if err := unix.IoctlSetInt(int(f.Fd()), fiFreeze, 0); err != nil {
				t.Fatal(err)
			}
		}
		took := p.Take()
		for _, f := range frozen {
			if err := unix.IoctlSetInt(int(f.Fd()), fiThaw, 0); err != nil {
				t.Error(err)
			}
		}
		t.Logf("frozen for %v", time.Since(begin).Round(time.Millisecond))
		got, err := p.Result(t.Context())
		if err := errors.Join(took, err, p.Close()); err != nil {
			t.Fatal(err)
		}
		made = append(made, got)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for i, point := range made {
		var stamps []int
		for j, s := range point {
			kind := found[j].Type
			full := vg + "/" + fs.LVMSnapshotName(s.Name, s.Dataset.GUID)
			stamps = append(stamps, readStamp(t, full, kind, fmt.Sprintf("%s/seen-%d-%d", t.TempDir(), i, j)))
		}
		t.Logf("point %d: stamps %v", i, stamps)
		if a, b, c := stamps[0], stamps[1], stamps[2]; a < b || b < c || a > c+1 || c == 0 {
			t.Errorf("point %d: the volumes are of different instants: stamps %v", i, stamps)
		}
	}
}

// stamp writes one number after the other to all directories in order, each on
// the disk before the next.
func stamp(dirs []string, stop chan struct{}) error {
	for n := 1; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		for _, dir := range dirs {
			f, err := os.OpenFile(dir+"/stamp", os.O_WRONLY|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(fmt.Appendf(nil, "%012d", n), 0)
			if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
				return err
			}
		}
	}
}

// readStamp looks into a snapshot through a writable copy, which can replay
// its journal.
func readStamp(t testing.TB, snapshot, kind, dir string) int {
	t.Helper()
	vg, _, _ := strings.Cut(snapshot, "/")
	command(t, "lvcreate", "-q", "-y", "-s", "-k", "n", "-n", "look", snapshot)
	defer removeVolume(t, vg, "look")
	options := []string{}
	if kind == "xfs" {
		options = []string{"-o", "nouuid"}
	}
	mountAt(t, "/dev/"+vg+"/look", dir, options...)
	defer unmount(t, dir)
	text, err := os.ReadFile(dir + "/stamp")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
