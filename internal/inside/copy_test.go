package inside

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs/fstest"
)

func treeAt(t *testing.T, dir string) Tree {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return Tree{Root: root}
}

// TestCopyKeepsAll: names, contents, holes, owners, rights, attributes, times, nodes
// and hard links, of a folder and of all.
func TestCopyKeepsAll(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	fstest.WriteNastyTree(t, dir)
	done, err := treeAt(t, dir).Copy(t.Context(), ".", filepath.Join(to, "all of\nit"), CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if done.Files == 0 || done.Bytes == 0 || len(done.Lost) > 0 {
		t.Errorf("got %+v", done)
	}
	fstest.Compare(t, dir, filepath.Join(to, "all of\nit"))
	names, err := os.ReadDir(to)
	if err != nil || len(names) != 1 {
		t.Errorf("there are %v, %v", names, err)
	}
}

// TestCopyWritesOverNothing: a name that is taken is refused, or what is there is kept;
// and a copy that fails leaves nothing.
func TestCopyWritesOverNothing(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir+"/sub/deep", 0o755))
	must(os.WriteFile(dir+"/sub/deep/file", []byte("old"), 0o600))
	must(os.Symlink("sub/deep", dir+"/link"))
	must(os.Symlink("/etc", dir+"/out"))
	must(os.WriteFile(to+"/deep", []byte("mine"), 0o600))
	tree := treeAt(t, dir)
	if _, err := tree.Copy(t.Context(), "sub/deep", to+"/deep", CopyOptions{}); !errors.Is(err, ErrExists) {
		t.Errorf("onto what is there: %v", err)
	}
	done, err := tree.Copy(t.Context(), "link", to+"/deep", CopyOptions{Aside: ".aside"})
	must(err)
	if text, err := os.ReadFile(done.Aside); string(text) != "mine" || err != nil || done.Aside != to+"/deep.aside" {
		t.Errorf("%s has %q, %v", done.Aside, text, err)
	}
	if text, err := os.ReadFile(to + "/deep/file"); string(text) != "old" || err != nil {
		t.Errorf("a copy through a link has %q, %v", text, err)
	}
	var missing *Missing
	if _, err := tree.Copy(t.Context(), "out/passwd", to+"/passwd", CopyOptions{}); !errors.As(err, &missing) || !strings.Contains(missing.Why, "symbolic link to /etc") {
		t.Errorf("through a link that leads out: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tree.Copy(ctx, ".", to+"/all", CopyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	names, err := os.ReadDir(to)
	if err != nil || len(names) != 2 {
		t.Errorf("there are %v, %v", names, err)
	}
}
