package fs

import (
	"testing"
	"time"
)

func TestSnapshotNames(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 11, 12, 0, time.UTC)
	name := SnapshotName(at, "01jd8k2m5x7qf3za")
	if got, id, err := ParseSnapshotName(name); err != nil || !got.Equal(at) || id != "01jd8k2m5x7qf3za" {
		t.Errorf("%s: got %v, %q, %v", name, got, id, err)
	}
	for _, other := range []string{"", "daily", "snapd_", "snapd_20261121T101112Z", "snapd_20261121T101112Z_", "snapd_x_y", name + "@x", name + "_x"} {
		if _, _, err := ParseSnapshotName(other); err == nil {
			t.Errorf("%q is taken for one of ours", other)
		}
	}
}

func TestNamesOnZFS(t *testing.T) {
	if purpose, ours := ParseHoldName(HoldName("0123abc")); !ours || purpose != "0123abc" {
		t.Errorf("got %q, %v", purpose, ours)
	}
	for _, other := range []string{"", "mine", "snapd_ship_", "snapd_ship_../../etc", "snapd_ship_a b", "snapd_ship_a/b"} {
		if purpose, ours := ParseHoldName(other); ours {
			t.Errorf("the tag %q is taken for ours, of %q", other, purpose)
		}
	}
	if !IsStageName(StageName("0123456789abcdef")) {
		t.Error("our own name is not known")
	}
	for _, other := range []string{"", "snapd_restore_", "snapd_restore_mine", "snapd_restore_0123456789abcdeF", "snapd_restore_0123456789abcdef0", "data"} {
		if IsStageName(other) {
			t.Errorf("the dataset %q would be removed", other)
		}
	}
}
