package agent

import (
	"errors"
	"os"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// TestRoomForAllDatasets: two that have room each and none together are refused
// before the first of them is made.
func TestRoomForAllDatasets(t *testing.T) {
	b := newBench(t, "", "main")
	_, err := b.storage.Add(b.path("other"))
	b.check(err)
	b.storage.Continues = true
	b.Drivers[fs.Btrfs] = struct {
		*fstest.Memory
		fstest.Describing
	}{b.storage, fstest.Describing{"referenced": "41943040"}}
	shop := b.Config.Groups["shop"]
	shop.Paths = []string{b.path("data"), b.path("other")}
	b.Config.Groups["shop"] = shop
	b.take()
	to := b.path("to")
	b.storage.Room = map[string]int64{to: 60 << 20}
	o := RestoreOptions{Point: "latest", To: "btrfs:" + to, Repository: Local}
	applied := 0
	b.storage.Fault = func(call string) error {
		if call == "Apply" {
			applied++
		}
		return nil
	}
	got, err := b.Restore(t.Context(), o)
	if !errors.Is(err, fs.ErrNoSpace) || len(got) > 0 || applied > 0 {
		t.Fatalf("got %+v, %v after %d streams", got, err, applied)
	}
	if want := "no space left in " + to + ": 2 of the datasets need 80 MiB together, and 60 MiB are free"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want %q in it", err, want)
	}
	if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder for them: %v", err)
	}
	b.storage.Room[to] = 80 << 20
	got, err = b.Restore(t.Context(), o)
	if err != nil || len(got) != 2 {
		t.Errorf("with room: %+v, %v", got, err)
	}
}
