//go:build host

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs/fstest"
)

// TestKitsOnS3 loses a host's keys, and goes on with its kit: on a real
// server, with a real restore point.
func TestKitsOnS3(t *testing.T) {
	h, minio := newS3Host(t)
	endpoint := []string{"--endpoint", minio.Endpoint()}
	data := h.subvolume("data")
	random(t, filepath.Join(data, "small"), 1<<20)
	h.configure(fmt.Sprintf("[group.shop]\npaths = [%q]", data))
	h.must("run", "shop")

	// A kit with the signing key; that it opens the point is tried and said.
	out := h.must("init", "--kit", h.path("whole"), "--identity", h.path("kit"), "--with-signing-key")
	if !strings.Contains(out, "was opened") {
		t.Errorf("no point was opened with the kit:\n%s", out)
	}
	// The configuration and the keys are lost.
	for _, name := range []string{"snapd.toml", "signing.key"} {
		if err := os.Rename(h.path(name), h.path("lost "+name)); err != nil {
			t.Fatal(err)
		}
	}
	again := append([]string{"init", "--repository", "s3://backups/host1", "--kit", h.path("kit2")}, endpoint...)
	h.refused(1, again, "is a repository already", "no proof", "--from-kit", "s3://backups/host1-2")
	h.refused(1, []string{"init", "--from-kit", h.path("kit")}, "holds no signing key", "s3://backups/host1-2")
	for _, name := range []string{"kit2", "snapd.toml", "signing.key"} {
		if _, err := os.Stat(h.path(name)); err == nil {
			t.Errorf("%s was made all the same", name)
		}
	}
	h.must("init", "--from-kit", h.path("whole"))
	h.must("--kit", h.path("whole"), "restore", "latest:shop", "--to", "btrfs:"+filepath.Join(h.btrfs, "back"))
	fstest.Compare(t, data, filepath.Join(h.btrfs, "back"))
	h.must("init") // makes nothing, and is content

	// Who may not write is told before anything is made.
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
	for _, name := range []string{"snapd.toml", "signing.key"} {
		if err := os.Remove(h.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	h.refused(1, append([]string{"init", "--repository", "s3://backups/other", "--kit", h.path("kit3")}, endpoint...), "credentials are wrong")
	if _, err := os.Stat(h.path("kit3")); err == nil {
		t.Error("a kit was written for a repository that cannot be made")
	}
}
