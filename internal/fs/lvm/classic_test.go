package lvm

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"snapd/internal/fs"
)

// TestClassicVolumesShareRoom: a volume that was just written in full wants room for
// all of it, and leaves the others their least, also those of another call.
func TestClassicVolumesShareRoom(t *testing.T) {
	const mib, extent = 1 << 20, 4 << 20
	of := func(free int64, uuids ...string) (out []volume) {
		for _, u := range uuids {
			out = append(out, volume{vg: "v", name: u, uuid: u, size: 200 * mib, extent: extent, vgFree: free * mib})
		}
		return out
	}
	whole := wholeSize(of(0, "a")[0])
	for name, c := range map[string]struct {
		volumes []volume
		want    map[string]int64
		left    int64 // MiB, at least
	}{
		"one alone":                    {of(188, "a"), map[string]int64{"a": whole}, 60},
		"two, and the first is greedy": {of(188, "a", "b"), map[string]int64{"a": whole, "b": 64 * mib}, 30},
		"both are":                     {of(188, "a", "b"), map[string]int64{"a": whole, "b": whole}, 30},
		"just enough":                  {of(128, "a", "b"), map[string]int64{"a": whole, "b": whole}, 0},
		"room for all":                 {of(4000, "a", "b"), map[string]int64{"a": whole, "b": whole}, 3000},
	} {
		wants := maps.Clone(c.want)
		if err := shareRoom(c.volumes, wants); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		left := c.volumes[0].vgFree
		for u, got := range wants {
			left -= got
			if got < classicLeast || got > c.want[u] || got%extent != 0 {
				t.Errorf("%s: %s gets %d of %d", name, u, got, c.want[u])
			}
		}
		if left < c.left*mib {
			t.Errorf("%s: %d MiB are left", name, left/mib)
		}
		if name == "room for all" && wants["a"] != whole {
			t.Errorf("%s: %v", name, wants)
		}
	}
	err := shareRoom(of(120, "a", "b"), map[string]int64{"a": whole, "b": whole})
	if !errors.Is(err, fs.ErrNoSpace) || !strings.Contains(err.Error(), "need at least 128 MiB in volume group v, and 120 are free") {
		t.Errorf("too little: %v", err)
	}
}
