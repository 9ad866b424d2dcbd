package btrfs

import (
	"strings"
	"testing"

	"snapd/internal/proc"
)

// Only Btrfs counts, and only a filesystem that is read-only as a whole.
func TestMountsOfBtrfs(t *testing.T) {
	all, err := proc.ReadTable(strings.NewReader(`22 27 0:21 / /proc rw,relatime - proc proc rw
29 28 0:40 / /data rw,relatime shared:1 - btrfs /dev/sdb rw,ssd,space_cache=v2,subvolid=5,subvol=/
31 28 0:41 / /ro\040mount ro,relatime - btrfs /dev/mapper/vg-a\040b rw,subvolid=5
32 28 0:42 / /ro ro,relatime - btrfs /dev/sdc ro,subvolid=5
33 28 0:43 / /#ü rw - ext4 /dev/sdd ro
`))
	if err != nil {
		t.Fatal(err)
	}
	got := ofBtrfs(all)
	want := []struct {
		point    string
		readOnly bool
	}{{"/data", false}, {"/ro mount", false}, {"/ro", true}}
	if len(got.Table) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, m := range got.Table {
		if m.Point != want[i].point || m.FilesystemReadOnly != want[i].readOnly {
			t.Errorf("got %+v, want %+v", m, want[i])
		}
	}
}

// The top of a filesystem is the same whichever path leads to it: at its mount,
// at a directory in it, through a bind mount of a part.
func TestFromTop(t *testing.T) {
	whole, part := proc.Mount{Root: "/", Point: "/data"}, proc.Mount{Root: "/@/a", Point: "/srv/a"}
	for _, c := range []struct {
		file, inside string
		mount        proc.Mount
		want         string
	}{
		{"/data", "", whole, "/"},
		{"/data/x", "x", whole, "/"},
		{"/data/x/y", "x/y", whole, "/"},
		{"/data/@", "", whole, "/@"},
		{"/data/@/x", "x", whole, "/@"},
		{"/srv/a", "a", part, "/@"},
		{"/srv/a/x", "a/x", part, "/@"},
		{"/srv/a", "@/a", part, "/"}, // @ is a directory
	} {
		if got := fromTop(c.file, c.mount, c.inside); got != c.want {
			t.Errorf("%s: got %q, want %q", c.file, got, c.want)
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
