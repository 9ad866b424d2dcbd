package dir_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

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
		t.Error("a file that somebody may be writing was removed")
	}
}

// TestSymbolicLinkIsNotFollowed: who can write into the directory must not
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
