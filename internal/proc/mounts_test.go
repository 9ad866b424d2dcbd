package proc

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The kernel's own lines, of hosts with Btrfs, ZFS, LVM and containers.
const recorded = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
29 28 0:40 / /data rw,relatime shared:1 - btrfs /dev/sdb rw,ssd,space_cache=v2,subvolid=5,subvol=/
30 28 0:40 /@\040one\012\134040 /mnt/new\012line\011tab\134back rw,relatime master:2 propagate_from:3 - btrfs /dev/sdb rw,subvolid=256
31 28 0:41 / /ro\040mount ro,relatime - btrfs /dev/mapper/vg-a\040b rw,subvolid=5
32 28 0:42 / /ro ro,relatime - btrfs /dev/sdc ro,subvolid=5
40 22 0:43 / /tank/with\040space rw,relatime shared:2 - zfs tank/with\040space rw,xattr,noacl
43 22 253:16 / /data/lv ro,relatime shared:5 - ext4 /dev/mapper/vg-lv ro
44 43 253:17 /#sub /data/lv rw - xfs /dev/mapper/vg-ü rw
`

func readRecorded(t *testing.T) Table {
	t.Helper()
	table, err := ReadTable(strings.NewReader(recorded))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestReadTable(t *testing.T) {
	want := Table{
		{22, Device{0, 21}, "/", "/proc", "proc", "proc", false, false},
		{27, Device{254, 0}, "/", "/", "ext4", "/dev/vda", false, false},
		{29, Device{0, 40}, "/", "/data", "btrfs", "/dev/sdb", false, false},
		{30, Device{0, 40}, "/@ one\n\\040", "/mnt/new\nline\ttab\\back", "btrfs", "/dev/sdb", false, false},
		{31, Device{0, 41}, "/", "/ro mount", "btrfs", "/dev/mapper/vg-a b", true, false},
		{32, Device{0, 42}, "/", "/ro", "btrfs", "/dev/sdc", true, true},
		{40, Device{0, 43}, "/", "/tank/with space", "zfs", "tank/with space", false, false},
		{43, Device{253, 16}, "/", "/data/lv", "ext4", "/dev/mapper/vg-lv", true, true},
		{44, Device{253, 17}, "/#sub", "/data/lv", "xfs", "/dev/mapper/vg-ü", false, false},
	}
	got := readRecorded(t)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if table, err := ReadTable(strings.NewReader("22 27 0:21 / /proc rw")); err == nil {
		t.Errorf("a torn line was read as %+v", table)
	}
}

func TestMountsOfPaths(t *testing.T) {
	table := readRecorded(t)
	for _, c := range []struct {
		path      string
		at, above int // the mounts' numbers, 0 for none
	}{
		{"/", 27, 27},
		{"/data", 29, 29},
		{"/data/x", 0, 29},
		{"/database", 0, 27},
		{"/data/lv", 44, 44}, // the later one hides the earlier
		{"/data/lv/a", 0, 44},
		{"/tank/with space/x", 0, 40},
		{"relative", 0, 0},
	} {
		if m, ok := table.At(c.path); m.ID != c.at || ok != (c.at != 0) {
			t.Errorf("at %s: got %+v, want %d", c.path, m, c.at)
		}
		if m, ok := table.Above(c.path); m.ID != c.above || ok != (c.above != 0) {
			t.Errorf("above %s: got %+v, want %d", c.path, m, c.above)
		}
	}
}

func TestBelow(t *testing.T) {
	table := readRecorded(t)
	for path, want := range map[string][]int{
		"/data":    {44},
		"/data/lv": nil,
		"/tank":    {40},
		"/":        {22, 29, 30, 31, 32, 40, 44},
	} {
		var got []int
		for _, m := range table.Below(path) {
			got = append(got, m.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("below %s: got %v, want %v", path, got, want)
		}
	}
}

// A number that is in the table counts, otherwise the path: what a process in
// a mount namespace of its own sees has other numbers, and older kernels give
// none.
func TestThrough(t *testing.T) {
	table := readRecorded(t)
	for _, c := range []struct {
		path string
		mask uint32
		id   uint64
		want int
	}{
		{"/data/x", unix.STATX_MNT_ID, 31, 31},
		{"/data/x", unix.STATX_MNT_ID, 999, 29},
		{"/data/x", 0, 31, 29},
		{"relative", 0, 0, 0},
	} {
		m, ok := table.Through(c.path, unix.Statx_t{Mask: c.mask, Mnt_id: c.id})
		if m.ID != c.want || ok != (c.want != 0) {
			t.Errorf("%+v: got %+v, %v", c, m, ok)
		}
	}
	btrfs := table.Only(func(m Mount) bool { return m.Type == "btrfs" })
	if m, ok := btrfs.Above("/data/lv/a"); !ok || m.ID != 29 || len(btrfs) != 4 {
		t.Errorf("of Btrfs only: got %+v of %+v", m, btrfs)
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
		{"", "/", "", true},
		{"", "/a", "", false},
		{"", "", "", true},
		{"/", "/a", "/", false},
		{"a/b/c", "a/b", "c", true},
	} {
		if rest, below := CutDir(c.path, c.dir); below != c.below || below && rest != c.rest {
			t.Errorf("CutDir(%q, %q): got %q, %v", c.path, c.dir, rest, below)
		}
	}
}

// The tables of this host, whatever it is, have a root.
func TestTablesOfThisHost(t *testing.T) {
	for name, read := range map[string]func() (Table, error){"own": Own, "host": Host} {
		table, err := read()
		if _, ok := table.At("/"); err != nil || !ok {
			t.Errorf("%s: got %+v, %v", name, table, err)
		}
	}
	if _, err := Of(1 << 30); err == nil {
		t.Error("a process that is not there has a mount table")
	}
}
