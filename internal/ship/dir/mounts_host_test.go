//go:build host

package dir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/shiptest"
)

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// repositoryOn makes a repository in a directory and opens it.
func repositoryOn(t *testing.T, s *dir.Store, signer *ship.Signer) *ship.Repository {
	t.Helper()
	if _, err := ship.Create(t.Context(), s, ship.CreateOptions{Signer: signer, Encryption: ship.EncryptionNone, Now: time.Now(), SliceBytes: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	r, err := ship.Open(t.Context(), s, ship.OpenOptions{Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func head(guid string) ship.Head {
	return ship.Head{
		Point: point.NewID(time.Now()), Driver: "btrfs", Format: "btrfs-2", Origin: "Origin-1", GUID: guid, Host: "host-1",
	}
}

// unmounting is a stream that unmounts a disk in its middle.
type unmounting struct {
	t    *testing.T
	root string
	rest []byte
	at   int // so much is left
}

func (u *unmounting) Read(p []byte) (int, error) {
	if len(u.rest) <= u.at && u.root != "" {
		// Puts are under way; as soon as none is, the disk can be unmounted.
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			err := syscall.Unmount(u.root, 0)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
				u.t.Errorf("umount: %v", err)
				return 0, err
			}
		}
		u.root = ""
	}
	if len(u.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// TestUnmountedInMidShip: half of the segments and the point were once written
// below the mount point, and that was a success.
func TestUnmountedInMidShip(t *testing.T) {
	root := t.TempDir()
	disk := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", disk)
	run(t, "mount", "-o", "loop", disk, root)
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	signer, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	r := repositoryOn(t, s, signer)
	records, err := ship.OpenRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 40*64<<10)
	for i := range data {
		data[i] = byte(i*i>>7 + i)
	}
	_, err = r.Upload(t.Context(), head("g1"), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(&unmounting{t: t, root: root, rest: data, at: len(data) / 2}), nil
	}, records, nil)
	if !errors.Is(err, ship.ErrUnavailable) || !strings.Contains(err.Error(), root) || !strings.Contains(advice.Of(err), "mount its disk again") {
		t.Errorf("got %v (advice %q)", err, advice.Of(err))
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("below the mount point: %v, %v", entries, err)
	}
	// Mounted again, it goes on where it stopped.
	run(t, "mount", "-o", "loop", disk, root)
	stream, err := r.Upload(t.Context(), head("g1"), func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}, records, nil)
	if err != nil || stream.Reused == 0 {
		t.Errorf("got %+v, %v", stream, err)
	}
}

// TestCaseFoldingFilesystem: names that differ only in their case are one file
// there. Ours begin with ids in lower case, so that guids that differ only in
// their case do no harm.
func TestCaseFoldingFilesystem(t *testing.T) {
	root := t.TempDir()
	disk := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-O", "casefold", disk)
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", disk, root).CombinedOutput(); err != nil {
		// Not a matter of the host's set-up: its kernel was built without. The
		// plain tests do the same with a store in memory that folds.
		t.Logf("this kernel folds no case: %s", bytes.TrimSpace(out))
		return
	}
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	folded := filepath.Join(root, "folded")
	if err := os.Mkdir(folded, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "chattr", "+F", folded)
	s := open(t, folded)
	signer, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	r := repositoryOn(t, s, signer)
	for i, guid := range []string{"AbC-1", "aBc-1"} {
		data := bytes.Repeat([]byte{byte(i + 1)}, 100<<10)
		stream, err := r.Upload(t.Context(), head(guid), func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := r.Manifest(t.Context(), stream.StreamRef)
		if err != nil || m.GUID != guid {
			t.Fatalf("%s: got %+v, %v", guid, m, err)
		}
		in, err := r.Read(t.Context(), m, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		if err = errors.Join(err, in.Close()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", guid, len(got), err)
		}
	}
	if err := s.Put(t.Context(), "meta/points/0000000001", []byte("x"), true); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "META/points/0000000001", []byte("y"), true); !errors.Is(err, ship.ErrExists) {
		t.Errorf("the same name to this filesystem: got %v", err)
	}
}

// TestContractOnTmpfs: the smallest filesystem, with little room for a reserve.
func TestContractOnTmpfs(t *testing.T) {
	base := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", base)
	t.Cleanup(func() { _ = syscall.Unmount(base, syscall.MNT_DETACH) })
	n := 0
	shiptest.Run(t, func(t *testing.T) ship.Store {
		n++
		s := open(t, filepath.Join(base, fmt.Sprint("case-", n)))
		if err := s.Make(); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestFullDiskStillRemoves: a removal begins with a signed record, which needs
// room on a disk that has none.
func TestFullDiskStillRemoves(t *testing.T) {
	root := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", root)
	t.Cleanup(func() { _ = syscall.Unmount(root, syscall.MNT_DETACH) })
	s := open(t, root)
	if err := s.Put(t.Context(), "a/first", []byte("x"), true); err != nil {
		t.Fatal(err)
	}
	var err error
	for size, n := 8<<20, 0; size >= 4096; n++ {
		if err = s.Put(t.Context(), fmt.Sprint("a/", n), make([]byte, size), false); err != nil {
			size /= 2
		}
	}
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(advice.Of(err), "at once") {
		t.Fatalf("the disk is not full: %v (advice %q)", err, advice.Of(err))
	}
	if err := s.Put(t.Context(), "meta/points/0000000001", make([]byte, 8192), true); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a point: got %v, the reserve is not for it", err)
	}
	if err := s.Put(t.Context(), "meta/ledger/0000000001", make([]byte, 8192), true); err != nil {
		t.Errorf("the record of a removal: %v", err)
	}
	if err := s.Delete(t.Context(), "a/0"); err != nil {
		t.Error(err)
	}
	if err := s.Put(t.Context(), "meta/points/0000000001", make([]byte, 8192), true); err != nil {
		t.Errorf("after something was removed: %v", err)
	}
}
