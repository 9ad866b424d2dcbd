//go:build guest && long

package zfs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/fs/zfs/zfsstream"
)

const chainSteps = 10

// chain is a full stream and increments, with what each should restore to.
type chain struct {
	streams []sample
	trees   []fstest.Tree
	props   []map[string]string
}

// makeChain changes a dataset, mounted at dir, step by step. before is called
// before each stream is sent, after after it.
func makeChain(t *testing.T, dataset fs.Dataset, dir string, set func(step int), before, after func()) chain {
	t.Helper()
	d := New()
	variety(t, dir+"/first")
	var c chain
	var last *fs.Snapshot
	for step := range chainSteps + 1 {
		if step > 0 {
			sh(t, "mv", fmt.Sprint(dir, "/step ", step-1), fmt.Sprint(dir, "/was step ", step-1))
			sh(t, "rm", fmt.Sprint(dir, "/first/files/file ", step))
			sh(t, "truncate", "-s", fmt.Sprint(100_000*step), dir+"/first/big")
		}
		scatter(t, fmt.Sprint(dir, "/step ", step), 5+step)
		set(step)
		c.trees = append(c.trees, fstest.ReadTree(t, dir))
		s := take(t, fmt.Sprint("s", step), dataset)[0]
		props, err := d.Properties(t.Context(), []fs.Dataset{dataset})
		if err != nil {
			t.Fatal(err)
		}
		c.props = append(c.props, props[dataset.GUID])
		before()
		c.streams = append(c.streams, sample{fmt.Sprint("step ", step), s, last, read(t, d, s, last)})
		after()
		last = &s
	}
	return c
}

func nothing() {}

// TestChain restores each of eleven points into a pool with another name:
// content and properties are those of that point.
func TestChain(t *testing.T) {
	from, to := newPool(t, 1<<30), newPool(t, 1<<30)
	name := from + "/with space"
	sh(t, "zfs", "create", "-o", "recordsize=16K", "-o", "compression=zstd", "-o", "sharenfs=off", "-o", "atime=off", name)
	dir := mountpoint(t, name)
	c := makeChain(t, located(t, dir), dir, func(step int) {
		sh(t, "zfs", "set", fmt.Sprintf("quota=%dM", 300+step), fmt.Sprintf("my:note=step\t%d\nand more", step), name)
	}, nothing, nothing)
	for step := range c.streams {
		target := fmt.Sprintf("%s/some/parent/as at %d", to, step)
		made, notes := receiveAll(t, target, c.props[step], c.streams[:step+1]...)
		for _, want := range []struct{ property, value string }{
			{"canmount", "noauto"},
			{"mounted", "no"},
			{"recordsize", "16384"},
			{"compression", "zstd"},
			{"atime", "off"},
			{"quota", fmt.Sprint((300 + step) << 20)},
			{"my:note", fmt.Sprintf("step\t%d\nand more", step)},
		} {
			if got := sh(t, "zfs", "get", "-Hp", "-o", "value", want.property, target); got != want.value {
				t.Errorf("step %d: %s is %q, want %q", step, want.property, got, want.value)
			}
		}
		if made.Name != target || len(notes) != 1 || !strings.Contains(notes[0], "zfs mount") {
			t.Errorf("got %+v, notes %q", made, notes)
		}
		sh(t, "zfs", "mount", target)
		fstest.CompareTrees(t, c.trees[step], fstest.ReadTree(t, mountpoint(t, target)))
		if left := stages(t, to); len(left) > 0 || sh(t, "zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", to) != "" {
			t.Errorf("left over: %q", left)
		}
		sh(t, "zfs", "destroy", "-r", target)
	}
}

// TestEncrypted does the same with a dataset whose key is not loaded while its
// snapshots are sent, and restores where the key is not known.
func TestEncrypted(t *testing.T) {
	from, to := newPool(t, 1<<30), newPool(t, 1<<30)
	name, key := from+"/secret", keyFile(t)
	sh(t, "zfs", "create", "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+key, name)
	dir := mountpoint(t, name)
	c := makeChain(t, located(t, dir), dir, func(int) {}, func() {
		sh(t, "zfs", "unmount", name)
		sh(t, "zfs", "unload-key", name)
	}, func() {
		sh(t, "zfs", "load-key", name)
		sh(t, "zfs", "mount", name)
	})
	secret := []byte("step 2")
	for step, s := range c.streams {
		info, err := zfsstream.Check(strings.NewReader(string(s.data)))
		if err != nil || !info.Raw || strings.Contains(string(s.data), string(secret)) {
			t.Errorf("step %d: %+v, %v: a name of a file can be read in it, or it is not raw", step, info, err)
		}
	}
	for _, step := range []int{0, 3, chainSteps} {
		target := fmt.Sprint(to, "/as at ", step)
		_, notes := receiveAll(t, target, c.props[step], c.streams[:step+1]...)
		if !strings.Contains(strings.Join(notes, "\n"), "stays locked") {
			t.Errorf("it is not said that it stays locked: %q", notes)
		}
		if got := sh(t, "zfs", "get", "-H", "-o", "value", "keystatus,keylocation", target); got != "unavailable\nprompt" {
			t.Errorf("keystatus and keylocation are %q", got)
		}
		sh(t, "zfs", "load-key", "-L", "file://"+key, target)
		sh(t, "zfs", "mount", target)
		fstest.CompareTrees(t, c.trees[step], fstest.ReadTree(t, mountpoint(t, target)))
		sh(t, "zfs", "destroy", "-r", target)
	}
}

// TestVolume does the same with a volume that holds ext4.
func TestVolume(t *testing.T) {
	from, to := newPool(t, 1<<30), newPool(t, 1<<30)
	name := from + "/vol ume"
	sh(t, "zfs", "create", "-s", "-V", "256M", "-o", "volblocksize=16K", name)
	device := deviceOf(t, name)
	sh(t, "mkfs.ext4", "-q", device)
	dir := t.TempDir()
	sh(t, "mount", device, dir)
	defer func() { _ = exec.Command("umount", dir).Run() }()
	place, err := New().Locate(t.Context(), dir+"/lost+found")
	if err != nil || place.Dataset.Name != name || place.Path != "lost+found" {
		t.Fatalf("got %+v, %v", place, err)
	}
	found, err := New().Filesystems(t.Context(), []fs.Dataset{place.Dataset})
	if err != nil || len(found) != 1 || found[0].Dir != dir || found[0].Type != "ext4" || !found[0].Always || found[0].Refuses != "" || found[0].Dataset != place.Dataset {
		t.Errorf("got %+v, %v", found, err)
	}
	// A volume's snapshot does not freeze the filesystem on it: the caller
	// does, by what Filesystems says.
	frozen := func() { sh(t, "fsfreeze", "-f", dir) }
	var trees []fstest.Tree
	var streams []sample
	var props []map[string]string
	var last *fs.Snapshot
	for step := range 4 {
		scatter(t, fmt.Sprint(dir, "/step ", step), 10+step)
		trees = append(trees, fstest.ReadTree(t, dir))
		frozen()
		s := take(t, fmt.Sprint("v", step), place.Dataset)[0]
		sh(t, "fsfreeze", "-u", dir)
		all, err := New().Properties(t.Context(), []fs.Dataset{place.Dataset})
		if err != nil {
			t.Fatal(err)
		}
		props = append(props, all[place.Dataset.GUID])
		streams = append(streams, sample{"", s, last, read(t, New(), s, last)})
		last = &s
	}
	for step := range streams {
		target := fmt.Sprint(to, "/restored ", step)
		_, notes := receiveAll(t, target, props[step], streams[:step+1]...)
		if _, err := os.Stat(devicePath(target)); err == nil || !strings.Contains(strings.Join(notes, "\n"), "volmode") {
			t.Errorf("its device shows by itself (%v), or it is not said how to show it: %q", err, notes)
		}
		if got := sh(t, "zfs", "get", "-Hp", "-o", "value", "type,volsize,volblocksize", target); got != fmt.Sprint("volume\n", 256<<20, "\n", 16<<10) {
			t.Errorf("got %q", got)
		}
		sh(t, "zfs", "inherit", "volmode", target)
		device := deviceOf(t, target)
		sh(t, "fsck.ext4", "-fn", device)
		seen := t.TempDir()
		sh(t, "mount", "-o", "ro", device, seen)
		fstest.CompareTrees(t, trees[step], fstest.ReadTree(t, seen))
		sh(t, "umount", seen)
	}
}

// TestReplaceNested: a parent and its child are both replaced; the child was
// being built below the parent that is moved aside meanwhile.
func TestReplaceNested(t *testing.T) {
	pool := newPool(t, 512<<20)
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	if err := os.WriteFile(mountpoint(t, pool+"/a")+"/file", []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := take(t, "a", located(t, mountpoint(t, pool+"/a")))[0]
	data := read(t, d, s, nil)
	sh(t, "zfs", "create", "-p", pool+"/to/child")
	var open []fs.Receiver
	for _, target := range []string{pool + "/to", pool + "/to/child"} {
		r, err := d.Receive(t.Context(), target, fs.Placement{ReplaceSuffix: ".before"})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
		if err := r.Apply(t.Context(), strings.NewReader(string(data)), s.GUID, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range open {
		if _, err := r.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{pool + "/to", pool + "/to/child", pool + "/to.before", pool + "/to.before/child"} {
		if !there(t, name) {
			t.Errorf("%s is missing", name)
		}
	}
	if left := stages(t, pool); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// receiveAll restores a chain and hands it over.
func receiveAll(t testing.TB, target string, props map[string]string, chain ...sample) (fs.Dataset, []string) {
	t.Helper()
	r, err := New().Receive(t.Context(), target, fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := r.(*receiver).Expect(t.Context(), props); err != nil {
		t.Fatal(err)
	}
	for _, s := range chain {
		base := ""
		if s.base != nil {
			base = s.base.GUID
		}
		if err := r.Apply(t.Context(), bytes.NewReader(s.data), s.snap.GUID, base); err != nil {
			t.Fatal(err)
		}
	}
	made, err := r.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made, r.(*receiver).Notes()
}
