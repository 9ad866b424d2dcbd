//go:build guest

package lvm

import (
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
)

// TestContract is the heart of it on thin volumes with ext4; the whole, and
// the other kinds, have the tag long.
func TestContract(t *testing.T) {
	vg := newGroup(t, 6<<30)
	newPool(t, vg, "po-ol", 5<<30)
	fstest.RunSome(t, harness(t, vg, "po-ol", "ext4"), "locate", "locate what is not there", "snapshots", "delete", "skipped increments", "wrong base", "replace")
}

// harness makes volumes in a pool, or classic ones if it has none. They are no
// larger than need be: of classic ones all is read and written each time.
func harness(t testing.TB, vg, pool, kind string) fstest.Harness {
	dir := t.TempDir()
	size, options := int64(192<<20), []string{"-b", "4096"} // a file's attributes must fit into one block
	if kind == "xfs" {
		size, options = 320<<20, nil // mkfs.xfs makes none below 300
	}
	place := vg + "/"
	if pool != "" {
		place += pool + "/"
	}
	return fstest.Harness{
		Driver: New(filepath.Join(dir, "state")),
		Names:  []string{"two--dashes-", ".dots.and+plus_", strings.Repeat("n", 100)},
		NewDataset: func(t testing.TB, name string) string {
			name = lvmName(name)
			node := newVolume(t, vg, pool, name, size)
			t.Cleanup(func() {
				removeSnapshots(t, vg)
				removeVolume(t, vg, name)
			})
			at := filepath.Join(dir, "mounted", name)
			mkfs(t, kind, node, at, options...)
			return at
		},
		NewTarget: func(t testing.TB, name string) string {
			name = "to-" + lvmName(name) // beside a dataset of that name
			t.Cleanup(func() {
				for _, suffix := range []string{"", ".before-restore"} {
					if exists(t, vg+"/"+name+suffix) {
						removeVolume(t, vg, name+suffix)
					}
				}
			})
			return place + name
		},
		FullTarget: func(t testing.TB) string {
			small := newGroup(t, 1<<30)
			if pool == "" {
				newVolume(t, small, "", "filler", 1<<30-40<<20)
				return small + "/target"
			}
			newPool(t, small, "small", 400<<20)
			node := newVolume(t, small, "small", "filler", 320<<20)
			command(t, "dd", "if=/dev/zero", "of="+node, "bs=1M", "count=320", "oflag=direct", "status=none")
			return small + "/small/target"
		},
		Show: func(t testing.TB, dataset fs.Dataset) string {
			at := filepath.Join(dir, "shown", filepath.Base(dataset.Name))
			show(t, dataset.Name, kind, at)
			return at
		},
		Exists: func(t testing.TB, target string) bool {
			parts := strings.Split(target, "/")
			return exists(t, parts[0]+"/"+parts[len(parts)-1])
		},
		Leftovers: func(t testing.TB, target string) []string {
			out := command(t, "lvs", "--noheadings", "-o", "lv_name", "-S", `lv_name=~"^snapd_restore_"`, strings.Split(target, "/")[0])
			return strings.Fields(out)
		},
	}
}

// lvmName is a name of the suite's as LVM allows it: neither an option nor one
// that LVM keeps for itself.
func lvmName(name string) string {
	return "d" + strings.NewReplacer(" ", "_", "@", "+").Replace(name)
}

// show activates and mounts a restored volume.
func show(t testing.TB, full, kind, at string) {
	t.Helper()
	if command(t, "lvs", "--noheadings", "-o", "lv_active", full) == "" { // one that was shown before it was moved stays in use
		command(t, "lvchange", "-q", "-a", "y", "-K", full)
		t.Cleanup(func() { command(t, "lvchange", "-q", "-a", "n", full) })
	}
	var options []string
	if kind == "xfs" {
		options = []string{"-o", "nouuid"}
	}
	mountAt(t, "/dev/"+full, at, options...)
}

// removeSnapshots removes ours, so that their origins can go.
func removeSnapshots(t testing.TB, vg string) {
	t.Helper()
	command(t, "sh", "-c", "lvs --noheadings -o lv_full_name @snapd "+" 2>/dev/null | grep -F ' "+vg+"/' | xargs -r lvremove -q -f -y")
}
