package lvm

import (
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// TestHealthOfVolumes: what concerns several volumes is told once.
func TestHealthOfVolumes(t *testing.T) {
	const report = `{"report":[{"lv":[
		{"vg_name":"v","vg_missing_pv_count":"MISSING","lv_uuid":"A","lv_name":"a","pool_lv_uuid":"P","lv_health_status":"","lv_check_needed":"-1","lv_kernel_major":"254","lv_kernel_minor":"4"},
		{"vg_name":"v","vg_missing_pv_count":"MISSING","lv_uuid":"B","lv_name":"b","pool_lv_uuid":"P","lv_health_status":"","lv_check_needed":"-1","lv_kernel_major":"-1","lv_kernel_minor":"-1"},
		{"vg_name":"v","vg_missing_pv_count":"MISSING","lv_uuid":"C","lv_name":"c","pool_lv_uuid":"","lv_health_status":"RAID","lv_check_needed":"-1","lv_kernel_major":"254","lv_kernel_minor":"5"},
		{"vg_name":"v","vg_missing_pv_count":"MISSING","lv_uuid":"P","lv_name":"[pool]","pool_lv_uuid":"","lv_health_status":"POOL","lv_check_needed":"CHECK","lv_kernel_major":"254","lv_kernel_minor":"2"},
		{"vg_name":"w","vg_missing_pv_count":"1","lv_uuid":"Z","lv_name":"z","pool_lv_uuid":"","lv_health_status":"failed","lv_check_needed":"-1","lv_kernel_major":"-1","lv_kernel_minor":"-1"}
	]}],"log":[]}`
	var datasets []fs.Dataset
	for _, name := range []string{"a", "b", "c", "a"} {
		datasets = append(datasets, fs.Dataset{Driver: fs.LVM, Name: "v/" + name, GUID: strings.ToUpper(name)})
	}
	datasets = append(datasets, fs.Dataset{Driver: fs.LVM, Name: "v/gone", GUID: "G"}, fs.Dataset{Driver: fs.LVM, Name: "v/none"})
	for name, c := range map[string]struct {
		missing, raid, pool, check string
		want                       []string
	}{
		"sound":             {"0", "", "", "0", nil},
		"a disk is away":    {"1", "partial", "", "0", []string{"volume group v: lacks a physical volume: v/a v/b v/c"}},
		"two are":           {"2", "", "", "0", []string{"volume group v: lacks 2 physical volumes: v/a v/b v/c"}},
		"a leg of a mirror": {"0", "partial", "", "0", []string{"logical volume v/c: LVM says of it: partial: v/c"}},
		"mirrors differ":    {"0", "mismatches exist", "", "0", []string{"logical volume v/c: its mirrors differ: v/c"}},
		"a full pool":       {"0", "", "out_of_data", "0", []string{"thin pool v/pool: it has no room for data: v/a v/b"}},
		"a pool to be checked": {"0", "", "metadata_read_only", "1", []string{
			"thin pool v/pool: its metadata is read-only: v/a v/b", "thin pool v/pool: its metadata needs a check: v/a v/b",
		}},
	} {
		all, err := parseConditions([]byte(strings.NewReplacer("MISSING", c.missing, "RAID", c.raid, "POOL", c.pool, "CHECK", c.check).Replace(report)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range tell(all, datasets) {
			what, _, _ := strings.Cut(f.What, ",")
			got = append(got, f.On+": "+what+": "+strings.Join(f.Datasets, " "))
			if f.Do == "" || !f.Grave {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestHealthOfMounts(t *testing.T) {
	c := condition{vg: "v", name: "a"}
	m := proc.Mount{Point: "/srv/a b", Type: "ext4", Source: "/dev/v/a"}
	if found := onMount(c, m, 0); len(found) > 0 {
		t.Errorf("sound: %+v", found)
	}
	m.FilesystemReadOnly = true
	found := onMount(c, m, 3)
	if len(found) != 2 || found[0].On != "ext4 at /srv/a b" || !strings.Contains(found[0].What, "read-only") || !strings.Contains(found[1].What, "errors in itself (3)") {
		t.Errorf("got %+v", found)
	}
	m.Type = "xfs"
	if name := errorsOf("/sys", m); name != "" {
		t.Errorf("of XFS: %s", name)
	}
}
