//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

// A received subvolume that a user made writable keeps its received_uuid,
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
	if infoOf(t, mnt+"/writable").receivedUUID.IsZero() {
		// These btrfs-progs clear it; put it back as older ones leave it.
		command(t, "btrfs", "subvolume", "delete", mnt+"/writable")
		command(t, "btrfs", "receive", "-f", file, mnt)
		command(t, "mv", received, mnt+"/writable")
	}
	dataset := datasetAt(t, mnt+"/writable")
	made := take(t, "b", dataset)[0]
	info, err := btrfsstream.Check(bytes.NewReader(stream(t, made, nil)))
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
	if err != nil || !slices.ContainsFunc(removed, func(r string) bool { return strings.HasSuffix(r, filepath.Base(gone)) }) || !slices.ContainsFunc(removed, func(r string) bool { return strings.HasSuffix(r, "_cut") }) {
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
	for _, m := range mounts.Table {
		if m.Point == mnt && !m.FilesystemReadOnly {
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
