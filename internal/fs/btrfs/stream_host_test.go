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

	"snapd/internal/advice"
	"snapd/internal/fs"
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
// that newFilesystem made.
func damage(t *testing.T, mnt string) {
	t.Helper()
	command(t, "sync", "-f", mnt)
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
}

// An error of the disk while the kernel sends reaches the reader, and names the
// file: in a full stream and in an increment, where it is the first that is sent of
// a file that the base has, and between others.
func TestSendOfDamagedData(t *testing.T) {
	for _, c := range []struct {
		name string
		base bool
	}{{"full", false}, {"increment", true}} {
		t.Run(c.name, func(t *testing.T) {
			mnt := newFilesystem(t, 300<<20)
			dataset := subvolume(t, mnt+"/source")
			command(t, "mkdir", mnt+"/source/a dir", mnt+"/source/z")
			for _, name := range []string{"1", "a dir/the file", "z/3"} {
				write(t, mnt+"/source/"+name, strings.Repeat("x", 100_000))
			}
			var base *fs.Snapshot
			if c.base {
				base = &take(t, "b", dataset)[0]
			}
			for i, name := range []string{"1", "a dir/the file", "z/3"} {
				text := strings.Repeat(string(rune('a'+i)), 3<<20)
				if i == 1 {
					text = strings.Repeat("y", 1<<20) + damageable
				}
				write(t, mnt+"/source/"+name, text)
			}
			s := take(t, "a", dataset)[0]
			damage(t, mnt)
			r, err := New().Send(t.Context(), s, base)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			n, err := io.Copy(io.Discard, r)
			if !errors.Is(err, unix.EIO) || !errors.Is(err, fs.ErrUnreadable) || !strings.Contains(err.Error(), mnt+"/source/a dir/the file in snapshot "+s.Name+" cannot be read at byte 1048576") || !strings.Contains(advice.Of(err), "copy that file") {
				t.Errorf("got %d bytes and %v (%s)", n, err, advice.Of(err))
			}
		})
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
