package dir

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// on makes stores on a filesystem that differs from the one at hand.
func on(change func(*calls)) func(t *testing.T) ship.Store {
	return func(t *testing.T) ship.Store {
		t.Helper()
		s, err := New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		change(&s.calls)
		return s
	}
}

func noLink(err error) func(*calls) {
	return func(c *calls) { c.link = func(*os.Root, string, string) error { return err } }
}

// TestContractOnOtherFilesystems: without hard links (FAT says EPERM, some FUSE
// filesystems ENOSYS), and without a sync of folders.
func TestContractOnOtherFilesystems(t *testing.T) {
	cases := map[string]func(*calls){
		"no link: EPERM":      noLink(syscall.EPERM),
		"no link: ENOSYS":     noLink(syscall.ENOSYS),
		"no link: EOPNOTSUPP": noLink(syscall.EOPNOTSUPP),
		"no sync of folders":  func(c *calls) { c.syncFolder = func(*os.File) error { return syscall.EINVAL } },
		"no sync at all": func(c *calls) {
			c.syncFolder = func(*os.File) error { return syscall.ENOTSUP }
			c.syncAll = func(*os.File) error { return syscall.ENOSYS }
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) { shiptest.Run(t, on(change)) })
	}
}

// TestNoWayToNameOnce: where two hosts could overwrite each other's commits,
// nothing is committed, and the rest works.
func TestNoWayToNameOnce(t *testing.T) {
	s := on(func(c *calls) {
		noLink(syscall.EPERM)(c)
		c.renameNew = func(*os.Root, string, string) error { return syscall.EINVAL }
	})(t)
	err := s.Put(t.Context(), "meta/points/1", []byte("x"), true)
	if err == nil || errors.Is(err, ship.ErrExists) || !strings.Contains(advice.Of(err), "another filesystem") {
		t.Errorf("got %v (advice %q)", err, advice.Of(err))
	}
	if err := s.Put(t.Context(), "data/x/1", []byte("x"), false); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(s.(*Store).root + "/" + tmpDir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestSyncThatFails is told: what is not durable was not put.
func TestSyncThatFails(t *testing.T) {
	for name, change := range map[string]func(*calls){
		"folder": func(c *calls) { c.syncFolder = func(*os.File) error { return syscall.EIO } },
		"all": func(c *calls) {
			c.syncFolder = func(*os.File) error { return syscall.EINVAL }
			c.syncAll = func(*os.File) error { return syscall.EIO }
		},
	} {
		if err := on(change)(t).Put(t.Context(), "a/b", []byte("x"), true); !errors.Is(err, ship.ErrUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestReserve: on a full disk the record of a removal goes into the room that
// was kept for it, and nothing else does.
func TestReserve(t *testing.T) {
	s := on(func(*calls) {})(t).(*Store)
	if err := s.Put(t.Context(), "a/b", []byte("x"), true); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.root + "/" + reserveName)
	if err != nil {
		t.Fatalf("there is no reserve, or too little room here for one: %v", err)
	}
	if info.Size() != reserveBytes || info.Mode().Perm() != 0o600 {
		t.Errorf("reserve: %v", info)
	}
	n := 0
	if err := s.List(t.Context(), "", func(ship.Object) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("listed %d, %v", n, err)
	}
}
