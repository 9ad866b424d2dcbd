//go:build host

package dir_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

// TestFullDisk: a put that does not fit says so, leaves nothing behind, and is
// not tried again for ten minutes.
func TestFullDisk(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(root, 0); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	s := open(t, root)
	if err := s.Put(t.Context(), "a/fits", make([]byte, 500<<10), true); err != nil {
		t.Fatal(err)
	}
	err := ship.Retry(s, ship.RetryPolicy{}).Put(t.Context(), "a/does-not", make([]byte, 600<<10), true)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), root) || !strings.Contains(advice.Of(err), "room") {
		t.Errorf("got %v (hint %q)", err, advice.Of(err))
	}
	if left, _ := os.ReadDir(filepath.Join(root, ".tmp")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := s.Put(t.Context(), "a/fits-too", make([]byte, 300<<10), true); err != nil {
		t.Error(err)
	}
}
