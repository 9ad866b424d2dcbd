package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// fieldsHealth are what LVM knows of the health of volumes.
const fieldsHealth = "vg_name,vg_missing_pv_count,lv_uuid,lv_name,pool_lv_uuid,lv_health_status,lv_check_needed,lv_kernel_major,lv_kernel_minor"

// condition is how one logical volume is.
type condition struct {
	vg, name   string
	uuid, pool string // pool is the UUID of a thin volume's pool
	missing    int    // physical volumes of the group
	health     string // as lvs has it, "" for one that is well
	check      bool   // of a pool: the kernel wants its metadata checked
	major      int    // -1 when it is not active
	minor      int
}

func (c condition) full() string { return c.vg + "/" + c.name }

// Health implements fs.HealthTeller: what LVM says of the volumes, their pools
// and groups, and the kernel of the filesystems on them.
func (d *Driver) Health(ctx context.Context, datasets []fs.Dataset) ([]fs.Finding, error) {
	if !slices.ContainsFunc(datasets, func(s fs.Dataset) bool { return s.Driver == fs.LVM }) {
		return nil, nil
	}
	all, err := d.conditions(ctx)
	if err != nil {
		return nil, err
	}
	mounts, err := proc.Host()
	found := tell(all, datasets)
	for _, dataset := range datasets {
		c, here := conditionOf(all, dataset.GUID)
		if !here || c.major < 0 || err != nil {
			continue
		}
		more, unknown := onVolume(c, mounts)
		err = errors.Join(err, unknown)
		for _, f := range more {
			found = add(found, f, dataset.Name)
		}
	}
	return found, err
}

func (d *Driver) conditions(ctx context.Context) ([]condition, error) {
	d.commands.Lock()
	defer d.commands.Unlock()
	out, err := run.Output(ctx, "lvs", "-a", "--reportformat", "json", "--binary", "-o", fieldsHealth)
	all, parseErr := parseConditions(out)
	// A group in trouble makes lvs fail and still report all.
	if err != nil && (parseErr != nil || len(all) == 0) {
		return nil, explain(err)
	}
	return all, parseErr
}

func parseConditions(out []byte) ([]condition, error) {
	rows, err := parseRows(out, "lv")
	if err != nil {
		return nil, fmt.Errorf("read what lvs printed: %w", err)
	}
	var all []condition
	for _, row := range rows {
		p := rowParser{row: row}
		c := condition{
			vg: p.text("vg_name"), name: bare(p.text("lv_name")), uuid: p.text("lv_uuid"), pool: p.text("pool_lv_uuid"),
			missing: int(p.number("vg_missing_pv_count")), health: p.text("lv_health_status"), check: p.yes("lv_check_needed"),
			major: p.device("lv_kernel_major"), minor: p.device("lv_kernel_minor"),
		}
		if p.err != nil {
			return nil, fmt.Errorf("read what lvs printed of %s/%s: %w", row["vg_name"], row["lv_name"], p.err)
		}
		all = append(all, c)
	}
	return all, nil
}

func conditionOf(all []condition, uuid string) (condition, bool) {
	i := slices.IndexFunc(all, func(c condition) bool { return c.uuid == uuid })
	if uuid == "" || i < 0 {
		return condition{}, false
	}
	return all[i], true
}

// tell is what LVM knows to be wrong.
func tell(all []condition, datasets []fs.Dataset) []fs.Finding {
	var found []fs.Finding
	for _, dataset := range datasets {
		c, here := conditionOf(all, dataset.GUID)
		if !here || dataset.Driver != fs.LVM {
			continue
		}
		told := c.lacks()
		told = append(told, c.sick("logical volume ")...)
		if pool, ok := conditionOf(all, c.pool); ok {
			told = append(told, pool.sick("thin pool ")...)
		}
		for _, f := range told {
			found = add(found, f, dataset.Name)
		}
	}
	return found
}

// lacks tells of the group's physical volumes.
func (c condition) lacks() []fs.Finding {
	if c.missing == 0 {
		return nil
	}
	what := "lacks a physical volume"
	if c.missing > 1 {
		what = fmt.Sprintf("lacks %d physical volumes", c.missing)
	}
	return []fs.Finding{{
		On: "volume group " + c.vg, Grave: true, What: what + ", so that no restore point can be taken",
		Do: "bring it back: vgs and pvs show which one is missing",
	}}
}

// sick tells what is wrong with a volume itself. That it is partial is no more than
// that its group lacks something.
func (c condition) sick(kind string) []fs.Finding {
	var found []fs.Finding
	if c.health != "" && (c.health != "partial" || c.missing == 0) {
		found = append(found, means(c, kind))
	}
	if c.check {
		found = append(found, fs.Finding{
			On: kind + c.full(), Grave: true, What: "its metadata needs a check, and until then the kernel changes nothing in it",
			Do: "stop what uses it, deactivate it, then: lvconvert --repair " + c.full(),
		})
	}
	return found
}

// means says what the health of a volume means: see lvs(8), lv_attr bit 9.
func means(c condition, what string) fs.Finding {
	f := fs.Finding{On: what + c.full(), Grave: true, What: "LVM says of it: " + c.health, Do: "see: lvs -a -o +lv_health_status,devices " + c.vg}
	switch c.health {
	case "failed":
		f.What, f.Do = "it has failed, and nothing can be read or written", "see the kernel's log (journalctl -k), then: lvconvert --repair "+c.full()
	case "out_of_data":
		f.What, f.Do = "it has no room for data, and writers wait or fail", "extend it: lvextend -L +10G "+c.full()
	case "metadata_read_only":
		f.What, f.Do = "its metadata is read-only, so that nothing new can be written", "see the kernel's log (journalctl -k); extend its metadata if that is full (lvextend --poolmetadatasize +256M), or repair it (lvconvert --repair "+c.full()+")"
	case "refresh needed", "refresh":
		f.What, f.Do = "a device of it failed to read or write", "look at its devices, then: lvchange --refresh "+c.full()
	case "mismatches exist", "mismatches":
		f.What, f.Do = "its mirrors differ", "see which device is wrong with: lvs -o +raid_mismatch_count,devices "+c.full()+"; then: lvchange --syncaction repair "+c.full()
	}
	return f
}

// onVolume is what the kernel knows of the filesystem that is mounted on a volume.
func onVolume(c condition, mounts proc.Table) ([]fs.Finding, error) {
	above, err := stack(proc.Device{Major: uint32(c.major), Minor: uint32(c.minor)})
	if err != nil {
		return nil, err
	}
	m, mounted := mountedOn(mounts, above)
	if !mounted {
		return nil, nil
	}
	count := 0
	if text, err := os.ReadFile(errorsOf("/sys", m)); err == nil {
		count, _ = strconv.Atoi(strings.TrimSpace(string(text))) // what is no number says nothing
	}
	return onMount(c, m, count), nil
}

// errorsOf is where ext4 says how many errors it has found, a name of nothing for
// other filesystems.
func errorsOf(sys string, m proc.Mount) string {
	name, err := os.Readlink(fmt.Sprintf("%s/dev/block/%d:%d", sys, m.Device.Major, m.Device.Minor))
	if err != nil || m.Type != "ext4" && m.Type != "ext3" && m.Type != "ext2" {
		return ""
	}
	return sys + "/fs/ext4/" + name[strings.LastIndexByte(name, '/')+1:] + "/errors_count"
}

func onMount(c condition, m proc.Mount, count int) []fs.Finding {
	on := m.Type + " at " + m.Point
	var found []fs.Finding
	if m.FilesystemReadOnly {
		found = append(found, fs.Finding{
			On: on, Grave: true, What: "the filesystem is read-only, so that no application can write to " + c.full(),
			Do: "if you did not mount it so, see why in the kernel's log (journalctl -k): the kernel makes a filesystem read-only that it finds damaged",
		})
	}
	if count > 0 {
		found = append(found, fs.Finding{
			On: on, Grave: true, What: fmt.Sprintf("the filesystem has found errors in itself (%d), and is damaged until it is checked", count),
			Do: "unmount it, then: e2fsck -f " + m.Source,
		})
	}
	return found
}

// add adds a finding, or its dataset where it is there already.
func add(found []fs.Finding, f fs.Finding, dataset string) []fs.Finding {
	for i, o := range found {
		if o.On == f.On && o.What == f.What {
			if !slices.Contains(o.Datasets, dataset) {
				found[i].Datasets = append(o.Datasets, dataset)
			}
			return found
		}
	}
	f.Datasets = []string{dataset}
	return append(found, f)
}
