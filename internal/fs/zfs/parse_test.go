package zfs

import (
	"errors"
	"os"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

func TestParseProperties(t *testing.T) {
	text, err := os.ReadFile("testdata/properties")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]map[string]string)
	if err := parseProperties(string(text), map[string]string{"tank/a": "1", "tank/vol": "2"}, got); err != nil {
		t.Fatal(err)
	}
	if got["1"]["my:note"] != "two\nlines\tand a tab" || got["1"]["quota"] != "104857600" || got["1"]["type"] != filesystem || got["2"]["type"] != volume {
		t.Errorf("got %q", got)
	}
	for _, never := range []string{"mountpoint", "canmount", "sharenfs", "sharesmb", "keylocation", "compression"} {
		if v, there := got["1"][never]; there {
			t.Errorf("%s=%s is kept", never, v)
		}
	}
	if err := parseProperties("nonsense\n", nil, got); err == nil {
		t.Error("nonsense is taken")
	}
}

func TestNeverRestored(t *testing.T) {
	for _, name := range []string{"mountpoint", "canmount", "sharenfs", "sharesmb", "keylocation", "keyformat", "encryption", "zoned", "volmode", fs.PropertyOwner, "nothing"} {
		if restorable(name) {
			t.Errorf("%s would be set", name)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, good := range []string{"tank", "tank/a", "tank/with space/x", "tank/a:b-c_d.e", "tank/" + strings.Repeat("n", 250)} {
		if err := checkName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "/tank", "tank/", "tank//a", "tank/../b", "tank/.", "-o", "tank/a@b", "tank/a#b", "tank/ü", "tank/a%b", "1tank", "tank/" + strings.Repeat("n", 251), "tank/a\n"} {
		if checkName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestExplain goes by what zfs 2.3.9 wrote.
func TestExplain(t *testing.T) {
	for said, want := range map[string]error{
		"cannot open 'tank/nothing': dataset does not exist":                                                                  fs.ErrNotFound,
		"cannot open 'tank': no such pool":                                                                                    fs.ErrNotFound,
		"cannot create snapshot 'tank/a@s': dataset already exists":                                                           fs.ErrExists,
		"cannot create snapshot 'tank/a@s': out of space":                                                                     fs.ErrNoSpace,
		"cannot receive new filesystem stream: out of space":                                                                  fs.ErrNoSpace,
		"cannot receive: destination tank/small/target space quota exceeded.":                                                 fs.ErrNoSpace,
		"cannot destroy snapshot tank/a@s: it's being held. Run 'zfs holds -r tank/a@s' to see holders.":                      fs.ErrBusy,
		"cannot destroy 'tank/a': dataset is busy":                                                                            fs.ErrBusy,
		"cannot unmount '/tank/a': pool or dataset is busy":                                                                   fs.ErrBusy,
		"warning: cannot send 'tank/a@s': Invalid cross-device link":                                                          fs.ErrBase,
		"cannot receive incremental stream: most recent snapshot of tank/b does not\nmatch incremental source":                fs.ErrBase,
		"cannot receive incremental stream: IV set guid mismatch. See the 'zfs receive' man page section":                     fs.ErrBase,
		"cannot receive new filesystem stream: destination 'tank/newa' exists\nmust specify -F to overwrite it":               fs.ErrExists,
		"cannot receive new filesystem stream: checksum mismatch or incomplete stream.\nPartially received snapshot is saved": zfsstream.ErrInvalid,
		"cannot receive: invalid stream (bad magic number)":                                                                   zfsstream.ErrInvalid,
		"cannot mount 'tank/enc': encryption key not loaded":                                                                  ErrKey,
		"cannot open 'tank': pool I/O is currently suspended":                                                                 ErrSuspended,
	} {
		err := explain(&run.Error{Argv: []string{"zfs"}, Code: 1, Stderr: said, Err: errors.New("exit status 1")})
		if !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", said, err, want)
		}
	}
	plain := &run.Error{Argv: []string{"zfs"}, Code: 2, Stderr: "something else", Err: errors.New("exit status 2")}
	if got := explain(plain); !errors.Is(got, plain) || errors.Is(got, fs.ErrNotFound) {
		t.Errorf("got %v", got)
	}
	if explain(nil) != nil {
		t.Error("nothing becomes an error")
	}
}

func TestParseEstimate(t *testing.T) {
	if n, err := parseEstimate("full\ttank/a@s\t12912\nsize\t12912\n"); n != 12912 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := parseEstimate("full\ttank/a@s\t12912\n"); err == nil {
		t.Error("an output without a size is taken")
	}
}

// What is mounted belongs to a dataset of ZFS, or to none.
func TestDatasetOfMount(t *testing.T) {
	table, err := proc.ReadTable(strings.NewReader(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:40 / /tank/with\040space rw,relatime shared:2 - zfs tank/with\040space rw,xattr,noacl
41 40 0:41 /sub /srv/bind rw,relatime shared:3 - zfs tank/a rw,xattr,noacl
42 40 0:42 / /tank/with\040space/child rw,relatime shared:4 - zfs tank/with\040space/child rw,xattr,noacl
43 22 230:16 / /mnt/vol ro,relatime shared:5 - ext4 /dev/zd16 ro
`))
	if err != nil || len(table) != 5 {
		t.Fatalf("got %v, %v", table, err)
	}
	if name, err := datasetAt(table[1]); name != "tank/with space" || err != nil {
		t.Errorf("got %q, %v", name, err)
	}
	m, found := table.Through("/tank/with space/x", unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 40})
	if !found || m.ID != 40 {
		t.Errorf("got %+v", m)
	}
	if got := nested(table, m, "/tank/with space"); len(got) != 1 || got[0] != "/tank/with space/child" {
		t.Errorf("got %q", got)
	}
	if m, found := table.Through("/srv/bind/deep", unix.Statx_t{Mask: unix.STATX_MNT_ID, Mnt_id: 999}); !found || m.ID != 41 {
		t.Errorf("by path: got %+v", m)
	}
	if _, err := datasetAt(table[0]); !errors.Is(err, fs.ErrNotMine) {
		t.Errorf("ext4: got %v", err)
	}
}
