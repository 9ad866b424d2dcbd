package workload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/proc"
)

// TestLooksThatHang: it ends at its deadline and with its context, what it waits
// for is not looked at again until it comes back, and everything else is.
func TestLooksThatHang(t *testing.T) {
	l := NewLooks()
	sick, well := proc.Device{Minor: 1}, proc.Device{Minor: 2}
	release := make(chan struct{})
	hangs := func() (int, error) { <-release; return 1, nil }
	begun := time.Now()
	if _, err := look(t.Context(), l, 20*time.Millisecond, sick, "/sick/a", hangs); !errors.Is(err, errHangs) {
		t.Fatalf("got %v", err)
	}
	_, err := look(t.Context(), l, time.Hour, sick, "/sick/b", func() (int, error) { t.Error("it was looked at again"); return 0, nil })
	if !errors.Is(err, errHangs) || !strings.Contains(err.Error(), "/sick/a") {
		t.Errorf("the second look: %v", err)
	}
	if got, err := look(t.Context(), l, time.Hour, well, "/well", func() (int, error) { return 2, nil }); got != 2 || err != nil {
		t.Errorf("elsewhere: %d, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := look(ctx, l, time.Hour, well, "/well", hangs); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("all took %v", took)
	}
	close(release)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if got, err := look(t.Context(), l, time.Hour, sick, "/sick/c", func() (int, error) { return 3, nil }); err == nil && got == 3 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is never looked at again")
		}
	}
	for i := range mostHanging {
		never := make(chan struct{})
		t.Cleanup(func() { close(never) })
		_, _ = look(t.Context(), l, time.Microsecond, proc.Device{Major: 9, Minor: uint32(i)}, "/x", func() (int, error) { <-never; return 0, nil })
	}
	if _, err := look(t.Context(), l, time.Hour, well, "/well", func() (int, error) { return 0, nil }); !errors.Is(err, errHangs) {
		t.Errorf("with as many waiting as there may be: %v", err)
	}
}

// TestRealPaths: links are followed as the kernel does, and never to what another
// host or a program answers for.
func TestRealPaths(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n, err := readNamespaces(nil)
	if err != nil {
		t.Fatal(err)
	}
	n.own = append(n.own, proc.Mount{Point: filepath.Join(dir, "far away"), Type: "fuse.sshfs"}, proc.Mount{Point: filepath.Join(dir, "share"), Type: "nfs4"})
	for _, sub := range []string{"a b/é", "far away/below", "share"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"absolute": dir + "/a b", "relative": "a b/../a b/é", "chain": "absolute/é", "loop": "loop", "dangling": "nowhere",
		"out": "far away/below", "over": "share",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/", "/proc/self/../1", dir, dir + "/absolute/é", dir + "/relative", dir + "/chain", dir + "//a b/./é/", dir + "/loop", dir + "/dangling", dir + "/nothing"} {
		want, wantErr := filepath.EvalSymlinks(path)
		got, err := n.real(t.Context(), path)
		if got != want && wantErr == nil || (err == nil) != (wantErr == nil) || errors.Is(err, os.ErrNotExist) != errors.Is(wantErr, os.ErrNotExist) {
			t.Errorf("%s: %q, %v; want %q, %v", path, got, err, want, wantErr)
		}
	}
	for _, path := range []string{"far away", "far away/below", "out", "over", "over/x", "share"} {
		if got, err := n.real(t.Context(), filepath.Join(dir, path)); !isRemote(err) {
			t.Errorf("%s was looked at: %q, %v", path, got, err)
		}
		if _, err := n.look(t.Context(), filepath.Join(dir, "share", "deep")); !isRemote(err) {
			t.Errorf("it was looked at: %v", err)
		}
	}
}

func isRemote(err error) bool {
	_, yes := errors.AsType[*errRemote](err)
	return yes
}
