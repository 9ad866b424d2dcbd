//go:build host

package btrfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"

	"golang.org/x/sys/unix"
)

func TestContract(t *testing.T) { fstest.Run(t, harness(newFilesystem(t, 4<<30))) }

func harness(mnt string) fstest.Harness {
	return fstest.Harness{
		Driver: New(),
		Names: []string{
			"plain", "with space", "a@b", "ünïcödé 漢字", "new\nline", "tab\t", "back\\slash 040", "not utf-8 \xff", "#hash", "[brackets]",
			strings.Repeat("n", 255),
		},
		NewDataset: func(t testing.TB, name string) string {
			dir := filepath.Join(mnt, name)
			command(t, "btrfs", "subvolume", "create", dir)
			t.Cleanup(func() { command(t, "btrfs", "subvolume", "delete", dir) })
			return dir
		},
		NewTarget: func(_ testing.TB, name string) string { return filepath.Join(mnt, "target "+name) },
		FullTarget: func(t testing.TB) string {
			full := newFilesystem(t, 160<<20)
			fillUp(t, full, 24<<20)
			return filepath.Join(full, "target")
		},
		Show:   func(_ testing.TB, dataset fs.Dataset) string { return dataset.Name },
		Exists: exists,
		Leftovers: func(t testing.TB, target string) []string {
			top := target
			for top != mnt && !strings.HasSuffix(top, "/mnt") {
				top = filepath.Dir(top)
			}
			var left []string
			for _, pattern := range []string{"restore-*", "restore-*/*"} {
				found, err := filepath.Glob(top + "/" + fs.BtrfsDir + "/" + pattern)
				if err != nil {
					t.Fatal(err)
				}
				left = append(left, found...)
			}
			return left
		},
	}
}

func exists(t testing.TB, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// fillUp leaves at most free bytes of a filesystem, and not much less.
func fillUp(t testing.TB, dir string, free uint64) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for available(t, dir) > free {
		_, err := f.Write(make([]byte, 1<<20))
		if err == nil {
			err = f.Sync()
		}
		if errors.Is(err, unix.ENOSPC) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
