//go:build guest

package lvm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// unknownDevice makes a device in a pool that LVM does not know, with data, and
// with the id that LVM will give next. It returns the id.
func unknownDevice(t testing.TB, d *Driver, vg, pool string) uint64 {
	t.Helper()
	all, err := d.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := all.named(vg, pool)
	next := uint64(1)
	for _, v := range all {
		if v.poolUUID == p.uuid {
			next = max(next, v.thinID+1)
		}
	}
	command(t, "dmsetup", "message", poolDevice(p), "0", fmt.Sprint("create_thin ", next))
	withDevice(t, vg, pool, next, func(node string) {
		command(t, "sh", "-c", "yes 'another volume' | dd of="+node+" bs=1M count=8 iflag=fullblock oflag=direct conv=nocreat status=none")
	})
	return next
}

// withDevice shows what the pool has under an id.
func withDevice(t testing.TB, vg, pool string, id uint64, see func(node string)) {
	t.Helper()
	name := "look." + strconv.FormatUint(id, 10)
	command(t, "dmsetup", "create", name, "--table", fmt.Sprintf("0 131072 thin /dev/mapper/%s %d", poolDevice(volume{vg: vg, name: pool}), id))
	defer command(t, "dmsetup", "remove", "--retry", name)
	see("/dev/mapper/" + name)
}

// intact fails the test unless the device still has its data.
func intact(t testing.TB, node string) {
	t.Helper()
	if same := command(t, "sh", "-c", "dd if="+node+" bs=1M count=8 status=none | tr -d '\\n' | sed 's/another volume//g' | wc -c"); same != "8" { // of the last line
		t.Errorf("%s: of the device's data %s bytes are others", node, same)
	}
}

// TestUnknownDevice is about a pool with a device that LVM does not know, as a
// power cut leaves one, under the id that LVM gives next. See newness.go.
func TestUnknownDevice(t *testing.T) {
	vg := newGroup(t, 1<<30)
	newPool(t, vg, "po-ol", 500<<20)
	k := newDesk(t, vg, "po-ol", "ext4", 64<<20)
	k.write("a", 1<<20)
	s := k.snapshot()
	file := k.stream(s, nil)
	d := k.driver
	restore := func(name string) error {
		r, err := d.Receive(t.Context(), k.place(name), fs.Placement{})
		if err != nil {
			t.Fatal(err)
		}
		if err = applyFile(t, r, file, s.GUID, ""); err == nil {
			_, err = r.Finish(t.Context())
		}
		return errors.Join(err, r.Close())
	}
	found := func() []string {
		return strings.Fields(command(t, "lvs", "--noheadings", "-o", "lv_name", "-S", `lv_name=~"^snapd_(found|restore)_"`, vg))
	}
	swept := func(want int) {
		t.Helper()
		if removed, err := d.Sweep(t.Context()); err != nil && !errors.Is(err, errNotNew) || len(removed) != want {
			t.Errorf("sweep: got %q, %v; want %d removed", removed, err, want)
		}
	}
	refused := func(what string, id uint64, err error) {
		t.Helper()
		if !errors.Is(err, errUnknownDevice) || !strings.Contains(advice.Of(err), fmt.Sprintf("0 'delete %d'", id)) {
			t.Errorf("%s: got %v, advice %q", what, err, advice.Of(err))
		}
		t.Log(err, "\n", advice.Of(err))
	}
	again := func() error {
		p, err := d.Prepare(t.Context(), fs.SnapshotName(time.Now(), "x"), []fs.Dataset{k.dataset})
		if err != nil {
			return err
		}
		return errors.Join(p.Take(), p.Close())
	}
	id := unknownDevice(t, d, vg, "po-ol")
	refused("a snapshot", id, again())
	refused("a restore", id, restore("restored"))
	_, err := d.CheckFilesystem(t.Context(), k.dataset)
	refused("a copy to be checked", id, err)
	// Where the pool is not active LVM would have it delete the device.
	unmount(t, k.dir)
	command(t, "vgchange", "-q", "-a", "n", vg)
	err = again()
	if active := command(t, "lvs", "--noheadings", "-o", "lv_active", vg+"/po-ol"); active != "" {
		t.Errorf("the pool is %q", active)
	}
	command(t, "vgchange", "-q", "-a", "y", vg)
	refused("a snapshot in an inactive pool", id, err)
	withDevice(t, vg, "po-ol", id, func(node string) { intact(t, node) })
	if left := found(); len(left) > 0 {
		t.Fatalf("left are %q", left)
	}
	// As if it had come just after that look, and the process had ended.
	unproven := func() {
		command(t, "lvcreate", "-q", "-y", "-n", workName(), "-k", "y", "-W", "n", "--addtag", tagOwner+"gone.1.1",
			"--addtag", tagUnproven, "-V", "64M", "--thinpool", vg+"/po-ol")
	}
	unproven()
	swept(0)
	left := found()
	if len(left) != 1 || !strings.HasPrefix(left[0], foundPrefix+fmt.Sprint(id)+"_") {
		t.Fatalf("left are %q", left)
	}
	withDevice(t, vg, "po-ol", id, func(node string) { intact(t, node) })
	unproven() // this one is new
	swept(1)
	if err := restore("restored"); err != nil {
		t.Fatal(err)
	}
	k.same("restored", s, vg+"/restored")
	if err := again(); err != nil {
		t.Error(err)
	}
	removeVolume(t, vg, left[0])
	if left := found(); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
}
