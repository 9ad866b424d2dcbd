//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// damageMark begins what damage looks for on the disk.
const damageMark = "a block that will be damaged on disk "

// damageable is a file's data that damage finds.
var damageable = strings.Repeat(damageMark, 200_000)

// damage writes into the first block of such data on the disk of a filesystem
// that newFilesystem made, and forgets what is cached.
func damage(t *testing.T, mnt string) {
	t.Helper()
	command(t, "sync")
	disk := filepath.Join(filepath.Dir(mnt), "disk")
	raw, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte(damageMark))
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
}

// An error of the disk while the kernel sends reaches the reader.
func TestSendOfDamagedData(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	dataset := subvolume(t, mnt+"/source")
	write(t, mnt+"/source/f", damageable)
	s := take(t, "a", dataset)[0]
	damage(t, mnt)
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
