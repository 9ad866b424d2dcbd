//go:build guest

package zfs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
)

// TestHealthOfAMirror: a device that is away and data that is damaged are told,
// and a send that meets the damage names the file.
func TestHealthOfAMirror(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "one"), filepath.Join(dir, "two")}
	for _, file := range files {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, 128<<20); err != nil {
			t.Fatal(err)
		}
	}
	sh(t, "zpool", "create", "-O", "mountpoint=/mnt/ailing", "-O", "compression=off", "ailing", "mirror", files[0], files[1])
	t.Cleanup(func() { sh(t, "zpool", "destroy", "-f", "ailing") })
	sh(t, "zfs", "create", "ailing/a")
	dataset := located(t, "/mnt/ailing/a")
	told := func() string {
		t.Helper()
		found, err := New().Health(t.Context(), []fs.Dataset{dataset, dataset})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range found {
			if f.On != "pool ailing" || len(f.Datasets) != 1 || f.Do == "" {
				t.Errorf("got %+v", f)
			}
			out = append(out, f.What)
		}
		return strings.Join(out, "; ")
	}
	if got := told(); got != "" {
		t.Fatalf("of a sound pool: %s", got)
	}
	sh(t, "zpool", "offline", "ailing", files[1])
	if got := told(); !strings.Contains(got, "it is DEGRADED") || !strings.Contains(got, "OFFLINE") {
		t.Errorf("degraded: %s", got)
	}
	mark := []byte("a block that will be damaged on disk ")
	if err := os.WriteFile("/mnt/ailing/a/the file", bytes.Repeat(mark, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := take(t, "a", dataset)[0]
	sh(t, "zpool", "export", "ailing")
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, mark)
	if at < 0 {
		t.Fatal("the data is not on disk")
	}
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("XXXX"), int64(at)); err != nil {
		t.Fatal(err)
	}
	sh(t, "zpool", "import", "-d", dir, "ailing")
	r, err := New().Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "the file") {
		t.Errorf("the send ends with %v", err)
	}
	if got := told(); !strings.Contains(got, "data is damaged") {
		t.Errorf("damaged: %s", got)
	}
}
