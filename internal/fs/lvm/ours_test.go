package lvm

import (
	"errors"
	"testing"

	"snapd/internal/fs"
)

// TestOursAmongVolumes: by name and tags, also of a volume that is gone and one
// that overflowed; what only has our name, a volume of a restore, and a group in
// trouble are left alone.
func TestOursAmongVolumes(t *testing.T) {
	const name = "snapd_20261121T101112Z_01jd8k2m5x7qf3za"
	snap := func(uuid, origin string, tags ...string) volume {
		return volume{vg: "data", vgUUID: "V", uuid: uuid, name: fs.LVMSnapshotName(name, origin), tags: append(tags, tagOrigin+origin, tagOrder+"7")}
	}
	overflowed, alone := snap("s3", "o1", tagOurs), snap("s5", "o1", tagOurs)
	overflowed.invalid = true
	alone.vgTrouble = errors.New("it is exported")
	all := volumes{
		{vg: "data", vgUUID: "V", uuid: "o1", name: "my-db"},
		snap("s1", "o1", tagOurs), snap("s2", "o2", tagOurs), overflowed,
		snap("s4", "o1"), alone,
		{vg: "data", vgUUID: "V", uuid: "r", name: fs.LVMRestorePrefix + "x", tags: []string{tagTemporary}},
	}
	got, err := all.ours()
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v", got, err)
	}
	for _, s := range got {
		switch s.GUID {
		case "s1", "s3":
			if s.Dataset != datasetOf(all[0]) || s.Name != name || s.Order != 7 {
				t.Errorf("got %+v", s)
			}
		case "s2":
			if s.Dataset.GUID != "o2" || s.Dataset.Name != "a volume of data that is gone (UUID o2)" {
				t.Errorf("got %+v", s)
			}
		default:
			t.Errorf("got %+v", s)
		}
	}
}
