package proc

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSwaps(t *testing.T) {
	name := filepath.Join(t.TempDir(), "swaps")
	const text = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" +
		"/dev/vda2                               partition\t8388604\t\t0\t\t-2\n" +
		"/srv/my\\040swap                         file\t\t8388604\t\t0\t\t-3\n" +
		"/dev/zram0                              partition\t8388604\t\t0\t\t-4\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []Swap{{"/dev/vda2", false}, {"/srv/my swap", true}, {"/dev/zram0", false}}
	if got, err := readSwaps(name); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	// A kernel without swapping.
	if got, err := readSwaps(name + "-none"); err != nil || got != nil {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestDevice(t *testing.T) {
	d := Device{253, 300}
	if d.String() != "253:300" || DeviceOf(d.Number()) != d || d.Sys("dm", "uuid") != "/sys/dev/block/253:300/dm/uuid" {
		t.Errorf("got %s, %v, %s", d, DeviceOf(d.Number()), d.Sys("dm", "uuid"))
	}
	if got, err := Node(t.TempDir()); err == nil {
		t.Errorf("a directory is taken for the block device %s", got)
	}
}
