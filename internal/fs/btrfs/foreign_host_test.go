//go:build host

package btrfs

import (
	"fmt"
	"slices"
	"testing"
)

// TestSnapshotsOfOthersAreForeign: read-only snapshots, wherever they lie and
// whatever lies over them; not a writable one, and not a subvolume that a user has
// made read-only.
func TestSnapshotsOfOthersAreForeign(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	data := mnt + "/data"
	subvolume(t, data)
	subvolume(t, data+"/real one")
	subvolume(t, data+"/read-only")
	command(t, "btrfs", "property", "set", data+"/read-only", "ro", "true")
	command(t, "mkdir", data+"/.snapshots")
	var foreign []string
	for i := range 40 {
		at := fmt.Sprintf("%s/.snapshots/%02d", data, i)
		command(t, "btrfs", "subvolume", "snapshot", "-r", data, at)
		foreign = append(foreign, at)
	}
	command(t, "btrfs", "subvolume", "snapshot", data, data+"/writable")
	place, err := New().Locate(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{data + "/read-only", data + "/real one", data + "/writable"}; !slices.Equal(place.Nested, want) {
		t.Errorf("nested: %q, want %q", place.Nested, want)
	}
	if !slices.Equal(place.Foreign, foreign) {
		t.Errorf("foreign: %q, want %q", place.Foreign, foreign)
	}
}
