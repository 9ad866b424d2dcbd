package btrfs

import (
	"strings"
	"testing"
)

func TestReadMounts(t *testing.T) {
	const table = `22 27 0:21 / /proc rw,relatime - proc proc rw
29 28 0:40 / /data rw,relatime shared:1 - btrfs /dev/sdb rw,ssd,space_cache=v2,subvolid=5,subvol=/
30 28 0:40 /@\040one\012\134040 /mnt/new\012line\011tab\134back rw,relatime master:2 propagate_from:3 - btrfs /dev/sdb rw,subvolid=256
31 28 0:41 / /ro\040mount ro,relatime - btrfs /dev/mapper/vg-a\040b rw,subvolid=5
32 28 0:42 / /ro ro,relatime - btrfs /dev/sdc ro,subvolid=5
33 28 0:43 / /#ü rw - ext4 /dev/sdd rw
`
	got, err := readMounts(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	want := mountTable{
		{29, "/data", "/", "/dev/sdb", 0, 40, false},
		{30, "/mnt/new\nline\ttab\\back", "/@ one\n\\040", "/dev/sdb", 0, 40, false},
		{31, "/ro mount", "/", "/dev/mapper/vg-a b", 0, 41, false},
		{32, "/ro", "/", "/dev/sdc", 0, 42, true},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

func TestCutDir(t *testing.T) {
	for _, c := range []struct {
		path, dir, rest string
		below           bool
	}{
		{"/a/b", "/a", "b", true},
		{"/a", "/a", "", true},
		{"/ab", "/a", "/ab", false},
		{"/a", "/", "a", true},
		{"/", "/", "", true},
		{"/", "/a", "/", false},
		{"a/b/c", "a/b", "c", true},
	} {
		if rest, below := cutDir(c.path, c.dir); below != c.below || below && rest != c.rest {
			t.Errorf("cutDir(%q, %q): got %q, %v", c.path, c.dir, rest, below)
		}
	}
}

func TestParseIdentity(t *testing.T) {
	const text = "btrfs:0f8fad5b-d9cb-469f-a165-70867728950e/257"
	id, err := parseIdentity(text)
	if err != nil || id.String() != text || id.folder() != "257" {
		t.Errorf("got %v, %v", id, err)
	}
	for _, bad := range []string{"", "zfs:tank", "btrfs:0f8fad5b-d9cb-469f-a165-70867728950e", "btrfs:0f8fad5b-d9cb-469f-a165-70867728950e/x", "btrfs:/5"} {
		if _, err := parseIdentity(bad); err == nil {
			t.Errorf("%q is taken for a subvolume", bad)
		}
	}
}
