//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"snapd/internal/fs/btrfs/btrfsstream"
	"snapd/internal/fs/fstest"

	"golang.org/x/sys/unix"
)

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

func TestFormat(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	s := take(t, "a", subvolume(t, mnt+"/source"))[0]
	want, _, err := New().Format(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New().Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := btrfsstream.Check(r)
	if err != nil || info.Format() != want {
		t.Errorf("got %q, %v; want %q", info.Format(), err, want)
	}
}
