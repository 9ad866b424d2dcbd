package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// content is what a file has, "-" when there is none.
func content(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a ü\nb")
	for _, c := range []struct {
		text string
		mode fs.FileMode
	}{{"old", 0o600}, {"", 0o644}, {strings.Repeat("new", 1<<20), 0o400}} {
		if err := Write(name, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(name)
		if err != nil || st.Mode() != c.mode || content(t, name) != c.text {
			t.Errorf("got %v, %v, %d bytes; want %v, %d bytes", st, err, len(content(t, name)), c.mode, len(c.text))
		}
	}
	if got := names(t, filepath.Dir(name)); !slices.Equal(got, []string{"a ü\nb"}) {
		t.Errorf("left %q", got)
	}
	if err := Write(filepath.Join(name, "below"), nil, 0o600); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

// Create never replaces: no file, no link, no directory.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "name")
	if err := Create(name, []byte("first"), 0o640); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(name); err != nil || st.Mode() != 0o640 {
		t.Errorf("got %v, %v", st, err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "folder"), 0o700), os.Symlink("nowhere", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	for _, taken := range before {
		if err := Create(filepath.Join(dir, taken), []byte("second"), 0o600); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: got %v, want that it exists", taken, err)
		}
	}
	if got := names(t, dir); content(t, name) != "first" || !slices.Equal(got, before) {
		t.Errorf("got %q in %q", content(t, name), got)
	}
}

// A failure at any step leaves the old content or the new, and nothing else.
func TestFailureAtEachStep(t *testing.T) {
	full := errors.New("no space left")
	for how, as := range map[string]func(*Aside, string) error{"write": (*Aside).Replace, "create": (*Aside).Create} {
		for _, at := range []step{stepWrite, stepMode, stepSync, stepName, stepDir} {
			t.Run(how+" "+string(at), func(t *testing.T) {
				name := filepath.Join(t.TempDir(), "name")
				old := "-"
				if how == "write" {
					old = "old"
					if err := Write(name, []byte(old), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				err := put(name, []byte("new"), 0o600, as, func(s step) error {
					if s == at {
						return full
					}
					return nil
				})
				if !errors.Is(err, full) {
					t.Errorf("got %v, want the failure", err)
				}
				want := old
				if at == stepDir {
					want = "new" // it is there; only whether it stays is not known
				}
				if got := content(t, name); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if got := names(t, filepath.Dir(name)); slices.ContainsFunc(got, func(s string) bool { return s != "name" }) {
					t.Errorf("left %q", got)
				}
			})
		}
	}
}

// The kernel's own refusals: a directory in which nothing can be made, one that
// takes the name's place, a full disk.
func TestRefusedByTheKernel(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "taken")
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(name, []byte("new"), 0o600); err == nil {
		t.Error("a directory was replaced")
	}
	if got := names(t, dir); !slices.Equal(got, []string{"taken"}) {
		t.Errorf("left %q", got)
	}
	if err := Write(filepath.Join(dir, "none", "name"), nil, 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := SyncDir(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A process that is killed at any step leaves the old content or the new, and
// beside it at most a file whose name begins with Prefix.
func TestKilledAtEachStep(t *testing.T) {
	if at, name := os.Getenv("DURABLE_KILL_AT"), os.Getenv("DURABLE_NAME"); at != "" {
		_ = put(name, []byte("new"), 0o600, (*Aside).Replace, func(s step) error {
			if string(s) == at {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
				select {}
			}
			return nil
		})
		return
	}
	for _, at := range []step{stepWrite, stepMode, stepSync, stepName, stepDir} {
		name := filepath.Join(t.TempDir(), "name")
		if err := Write(name, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilledAtEachStep$")
		cmd.Env = append(os.Environ(), "DURABLE_KILL_AT="+string(at), "DURABLE_NAME="+name)
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it was not killed", at)
		}
		want := "old"
		if at == stepDir {
			want = "new"
		}
		if got := content(t, name); got != want {
			t.Errorf("%s: got %q, want %q", at, got, want)
		}
		for _, other := range names(t, filepath.Dir(name)) {
			if other != "name" && !strings.HasPrefix(other, Prefix) {
				t.Errorf("%s: left %q", at, other)
			}
		}
	}
}

func TestRemove(t *testing.T) {
	name := filepath.Join(t.TempDir(), "name")
	if err := Write(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(name); err != nil || content(t, name) != "-" {
		t.Errorf("got %v", err)
	}
	if err := Remove(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is not there: got %v", err)
	}
	if err := os.MkdirAll(filepath.Join(name, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Remove(name); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("a directory with something in it: got %v", err)
	}
}

// What comes in pieces is seen when it is whole, or never, and its lock goes
// with it to its name.
func TestAside(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "sub", "name")
	a, err := Begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(a.File().Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := fmt.Fprintf(a, "%d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Replace(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that its directory is not there", err)
	}
	if err := os.Mkdir(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := a.Create(name); err != nil || content(t, name) != "0\n1\n2\n" {
		t.Errorf("got %q, %v", content(t, name), err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("its lock: got %v", err)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if got := names(t, dir); content(t, name) != "0\n1\n2\n" || !slices.Equal(got, []string{"sub"}) {
		t.Errorf("got %q in %q", content(t, name), got)
	}
	b, err := Begin(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil || !slices.Equal(names(t, dir), []string{"sub"}) {
		t.Errorf("one that was given up: %v, left %q", err, names(t, dir))
	}
}

func TestUnnamed(t *testing.T) {
	dir := t.TempDir()
	f, err := Unnamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("x"); err != nil || len(names(t, dir)) != 0 {
		t.Errorf("%v, seen as %q", err, names(t, dir))
	}
	name := filepath.Join(dir, "name")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Link(f, name); !errors.Is(err, os.ErrExist) || content(t, name) != "" {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := Link(f, name+"2"); err != nil || content(t, name+"2") != "x" {
		t.Errorf("got %v, %q", err, content(t, name+"2"))
	}
}
