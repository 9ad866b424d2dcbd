package zfs

import (
	"testing"

	"snapd/internal/fs"
)

// TestOursOf: as zfs list -Hp prints them, of several datasets; others' snapshots
// were left out before, and one whose dataset is not listed is.
func TestOursOf(t *testing.T) {
	instants, err := parseInstants([][]string{
		{"tank/my data@snapd_20261121T101112Z_01jd8k2m5x7qf3za", "12", "200", "1795252272", "0"},
		{"tank/my data@snapd_20261120T101112Z_01jd8k2m5x7qf3zb", "11", "100", "1795165872", "1"},
		{"tank@snapd_20261121T101112Z_01jd8k2m5x7qf3za", "10", "200", "1795252272", "0"},
		{"tank/renamed@snapd_20261121T101112Z_01jd8k2m5x7qf3za", "9", "200", "1795252272", "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := oursOf(instants, [][]string{{"tank", "1"}, {"tank/my data", "2"}}, "zfs:7")
	if len(got) != 3 || got[0].Dataset != (fs.Dataset{Driver: fs.ZFS, Name: "tank", GUID: "1", Domain: "zfs:7"}) ||
		got[1].GUID != "11" || got[2].GUID != "12" || got[2].Dataset.GUID != "2" || got[2].Name != "snapd_20261121T101112Z_01jd8k2m5x7qf3za" {
		t.Errorf("got %+v", got)
	}
}
