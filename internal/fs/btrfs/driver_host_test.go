//go:build host

package btrfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"snapd/internal/fs"
)

// subvolume makes one and locates it.
func subvolume(t testing.TB, dir string) fs.Dataset {
	t.Helper()
	command(t, "btrfs", "subvolume", "create", dir)
	return datasetAt(t, dir)
}

func datasetAt(t testing.TB, path string) fs.Dataset {
	t.Helper()
	place, err := New().Locate(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return place.Dataset
}

func take(t testing.TB, id string, datasets ...fs.Dataset) []fs.Snapshot {
	t.Helper()
	p, err := New().Prepare(t.Context(), snapshotName(id), datasets)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Take(); err != nil {
		t.Fatal(err)
	}
	made, err := p.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func snapshotName(id string) string {
	return fs.SnapshotName(time.Date(2026, 11, 21, 10, 11, 12, 0, time.UTC), id)
}

func stream(t testing.TB, s fs.Snapshot, base *fs.Snapshot) []byte {
	t.Helper()
	r, err := New().Send(t.Context(), s, base)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

// restore receives full streams, each with its GUID, to a target.
func restore(t testing.TB, target string, data []byte, guid string) fs.Dataset {
	t.Helper()
	r, err := New().Receive(t.Context(), target, fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := r.Apply(t.Context(), bytes.NewReader(data), guid, ""); err != nil {
		t.Fatal(err)
	}
	made, err := r.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func infoOf(t testing.TB, dir string) subvolInfoArgs {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := subvolInfo(f)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
