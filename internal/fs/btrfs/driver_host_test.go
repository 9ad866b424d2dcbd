//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// subvolume makes one and locates it.
func subvolume(t testing.TB, dir string) fs.Dataset {
	t.Helper()
	command(t, "btrfs", "subvolume", "create", dir)
	return datasetAt(t, dir)
}

func datasetAt(t testing.TB, path string) fs.Dataset {
	t.Helper()
	place, err := New().Locate(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return place.Dataset
}

func take(t testing.TB, id string, datasets ...fs.Dataset) []fs.Snapshot {
	t.Helper()
	p, err := New().Prepare(t.Context(), snapshotName(id), datasets)
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

func snapshotName(id string) string {
	return fs.SnapshotName(time.Date(2026, 11, 21, 10, 11, 12, 0, time.UTC), id)
}

func stream(t testing.TB, s fs.Snapshot, base *fs.Snapshot) []byte {
	t.Helper()
	r, err := New().Send(t.Context(), s, base)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// restore receives full streams, each with its GUID, to a target.
func restore(t testing.TB, target string, data []byte, guid string) fs.Dataset {
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
	if err := r.Apply(t.Context(), bytes.NewReader(data), guid, ""); err != nil {
		t.Fatal(err)
	}
	made, err := r.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func infoOf(t testing.TB, dir string) subvolInfoArgs {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := subvolInfo(f)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestNestedSubvolumes(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	for _, dir := range []string{"a", "a/b c", "a/plain"} {
		if dir == "a/plain" {
			command(t, "mkdir", mnt+"/"+dir)
			continue
		}
		subvolume(t, mnt+"/"+dir)
	}
	subvolume(t, mnt+"/a/b c/d\n")
	subvolume(t, mnt+"/a/plain/e")
	subvolume(t, mnt+"/ab")
	top := datasetAt(t, mnt)
	take(t, "n", datasetAt(t, mnt+"/a"), top) // ours must not be listed
	for path, want := range map[string][]string{
		"":           {"/a", "/a/b c", "/a/b c/d\n", "/a/plain/e", "/ab"},
		"/a":         {"/a/b c", "/a/b c/d\n", "/a/plain/e"},
		"/a/plain":   {"/a/plain/e"},
		"/a/b c/d\n": nil,
	} {
		place, err := New().Locate(t.Context(), mnt+path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i] = mnt + want[i]
		}
		if !slices.Equal(place.Nested, want) {
			t.Errorf("%q: got %q, want %q", path, place.Nested, want)
		}
	}
}

// One subvolume has one name and identity, whichever mount the path is on.
func TestLocateThroughOtherMounts(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/@data")
	command(t, "mkdir", "-p", mnt+"/@data/in/side")
	write(t, mnt+"/@data/file", "x")
	node := command(t, "findmnt", "-no", "SOURCE", mnt)
	dir := t.TempDir()
	for _, sub := range []string{"sub vol\n", "bind", "file"} {
		command(t, "mkdir", dir+"/"+sub)
	}
	mount(t, node, dir+"/sub vol\n", "-o", "subvol=@data")
	bind(t, mnt+"/@data/in", dir+"/bind")
	write(t, dir+"/file/f", "")
	bind(t, mnt+"/@data/file", dir+"/file/f")
	data := datasetAt(t, mnt+"/@data")
	if data.Name != dir+"/sub vol\n" {
		t.Errorf("the name is %q, and not the shortest path", data.Name)
	}
	for path, want := range map[string]string{
		mnt + "/@data":          ".",
		dir + "/sub vol\n":      ".",
		dir + "/sub vol\n/in":   "in",
		dir + "/bind":           "in",
		dir + "/bind/side":      "in/side",
		dir + "/file/f":         "file",
		dir + "/sub vol\n/file": "file",
		mnt + "/@data/in/side":  "in/side",
	} {
		place, err := New().Locate(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if place.Path != want || place.Dataset != data {
			t.Errorf("%q: got %+v, want %q in %+v", path, place, want, data)
		}
	}
}

// Where only a part of a subvolume is mounted, snapshots work all the same.
func TestOnlyAPartIsMounted(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/@")
	command(t, "mkdir", mnt+"/@/volume")
	write(t, mnt+"/@/volume/f", "content")
	node := command(t, "findmnt", "-no", "SOURCE", mnt)
	part := t.TempDir()
	bind(t, mnt+"/@/volume", part)
	command(t, "umount", mnt)
	t.Cleanup(func() { command(t, "mount", node, mnt) }) // as newFilesystem expects
	place, err := New().Locate(t.Context(), part+"/f")
	if err != nil {
		t.Fatal(err)
	}
	if place.Path != "volume/f" || place.Dataset.Name != node+"[/@]" {
		t.Errorf("got %+v", place)
	}
	s := take(t, "p", place.Dataset)[0]
	made := restore(t, part+"/restored", stream(t, s, nil), s.GUID)
	if got, err := os.ReadFile(made.Name + "/volume/f"); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
}

// A snapshot of the filesystem's top contains our directory, empty; a restore
// of it does not.
func TestTopLevel(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	top := datasetAt(t, mnt)
	if top.Name != mnt {
		t.Errorf("got name %q, want %q", top.Name, mnt)
	}
	write(t, mnt+"/f", "content")
	take(t, "a", top)
	past := unix.NsecToTimespec(1_000_000_000_000_000_001)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, mnt, []unix.Timespec{past, past}, 0); err != nil {
		t.Fatal(err)
	}
	s := take(t, "b", top)[0]
	made := restore(t, mnt+"/restored", stream(t, s, nil), s.GUID)
	got := fstest.ReadTree(t, made.Name)
	if len(got) != 2 || got["."].MTime != unix.TimespecToNsec(past) {
		t.Errorf("got %+v", got)
	}
}

// A received subvolume that somebody made writable keeps its received_uuid,
// and so would read-only snapshots of it: then streams would name the wrong
// snapshot (btrbk issue 152).
func TestStaleReceivedUUID(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	first := subvolume(t, mnt+"/source")
	s := take(t, "a", first)[0]
	file := t.TempDir() + "/stream"
	write(t, file, string(stream(t, s, nil)))
	command(t, "btrfs", "receive", "-f", file, mnt)
	received := mnt + "/" + s.Name
	command(t, "btrfs", "property", "set", "-f", received, "ro", "false")
	command(t, "mv", received, mnt+"/writable")
	if infoOf(t, mnt+"/writable").receivedUUID.isZero() {
		// These btrfs-progs clear it; put it back as older ones leave it.
		command(t, "btrfs", "subvolume", "delete", mnt+"/writable")
		command(t, "btrfs", "receive", "-f", file, mnt)
		command(t, "mv", received, mnt+"/writable")
	}
	dataset := datasetAt(t, mnt+"/writable")
	made := take(t, "b", dataset)[0]
	info, err := CheckStream(bytes.NewReader(stream(t, made, nil)))
	if err != nil || info.GUID != made.GUID {
		t.Errorf("the stream makes %s, %v; want %s", info.GUID, err, made.GUID)
	}
	if got, err := New().Snapshots(t.Context(), dataset); err != nil || len(got) != 1 || got[0] != made {
		t.Errorf("got %v, %v; want %v", got, err, made)
	}
	// Between Take and Result it is not complete, and Close removes it.
	p, err := New().Prepare(t.Context(), snapshotName("c"), []fs.Dataset{dataset})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Take(); err != nil {
		t.Fatal(err)
	}
	if got, err := New().Snapshots(t.Context(), dataset); err != nil || len(got) != 1 {
		t.Errorf("an incomplete snapshot is listed: %v, %v", got, err)
	}
	if removed, err := New().Sweep(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("what a living process makes was swept: %q, %v", removed, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(mnt + "/.snapd-agent/*/" + snapshotName("c")); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// Two restores of the same snapshot on one filesystem, next to its source and
// an ordinary copy of it, do not take each other's subvolumes for their base.
func TestSameSnapshotReceivedTwice(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	write(t, mnt+"/source/a", strings.Repeat("a", 100_000))
	first := take(t, "a", dataset)[0]
	command(t, "cp", "--reflink=always", mnt+"/source/a", mnt+"/source/b")
	second := take(t, "b", dataset)[0]
	full, step := stream(t, first, nil), stream(t, second, &first)
	file := t.TempDir() + "/stream"
	write(t, file, string(full))
	command(t, "btrfs", "receive", "-f", file, mnt)

	var receiving sync.WaitGroup
	for i := range 3 {
		receiving.Go(func() {
			target := mnt + "/target" + strconv.Itoa(i)
			r, err := New().Receive(t.Context(), target, fs.Placement{})
			if err != nil {
				t.Error(err)
				return
			}
			err = r.Apply(t.Context(), bytes.NewReader(full), first.GUID, "")
			if err == nil {
				err = r.Apply(t.Context(), bytes.NewReader(step), second.GUID, first.GUID)
			}
			if err == nil {
				_, err = r.Finish(t.Context())
			}
			if err := errors.Join(err, r.Close()); err != nil {
				t.Error(err)
				return
			}
			if info := infoOf(t, target); !info.receivedUUID.isZero() || info.flags&rootReadOnly != 0 {
				t.Errorf("the target is read-only or carries received_uuid %s", info.receivedUUID)
			}
			fstest.Compare(t, mnt+"/source", target)
		})
	}
	receiving.Wait()
}

func TestReceiveRefuses(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/mounted")
	node := command(t, "findmnt", "-no", "SOURCE", mnt)
	mount(t, node, mnt+"/mounted", "-o", "subvol=mounted")
	write(t, mnt+"/file", "")
	for _, c := range []struct {
		target, suffix, says string
		want                 error
	}{
		{"relative/path", "", "absolute", nil},
		{"/", "", "root", fs.ErrExists},
		{mnt, "", "", fs.ErrNotMine}, // its parent lies elsewhere
		{mnt + "/no/such", "", "mkdir -p " + mnt + "/no", fs.ErrNotFound},
		{mnt + "/file/x", "", "not a directory", nil},
		{mnt + "/file", "", "--beside", fs.ErrExists},
		{mnt + "/mounted", "", "", fs.ErrExists},
		{mnt + "/mounted", ".old", "umount", fs.ErrBusy},
		{"/proc/x", "", "not on Btrfs", fs.ErrNotMine},
		{mnt + "/" + strings.Repeat("n", 250), ".suffix", "255", nil},
	} {
		r, err := New().Receive(t.Context(), c.target, fs.Placement{ReplaceSuffix: c.suffix})
		if err == nil {
			t.Errorf("%s is taken (%v)", c.target, r.Close())
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %q, want %v and %q", c.target, err, c.want, c.says)
		}
	}
	if _, err := os.Stat(mnt + "/" + fs.BtrfsDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a restore that was refused left %s (%v)", fs.BtrfsDir, err)
	}
}

// When the step after moving the old one aside fails, it is moved back.
func TestReplaceMovesBack(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	s := take(t, "a", subvolume(t, mnt+"/source"))[0]
	subvolume(t, mnt+"/target")
	write(t, mnt+"/target/old", "old")
	r, err := New().Receive(t.Context(), mnt+"/target", fs.Placement{ReplaceSuffix: ".old"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Apply(t.Context(), bytes.NewReader(stream(t, s, nil)), s.GUID, ""); err != nil {
		t.Fatal(err)
	}
	// What was received disappears, so that making the target of it fails.
	staged, err := filepath.Glob(mnt + "/.snapd-agent/restore-*/stream-1")
	if err != nil || len(staged) != 1 {
		t.Fatal(staged, err)
	}
	command(t, "btrfs", "subvolume", "delete", staged[0])
	if _, err := r.Finish(t.Context()); err == nil {
		t.Fatal("finished without what was received")
	}
	if got, err := os.ReadFile(mnt + "/target/old"); err != nil || string(got) != "old" {
		t.Errorf("the old one is not back: %q, %v", got, err)
	}
}

func TestSweep(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	s := take(t, "a", dataset)[0]
	data := stream(t, s, nil)
	abandon := func() string { // what a killed process leaves: the lock goes with it
		r := &receiver{target: mnt + "/target"}
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(t.Context(), bytes.NewReader(data), s.GUID, ""); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(r.staging.Close(), r.ours.Close(), r.parent.Close()); err != nil {
			t.Fatal(err)
		}
		return r.staging.Name()
	}
	folder := mnt + "/.snapd-agent/" + strings.Split(dataset.Domain, "/")[1]
	cut := folder + "/" + snapshotName("cut")
	command(t, "btrfs", "subvolume", "snapshot", mnt+"/source", cut)
	command(t, "btrfs", "subvolume", "snapshot", mnt+"/source", folder+"/not_ours")
	abandon()
	live, err := New().Receive(t.Context(), mnt+"/live", fs.Placement{}) // sweeps on its way
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if left, _ := filepath.Glob(mnt + "/.snapd-agent/restore-*"); len(left) != 1 {
		t.Errorf("got %q, want only the living restore", left)
	}
	gone := abandon()
	removed, err := New().Sweep(t.Context())
	if err != nil || !slices.Contains(removed, gone) || !slices.ContainsFunc(removed, func(r string) bool { return strings.HasSuffix(r, "_cut") }) {
		t.Errorf("swept %q, %v", removed, err)
	}
	if left, _ := filepath.Glob(mnt + "/.snapd-agent/restore-*"); len(left) != 1 {
		t.Errorf("got %q, want only the living restore", left)
	}
	if err := live.Apply(t.Context(), bytes.NewReader(data), s.GUID, ""); err != nil {
		t.Errorf("the living restore was disturbed: %v", err)
	}
	if got, err := New().Snapshots(t.Context(), dataset); err != nil || len(got) != 1 || got[0] != s || !exists(t, folder+"/not_ours") {
		t.Errorf("left: %v, %v", got, err)
	}
}

func TestDeleteRemovesQgroup(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	command(t, "mount", "-o", "remount,commit=1", mnt) // seconds until deleted subvolumes are cleaned
	command(t, "btrfs", "quota", "enable", mnt)
	dataset := subvolume(t, mnt+"/source")
	s := take(t, "a", dataset)[0]
	path, err := filepath.Glob(mnt + "/.snapd-agent/*/" + s.Name)
	if err != nil || len(path) != 1 {
		t.Fatal(path, err)
	}
	id := "0/" + strconv.FormatUint(infoOf(t, path[0]).treeID, 10)
	if !strings.Contains(command(t, "btrfs", "qgroup", "show", mnt), id) {
		t.Fatalf("there is no qgroup %s to remove", id)
	}
	if err := New().Delete(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	command(t, "btrfs", "subvolume", "sync", mnt)
	if out := command(t, "btrfs", "qgroup", "show", mnt); strings.Contains(out, id) {
		t.Errorf("qgroup %s is still there:\n%s", id, out)
	}
}

func TestDeleteWhileSent(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	write(t, mnt+"/source/f", strings.Repeat("0123456789", 1<<20))
	s := take(t, "a", dataset)[0]
	r, err := New().Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := New().Delete(t.Context(), s); !errors.Is(err, fs.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := New().Delete(t.Context(), s); err != nil {
		t.Error(err)
	}
}

// A stream is made again to continue an upload: it must be the same.
func TestSendAgainIsTheSame(t *testing.T) {
	mnt := newFilesystem(t, 1<<30)
	dataset := subvolume(t, mnt+"/source")
	fstest.WriteNastyTree(t, mnt+"/source")
	first := take(t, "a", dataset)[0]
	fstest.ChangeNastyTree(t, mnt+"/source", 1)
	second := take(t, "b", dataset)[0]
	full, step := stream(t, first, nil), stream(t, second, &first)
	fstest.ChangeNastyTree(t, mnt+"/source", 2)
	take(t, "c", dataset)
	command(t, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
	if !bytes.Equal(full, stream(t, first, nil)) || !bytes.Equal(step, stream(t, second, &first)) {
		t.Error("two sends of the same snapshot differ")
	}
}

// An error of the disk while the kernel sends reaches the reader.
func TestSendOfDamagedData(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	mark := []byte("a block that will be damaged on disk ")
	write(t, mnt+"/source/f", string(bytes.Repeat(mark, 200_000)))
	s := take(t, "a", dataset)[0]
	command(t, "sync")
	disk := filepath.Join(filepath.Dir(mnt), "disk")
	raw, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, mark)
	if at < 0 {
		t.Fatal("the data is not on disk")
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("XXXX"), int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	command(t, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
	r, err := New().Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, unix.EIO) {
		t.Errorf("got %d bytes and %v, want EIO", n, err)
	}
}

// The mount with which btrfs receive works is seen by nobody else, and a
// filesystem can be unmounted right after each call.
func TestNothingIsMounted(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	s := take(t, "a", dataset)[0]
	data := stream(t, s, nil)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New().Receive(t.Context(), mnt+"/target", fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	look := readerFunc(func([]byte) (int, error) { // while btrfs receive runs
		looked++
		for _, table := range []string{"/proc/self/mountinfo", "/proc/1/mountinfo"} {
			if now, err := os.ReadFile(table); err != nil || table == "/proc/self/mountinfo" && !bytes.Equal(now, before) {
				t.Errorf("the mounts changed, %v:\n%s", err, now)
			}
		}
		return 0, io.EOF
	})
	if err := r.Apply(t.Context(), io.MultiReader(bytes.NewReader(data), look), s.GUID, ""); err != nil || looked == 0 {
		t.Errorf("got %v, looked %d times", err, looked)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	command(t, "umount", mnt)
	defer command(t, "mount", "-o", "loop", filepath.Join(filepath.Dir(mnt), "disk"), mnt) // as newFilesystem expects
	for deadline := time.Now().Add(10 * time.Second); ; {
		// An exclusive open fails as long as anything holds the filesystem.
		node := command(t, "losetup", "-nO", "NAME", "-j", filepath.Join(filepath.Dir(mnt), "disk"))
		fd, err := unix.Open(node, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the filesystem is still mounted somewhere: %v", err)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Looking at a read-only filesystem must not make it writable.
func TestReadOnlyFilesystem(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	s := take(t, "a", dataset)[0]
	command(t, "mount", "-o", "remount,ro", mnt)
	if got, err := New().Snapshots(t.Context(), dataset); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v", got, err)
	}
	stream(t, s, nil)
	if _, err := New().Prepare(t.Context(), snapshotName("b"), []fs.Dataset{dataset}); !errors.Is(err, unix.EROFS) {
		t.Errorf("prepare: got %v, want EROFS", err)
	}
	if _, err := New().Receive(t.Context(), mnt+"/target", fs.Placement{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("receive: got %v, want EROFS", err)
	}
	mounts, err := hostMounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.point == mnt && !m.readOnly {
			t.Error("the filesystem was made writable")
		}
	}
}

// Folders come and go while others take and delete.
func TestConcurrentSnapshots(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	t.Run("workers", func(t *testing.T) {
		for i := range 4 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for round := range 15 {
					s := take(t, fmt.Sprintf("c%dx%d", i, round), dataset)[0]
					if got, err := New().Snapshots(t.Context(), dataset); err != nil || !slices.Contains(got, s) {
						t.Errorf("got %v, %v; want %v in it", got, err, s)
					}
					if err := New().Delete(t.Context(), s); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
	if left, _ := filepath.Glob(mnt + "/.snapd-agent/*"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestPrepareOnAFullFilesystem(t *testing.T) {
	mnt := newFilesystem(t, 160<<20)
	dataset := subvolume(t, mnt+"/source")
	fillUp(t, mnt, roomNeeded-1)
	if p, err := New().Prepare(t.Context(), snapshotName("a"), []fs.Dataset{dataset}); !errors.Is(err, fs.ErrNoSpace) {
		t.Errorf("got %v, %v; want ErrNoSpace", p, err)
	}
}

func TestFormat(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	s := take(t, "a", subvolume(t, mnt+"/source"))[0]
	want, err := New().Format(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := New().Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := CheckStream(r)
	if err != nil || info.Format() != want || r.(interface{ Format() string }).Format() != want {
		t.Errorf("got %q, %v; want %q", info.Format(), err, want)
	}
}
