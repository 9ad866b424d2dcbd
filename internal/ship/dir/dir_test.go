package dir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/shiptest"
)

func open(t *testing.T, root string) *dir.Store {
	t.Helper()
	s, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	shiptest.Run(t, func(t *testing.T) ship.Store { return open(t, t.TempDir()) })
}

func TestContractInNastyFolder(t *testing.T) {
	shiptest.Run(t, func(t *testing.T) ship.Store {
		s := open(t, filepath.Join(t.TempDir(), "a folder@with ä\nname"))
		if err := s.Make(); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestMissingDirectoryIsNeverMade(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not mounted")
	s := open(t, root)
	if err := s.Put(t.Context(), "k", []byte("x"), true); !errors.Is(err, ship.ErrNoBucket) {
		t.Errorf("put: got %v, want ErrNoBucket", err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "k", []byte("x"), true); err != nil {
		t.Error(err)
	}
}

func TestLeftoversAreNotListedAndGoAway(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if err := s.Put(t.Context(), "k", []byte("x"), true); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(root, ".tmp", "put-old")
	young := filepath.Join(root, ".tmp", "put-young")
	for _, f := range []string{old, young} {
		if err := os.WriteFile(f, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(old, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	err := s.List(t.Context(), "", func(o ship.Object) error {
		if o.Key != "k" {
			t.Errorf("listed: %s", o.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Error("the old leftover is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("a file that another process may be writing was removed")
	}
}

// TestSymbolicLinkIsNotFollowed: a user that can write into the directory must not
// make a reader open what lies outside of it.
func TestSymbolicLinkIsNotFollowed(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "k")); err != nil {
		t.Fatal(err)
	}
	if r, err := open(t, root).Get(t.Context(), "k"); err == nil {
		_ = r.Close()
		t.Error("it was followed")
	}
}

// TestTwoProcesses: one removes the folders it empties while the other puts
// into them. A Store each, as two processes have.
func TestTwoProcesses(t *testing.T) {
	root := t.TempDir()
	var wg sync.WaitGroup
	for w := range 4 {
		s := open(t, root)
		wg.Go(func() {
			for i := range 200 {
				key := fmt.Sprintf("a/b/%d-%d", w, i)
				if err := s.Put(t.Context(), key, nil, true); err != nil {
					t.Errorf("put: %v", err)
				}
				if i%10 == 0 {
					continue
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("delete: %v", err)
				}
			}
			_ = s.Delete(t.Context(), fmt.Sprintf("a/b/%d-0", w))
		})
	}
	wg.Wait()
	n := 0
	if err := open(t, root).List(t.Context(), "a/", func(ship.Object) error { n++; return nil }); err != nil || n != 4*19 {
		t.Errorf("%d objects left, want %d, %v", n, 4*19, err)
	}
}

// TestModesStay: what others may read stays readable for them, and what is new
// is for its owner only.
func TestModesStay(t *testing.T) {
	root := t.TempDir()
	if err := errors.Join(os.Chmod(root, 0o755), os.Mkdir(filepath.Join(root, "data"), 0o750), os.Chmod(filepath.Join(root, "data"), 0o750)); err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	for _, key := range []string{"data/x/1", "meta/points/1"} {
		if err := s.Put(t.Context(), key, []byte("x"), true); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]os.FileMode{
		"": 0o755, "data": 0o750, "data/x": 0o700, "data/x/1": 0o600, "meta": 0o700, "meta/points/1": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
}

// TestAnotherFolderAtThePath: what lies at the path now is not what was used
// before. Nothing is written there, and nothing is said to be missing.
func TestAnotherFolderAtThePath(t *testing.T) {
	parent := t.TempDir()
	root, aside := filepath.Join(parent, "disk"), filepath.Join(parent, "aside")
	s := open(t, root)
	if err := s.Make(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "repository", []byte("the repository"), true); err != nil {
		t.Fatal(err)
	}
	away := func(what string) {
		t.Helper()
		_, gerr := s.Get(t.Context(), "repository")
		_, serr := s.Stat(t.Context(), "repository")
		_, _, rerr := s.Space(t.Context())
		for op, err := range map[string]error{
			"put":    s.Put(t.Context(), "data/x/1", []byte("x"), false),
			"commit": s.Put(t.Context(), "meta/points/1", []byte("x"), true),
			"get":    gerr, "stat": serr, "space": rerr,
			"list":   s.List(t.Context(), "", func(ship.Object) error { return nil }),
			"delete": s.Delete(t.Context(), "repository"),
		} {
			if !errors.Is(err, ship.ErrUnavailable) || errors.Is(err, ship.ErrNotFound) || !strings.Contains(advice.Of(err), "mount") {
				t.Errorf("%s: %s: got %v (advice %q)", what, op, err, advice.Of(err))
			}
		}
	}
	if err := os.Rename(root, aside); err != nil {
		t.Fatal(err)
	}
	away("nothing there")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	away("an empty folder")
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("written there: %v", entries)
	}
	if err := os.WriteFile(filepath.Join(root, "repository"), []byte("another one"), 0o600); err != nil {
		t.Fatal(err)
	}
	away("another repository")
	// The same disk, mounted again, may be another device by its number.
	if err := errors.Join(os.RemoveAll(root), os.CopyFS(root, os.DirFS(aside))); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "meta/points/1", []byte("x"), true); err != nil {
		t.Errorf("the same repository: %v", err)
	}
}

// TestRepositoryExchangedInPlace: the folder is the same, and what lies in it
// is another repository.
func TestRepositoryExchangedInPlace(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "repository"), []byte("the repository"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, root)
	r, err := s.Get(t.Context(), "repository")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if err := os.WriteFile(filepath.Join(root, "repository"), []byte("another one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "meta/streams/1", []byte("x"), true); err == nil {
		t.Error("it was committed to")
	}
}

func TestSpace(t *testing.T) {
	free, total, err := ship.Space(t.Context(), ship.Retry(open(t, t.TempDir()), ship.RetryPolicy{}))
	if err != nil || free <= 0 || total < free {
		t.Errorf("got %d of %d, %v", free, total, err)
	}
	if _, _, err := ship.Space(t.Context(), ship.Retry(shiptest.NewMemory(), ship.RetryPolicy{})); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store that does not know: %v", err)
	}
}

// TestAnIdleStoreKeepsNoDescriptor: its disk can be unmounted.
func TestAnIdleStoreKeepsNoDescriptor(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if err := s.Put(t.Context(), "a/b", nil, true); err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, root) {
			t.Errorf("descriptor %s is open on %s", fd.Name(), to)
		}
	}
}
