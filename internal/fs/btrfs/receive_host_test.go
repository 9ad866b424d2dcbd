//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/fstest"

	"golang.org/x/sys/unix"
)

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
			if info := infoOf(t, target); !info.receivedUUID.IsZero() || info.flags&rootReadOnly != 0 {
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
		{mnt + "/file", "", "already exists", fs.ErrExists},
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
		if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error()+"; "+advice.Of(err), c.says) {
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

// The mount with which btrfs receive works is seen by no other process, and a
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
		// An exclusive open fails as long as a process uses the filesystem.
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
