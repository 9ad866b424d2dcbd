//go:build host

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/ship/shiptest"

	"golang.org/x/sys/unix"
)

// newS3Host is a host that ships to a real MinIO.
func newS3Host(t *testing.T) (*host, *shiptest.MinIO) {
	t.Helper()
	minio := shiptest.StartMinIO(t)
	minio.Bucket(t, "backups", false)
	t.Setenv("AWS_ACCESS_KEY_ID", minio.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", minio.SecretKey)
	return newHost(t, "s3://backups/host1", "--endpoint", minio.Endpoint()), minio
}

// random writes a file that no compression makes smaller.
func random(t *testing.T, file string, size int64) {
	t.Helper()
	command(t, "dd", "if=/dev/urandom", "of="+file, "bs=1M", fmt.Sprint("count=", size>>20), "status=none")
}

// segments counts the objects of streams in a directory repository.
func (h *host) segments() int {
	found, err := filepath.Glob(h.path("repository/data/*/*"))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(found)
}

// TestShipKilledInTheMiddle kills a ship with SIGKILL: nothing half-done is
// ever listed, and the next ship uploads only what is missing.
func TestShipKilledInTheMiddle(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	random(t, filepath.Join(data, "big"), 320<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("snapshot", "data")

	cmd := exec.CommandContext(t.Context(), "snapd", h.args([]string{"ship", "data"})...)
	cmd.Env = append(os.Environ(), h.env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for h.segments() < 12 {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the ship was over before it was killed")
	}
	before := h.segments()
	if p := h.points("--kit", h.path("kit"), "list"); len(p) > 0 {
		t.Errorf("a half-shipped point is listed: %v", p)
	}
	h.refused(1, []string{"--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:" + h.btrfs + "/x"}, "no such restore point")

	p := h.points("ship", "data")[0]
	if p.Shipped[0].Resumed == "" {
		t.Error("the ship began anew")
	}
	t.Logf("resumed: %s; %d objects when killed, %d segments in all, %d objects in the end", p.Shipped[0].Resumed, before, p.Shipped[0].Segments, h.segments())
	if extra := h.segments() - p.Shipped[0].Segments; extra > 8 {
		t.Errorf("%d objects more than segments: more than what was in flight was uploaded twice", extra)
	}
	h.must("--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:"+h.btrfs+"/x")
	fstest.Compare(t, data, filepath.Join(h.btrfs, "x"))
}

// TestMinIOStoppedInTheMiddle stops the server under a ship and starts it
// again: the ship goes on by itself.
func TestMinIOStoppedInTheMiddle(t *testing.T) {
	h, minio := newS3Host(t)
	data := h.subvolume("data")
	random(t, filepath.Join(data, "big"), 256<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("snapshot", "data")
	done := make(chan string, 1)
	cmd := exec.CommandContext(t.Context(), "snapd", h.args([]string{"ship", "data"})...)
	cmd.Env = append(os.Environ(), h.env...)
	go func() {
		out, err := cmd.CombinedOutput()
		done <- fmt.Sprintf("%s%v", out, err)
	}()
	for len(recordLines(h)) < 6 {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	minio.Stop(t)
	select {
	case out := <-done:
		t.Fatalf("the ship did not wait for the server: %s", out)
	case <-time.After(3 * time.Second): // long enough to fail, had it not tried again
	}
	minio.Start(t)
	out := <-done
	t.Log(out)
	if !strings.HasSuffix(out, "<nil>") || !strings.Contains(out, "trying again") {
		t.Error("the ship did not go on, or did not say why it waited")
	}
	h.must("verify")
}

func recordLines(h *host) []string {
	files, err := filepath.Glob(h.path("state/ships/*.jsonl"))
	if err != nil || len(files) == 0 {
		return nil
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		return nil // it may be done
	}
	return strings.Split(string(content), "\n")
}

// TestBadInput shows each error as a user sees it.
func TestBadInput(t *testing.T) {
	h, minio := newS3Host(t)
	data := h.subvolume("data")
	if err := os.WriteFile(filepath.Join(data, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	shm, err := os.MkdirTemp("/dev/shm", "snapd-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(shm) })
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]\n[group.memory]\npaths = [%q]\n[group.gone]\npaths = [\"/no/such/path\"]", data, shm))
	h.must("run", "data")

	t.Run("no such group", func(t *testing.T) {
		h.at(t).refused(2, []string{"snapshot", "dta"}, `no such group: "dta"`, "name data, if that is meant")
	})
	t.Run("path on tmpfs", func(t *testing.T) {
		h.at(t).refused(1, []string{"snapshot", "memory"}, shm, "tmpfs")
	})
	t.Run("path that is gone", func(t *testing.T) {
		h.at(t).refused(1, []string{"snapshot", "gone"}, "/no/such/path")
	})
	t.Run("target exists", func(t *testing.T) {
		h.at(t).refused(1, []string{"--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:" + data}, "already exists", "--beside", "--replace")
	})
	t.Run("no such point", func(t *testing.T) {
		h.at(t).refused(1, []string{"--kit", h.path("kit"), "restore", "zzzz", "--to", "btrfs:" + h.btrfs + "/x"}, "no such restore point", "snapd list")
	})
	t.Run("no identity", func(t *testing.T) {
		h.at(t).refused(1, []string{"restore", "latest", "--to", "btrfs:" + h.btrfs + "/x"}, "identity", "--kit")
	})
	t.Run("wrong identity", func(t *testing.T) {
		command(t, "age-keygen", "-o", h.path("other.key"))
		h.at(t).refused(1, []string{"--identity", h.path("other.key"), "restore", "latest", "--to", "btrfs:" + h.btrfs + "/x"}, "identity")
	})
	t.Run("bucket missing", func(t *testing.T) {
		h.at(t).refused(1, []string{"--repository", "s3://nosuch/host1", "--endpoint", minio.Endpoint(), "--signer", signerOf(h), "list"}, "nosuch", "bucket")
	})
	t.Run("wrong prefix", func(t *testing.T) {
		h.at(t).refused(1, []string{"--repository", "s3://backups/hsot1", "--endpoint", minio.Endpoint(), "--signer", signerOf(h), "list"}, "not a repository", "snapd init")
	})
	t.Run("wrong credentials", func(t *testing.T) {
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
		h.at(t).refused(1, []string{"--kit", h.path("kit"), "verify"}, "access key")
	})
	t.Run("not root", func(t *testing.T) {
		h.at(t)
		cmd := exec.CommandContext(t.Context(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "snapd", "snapshot", "data")
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "only root") {
			t.Errorf("%s%v", out, err)
		}
	})
}

func signerOf(h *host) string {
	kit, err := os.ReadFile(h.path("kit"))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(kit), `signer   = "`)
	signer, _, _ := strings.Cut(rest, `"`)
	return signer
}

// at is the same host, for a subtest.
func (h *host) at(t *testing.T) *host {
	t.Helper()
	return &host{t: t, dir: h.dir, btrfs: h.btrfs, env: h.env}
}

// TestOneBitFlipped damages a segment: verify names it, and nothing of it is
// received.
func TestOneBitFlipped(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	random(t, filepath.Join(data, "big"), 60<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	p := h.points("run", "data")[0]
	objects, err := filepath.Glob(h.path("repository/data/*/*-*"))
	if err != nil || len(objects) < 4 {
		t.Fatal(objects, err)
	}
	victim := objects[2]
	content, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0x10
	if err := os.Chmod(victim, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(victim, content, 0o600); err != nil {
		t.Fatal(err)
	}
	out, _, status := h.snapd("--json", "verify")
	var v agent.Verified
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatal(err)
	}
	if status != 4 || len(v.Problems) != 1 || !strings.HasSuffix(victim, v.Problems[0].Object) || len(v.Problems[0].Points) != 1 || v.Problems[0].Points[0] != p.ID {
		t.Errorf("exit status %d, problems %+v", status, v.Problems)
	}
	h.refused(1, []string{"--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:" + h.btrfs + "/x"}, filepath.Base(victim), "snapd verify")
	h.nothingLeft(h.btrfs, "x")
}

// nothingLeft checks that a failed restore left neither target nor staging.
func (h *host) nothingLeft(mount, target string) {
	h.t.Helper()
	if _, err := os.Lstat(filepath.Join(mount, target)); err == nil {
		h.t.Errorf("%s is there", target)
	}
	if left, _ := filepath.Glob(filepath.Join(mount, fs.BtrfsDir, "restore-*")); len(left) > 0 {
		h.t.Errorf("staging is left: %v", left)
	}
}

// TestDiskFullOnRestore restores to a filesystem that is too small.
func TestDiskFullOnRestore(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("data")
	random(t, filepath.Join(data, "big"), 160<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("run", "data")
	small := mountBtrfs(t, h.path("small"), 140<<20)
	h.refused(1, []string{"--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:" + small + "/x"}, "no space left")
	h.nothingLeft(small, "x")
	var st unix.Statfs_t
	if err := unix.Statfs(small, &st); err != nil {
		t.Fatal(err)
	}
}
