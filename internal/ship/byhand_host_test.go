//go:build host

package ship_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/shiptest"
)

// byHand runs docs/restore-by-hand.sh.
func byHand(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "..", "..", "docs", "restore-by-hand.sh")
	cmd := exec.CommandContext(t.Context(), script, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestRestoreByHandOfEveryVersion takes the golden examples apart; of version 2
// the base of the chain is missing, and another stream takes its place.
func TestRestoreByHandOfEveryVersion(t *testing.T) {
	for _, folder := range golden() {
		at, err := filepath.Abs(filepath.Join(folder, "repository"))
		if err != nil {
			t.Fatal(err)
		}
		trusted, _ := goldenKeys(t, folder)
		last, err := filepath.Glob(filepath.Join(at, "meta", "streams", "*.1.1"))
		if err != nil || len(last) != 1 {
			t.Fatal(last, err)
		}
		into := t.TempDir()
		id, _, _ := strings.Cut(filepath.Base(last[0]), ".")
		if _, errs, err := byHand(t, "extract", "dir:"+at, trusted.String(), filepath.Join(folder, "identity"), id, into); err != nil {
			t.Fatalf("%s: %v: %s", folder, err, errs)
		}
		files, err := filepath.Glob(filepath.Join(into, "*.btrfs"))
		if err != nil || len(files) != 2 {
			t.Fatal(files, err)
		}
		for i, file := range files {
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, goldenStreams()[i]) {
				t.Errorf("%s: %s holds %d bytes, %v", folder, file, len(got), err)
			}
		}
	}
}

// TestRestoreByHand restores a real chain of Btrfs streams with plain tools.
func TestRestoreByHand(t *testing.T) {
	root := t.TempDir()
	mount := filepath.Join(root, "btrfs")
	image := filepath.Join(root, "image")
	if err := os.Mkdir(mount, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "truncate", "-s", "512M", image)
	run(t, "mkfs.btrfs", "-q", image)
	run(t, "mount", "-o", "loop", image, mount)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	sub := filepath.Join(mount, "data")
	run(t, "btrfs", "subvolume", "create", sub)

	store, err := dir.New(filepath.Join(root, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Make(); err != nil {
		t.Fatal(err)
	}
	b := newBenchWith(t, store, ship.EncryptionAge, 64<<10)
	w := b.host()
	var last ship.Stream
	for i, name := range []string{"one", "two", "three"} {
		if err := os.WriteFile(filepath.Join(sub, "file "+name), noise(uint64(i), 700_000), 0o640); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			if err := os.Remove(filepath.Join(sub, "file one")); err != nil {
				t.Fatal(err)
			}
		}
		snap := filepath.Join(mount, name)
		run(t, "btrfs", "subvolume", "snapshot", "-r", sub, snap)
		args := []string{"send", "-q", snap}
		h := full("guid-" + name)
		if i > 0 {
			args = []string{"send", "-q", "-p", filepath.Join(mount, []string{"one", "two"}[i-1]), snap}
			h = on(last, "guid-"+name)
		}
		last, err = w.Upload(t.Context(), h, func(ctx context.Context) (io.ReadCloser, error) {
			out, err := exec.CommandContext(ctx, "btrfs", args...).Output()
			return io.NopCloser(bytes.NewReader(out)), err
		}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		b.point(w, last)
	}

	identity := filepath.Join(root, "identity")
	if err := os.WriteFile(identity, []byte(b.identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	at, signer := "dir:"+filepath.Join(root, "repository"), b.signer.Public().String()
	out, errs, err := byHand(t, "points", at, signer, identity)
	if err != nil || !strings.Contains(out, "group shop on web1") || strings.Count(out, "stream ") != 3 {
		t.Errorf("points: %v: %s\n%s", err, errs, out)
	}
	target := filepath.Join(mount, "restored")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, errs, err := byHand(t, "receive", at, signer, identity, last.ID.String(), target); err != nil {
		t.Fatalf("receive: %v: %s", err, errs)
	}
	run(t, "diff", "-r", sub, filepath.Join(target, "three"))
	if info, err := os.Stat(filepath.Join(target, "three", "file two")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("restored: %v, %v", info, err)
	}

	t.Run("another signer", func(t *testing.T) {
		other, _ := ship.NewSigner()
		if _, errs, err := byHand(t, "points", at, other.Public().String()); err == nil || !strings.Contains(errs, "signature does not verify") {
			t.Errorf("got %v: %s", err, errs)
		}
	})
	t.Run("one bit", func(t *testing.T) {
		var keys []string
		if err := store.List(t.Context(), "data/"+last.ID.String(), func(o ship.Object) error { keys = append(keys, o.Key); return nil }); err != nil {
			t.Fatal(err)
		}
		shiptest.FlipBit(t, store, keys[3])
		into := t.TempDir()
		if _, errs, err := byHand(t, "extract", at, signer, identity, last.ID.String(), into); err == nil || !strings.Contains(errs, keys[3]) {
			t.Errorf("got %v, want an error that names %s: %s", err, keys[3], errs)
		}
	})
}
