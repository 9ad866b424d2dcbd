package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"snapd/internal/fs"
)

func TestStoragesHere(t *testing.T) {
	const root = "29 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	write := func(sys, name, text string) {
		t.Helper()
		path := filepath.Join(sys, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	classic, thinPool := t.TempDir(), t.TempDir()
	write(classic, "block/dm-0/dm/uuid", "CRYPT-LUKS2-x\n")
	write(classic, "block/dm-1/dm/uuid", "LVM-abc\n")
	write(thinPool, "block/dm-0/dm/uuid", "LVM-abc-tpool\n")
	write(thinPool, "module/zfs/version", "2.3\n")
	for name, c := range map[string]struct {
		mountinfo, sys string
		want           []string
		thin           bool
	}{
		"nothing": {root, t.TempDir(), nil, false},
		"Btrfs":   {root + "30 29 0:40 /vol /srv rw - btrfs /dev/vdb rw\n", t.TempDir(), []string{fs.Btrfs}, false},
		"classic": {root, classic, []string{fs.LVM}, false},
		"thin":    {root, thinPool, []string{fs.LVM, fs.ZFS}, true},
	} {
		here, thin := storagesHere([]byte(c.mountinfo), c.sys)
		var got []string
		for storage, is := range here {
			if is {
				got = append(got, storage)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) || thin != c.thin {
			t.Errorf("%s: got %q, thin %v", name, got, thin)
		}
	}
}
