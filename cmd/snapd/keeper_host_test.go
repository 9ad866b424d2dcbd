//go:build host

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"snapd/internal/ship/shiptest"

	"golang.org/x/sys/unix"
)

// TestWhatAnswersInPlaceOfTheStore: a run once succeeded without one of its
// segments, a page made a repository empty, and a reversed listing made a run
// accuse its user of a clone.
func TestWhatAnswersInPlaceOfTheStore(t *testing.T) {
	minio := shiptest.StartMinIO(t)
	minio.Bucket(t, "backups", false)
	t.Setenv("AWS_ACCESS_KEY_ID", minio.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", minio.SecretKey)
	front := shiptest.NewFront(t, minio)
	h := newHost(t, "s3://backups/host1", "--endpoint", front.URL)
	data := h.subvolume("data")
	random(t, filepath.Join(data, "file"), 8<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))

	front.Answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/data/") {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "<html><body>log in</body></html>")
		return true
	})
	out, stderr, status := h.snapd("run", "data")
	if status == 0 || !strings.Contains(out+stderr, "no object store") || !strings.Contains(out+stderr, "proxy") {
		t.Errorf("puts that were answered with a page: exit status %d", status)
	}
	front.Answer(nil)
	h.must("run", "data")

	all := regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)
	front.ChangeListings(func(page string) string {
		found := all.FindAllString(page, -1)
		return all.ReplaceAllStringFunc(page, func(string) string {
			last := found[len(found)-1]
			found = found[:len(found)-1]
			return last
		})
	})
	random(t, filepath.Join(data, "file2"), 1<<20)
	h.must("run", "data")
	h.must("--kit", h.path("kit"), "verify", "--deep")

	front.ChangeListings(func(string) string { return `<?xml version="1.0"?><html><body>welcome</body></html>` })
	if _, _, status := h.snapd("verify"); status == 0 {
		t.Error("verify found nothing wrong with a page")
	}
}

// TestDiskUnmountedInMidShip: half of the segments and the point were once
// written below the mount point, and that was a success.
func TestDiskUnmountedInMidShip(t *testing.T) {
	disk, at := filepath.Join(t.TempDir(), "image"), t.TempDir()
	command(t, "truncate", "-s", "1G", disk)
	command(t, "mkfs.ext4", "-q", disk)
	command(t, "mount", "-o", "loop", disk, at)
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	h := newHost(t, "file://"+at)
	data := h.subvolume("data")
	random(t, filepath.Join(data, "big"), 320<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	config, err := os.ReadFile(h.path("snapd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	impatient := strings.Replace(string(config), "[repository.main]\n", "[repository.main]\nretry-for = \"2s\"\n", 1)
	if err := os.WriteFile(h.path("snapd.toml"), []byte(impatient), 0o600); err != nil || impatient == string(config) {
		t.Fatal(err, string(config))
	}
	cmd := exec.CommandContext(t.Context(), "snapd", h.args([]string{"run", "data"})...)
	cmd.Env = append(os.Environ(), h.env...)
	said := make(chan string, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		said <- fmt.Sprintf("%s%v", out, err)
	}()
	deadline := time.Now().Add(2 * time.Minute)
	for len(recordLines(h)) < 6 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	for {
		// Busy while something is written: as on a host where it is forced.
		err := unix.Unmount(at, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if text := <-said; cmd.ProcessState.ExitCode() == 0 || !strings.Contains(text, "unmounted") {
		t.Errorf("exit status %d: %s", cmd.ProcessState.ExitCode(), text)
	}
	if entries, err := os.ReadDir(at); err != nil || len(entries) != 0 {
		t.Errorf("written below the mount point: %v, %v", entries, err)
	}
	command(t, "mount", "-o", "loop", disk, at)
	if p := h.points("ship", "data"); len(p) != 1 || p[0].Shipped[0].Resumed == "" {
		t.Errorf("it did not go on: %+v", p)
	}
	h.must("--kit", h.path("kit"), "verify", "--deep")
}
