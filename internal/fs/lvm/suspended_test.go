package lvm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"
)

func TestSuspended(t *testing.T) {
	const (
		group = "ZP1NS4Zd0ZdzZ9eGZ8li8ZCgHKZMPM2a"
		other = "ZP1NS4Zd0ZdzZ9eGZ8li8ZCgHKZMPM2b"
		data  = "EUHUC8O3Fwxz1HlJd7PqLWSiEeyj57rN"
	)
	sys := t.TempDir()
	for name, c := range map[string]struct{ uuid, suspended string }{
		"vg-one":      {"LVM-" + group + data, "1\n"},
		"vg-one-real": {"LVM-" + group + data + "-real\n", "1\n"},
		"vg-two":      {"LVM-" + group + strings.ToLower(data), "0\n"},
		"away-one":    {"LVM-" + other + data, "1\n"},
		"luks":        {"CRYPT-LUKS2-" + group, "1\n"},
		"bare":        {"", "1\n"},
	} {
		dir := filepath.Join(sys, "block", "dm-"+name, "dm")
		for file, text := range map[string]string{"name": name + "\n", "uuid": c.uuid, "suspended": c.suspended} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := suspended(sys, map[string]bool{group: true})
	if want := []stuck{{"vg-one", data}, {"vg-one-real", data}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	v := volume{vgUUID: "ZP1NS4-d0Zd-z9eG-8li8-CgHK-UFPI-MPM2as", uuid: "u"}
	if got := groupOf(datasetOf(v)); got != "ZP1NS4d0Zdz9eG8li8CgHKUFPIMPM2as" {
		t.Errorf("the group of %s is %q", datasetOf(v).Domain, got)
	}
	if got := groupOf(fs.Dataset{Driver: fs.ZFS, Domain: "zfs:1/2"}); got != "" {
		t.Errorf("got %q", got)
	}
}
