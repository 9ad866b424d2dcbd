package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// Tags of what is ours; a name of ours alone makes nothing ours.
const (
	tagOurs      = "snapd"           // a snapshot that Take made
	tagOrder     = "snapd.order="    // and the number that orders it
	tagOrigin    = "snapd.origin="   // and the UUID of the volume it is of
	tagTemporary = "snapd.temporary" // goes when its process does
	tagUnproven  = "snapd.unproven"  // made for a restore, and perhaps not new: see prove
	tagOwner     = "snapd.owner="    // and that process
	fieldsLV     = "vg_name,vg_uuid,vg_seqno,vg_exported,vg_partial,vg_lock_type,vg_free,vg_extent_size," +
		"lv_uuid,lv_name,lv_size,origin_size,origin_uuid,pool_lv,pool_lv_uuid,lv_time,lv_tags,data_percent,metadata_percent,snap_percent," +
		"lv_kernel_major,lv_kernel_minor,lv_device_open,lv_layout,lv_role,lv_merging,lv_snapshot_invalid,segtype,thin_id,transaction_id,chunk_size,zero,discards"
)

// volume is one logical volume as lvs reports it.
type volume struct {
	vg          string
	vgUUID      string
	vgSeqno     uint64
	vgFree      int64 // bytes
	extent      int64 // bytes
	vgTrouble   error // why the volume group must be left alone; nil when it need not
	uuid        string
	name        string // without the brackets of hidden volumes
	hidden      bool
	size        int64 // bytes, as one reads it
	cowSize     int64 // bytes, of a classic snapshot: the room it has for what changes
	originUUID  string
	pool        string // name of the thin pool; "" for others
	poolUUID    string
	made        time.Time
	tags        []string
	dataUse     float64 // per cent, of a pool, thin volume or classic snapshot
	metaUse     float64 // per cent, of a pool
	major       int     // -1 when it is not active
	minor       int
	open        bool
	layout      []string
	roles       []string
	merging     bool
	invalid     bool // a classic snapshot that overflowed
	segtype     string
	thinID      uint64
	transaction uint64
	chunk       int64 // bytes, of a pool or classic snapshot
	zero        bool  // of a pool: new blocks are zeroed
	discards    string
	mode        string // of a pool, if status was asked: rw, ro, out_of_data_space, Fail
}

func (v volume) full() string  { return v.vg + "/" + v.name }
func (v volume) active() bool  { return v.major >= 0 }
func (v volume) thin() bool    { return v.segtype == "thin" }
func (v volume) classic() bool { return !v.thin() && v.originUUID != "" }
func (v volume) isPool() bool  { return v.segtype == "thin-pool" }

// kernel is the number that the kernel has given to an active volume.
func (v volume) kernel() proc.Device {
	return proc.Device{Major: uint32(v.major), Minor: uint32(v.minor)}
}

// device is the node of an active volume. It has no name that another could
// take, and is there without udev's links.
func (v volume) device() string { return fmt.Sprintf("/dev/dm-%d", v.minor) }

// instant is what a stream calls this snapshot.
func (v volume) instant() lvmstream.Instant {
	if v.thin() {
		return lvmstream.Instant{UUID: v.uuid, ThinID: v.thinID, Transaction: v.transaction}
	}
	return lvmstream.Instant{UUID: v.uuid}
}

// tag returns what stands behind the tag that begins with prefix.
func (v volume) tag(prefix string) (string, bool) {
	for _, t := range v.tags {
		if rest, found := strings.CutPrefix(t, prefix); found {
			return rest, true
		}
	}
	return "", false
}

// dmName is the name that device-mapper has for a volume, or for a hidden
// device of it: a dash in a name is doubled.
func dmName(vg, lv, layer string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	name := double(vg) + "-" + double(lv)
	if layer != "" {
		name += "-" + layer
	}
	return name
}

// volumes is everything that LVM knows of, at one moment.
type volumes []volume

func (all volumes) byUUID(uuid string) (volume, bool) {
	return all.find(func(v volume) bool { return v.uuid == uuid })
}

func (all volumes) named(vg, name string) (volume, bool) {
	return all.find(func(v volume) bool { return v.vg == vg && v.name == name })
}

func (all volumes) find(is func(volume) bool) (volume, bool) {
	if i := slices.IndexFunc(all, is); i >= 0 {
		return all[i], true
	}
	return volume{}, false
}

// pool returns the thin pool of a thin volume.
func (all volumes) pool(of volume) (volume, error) {
	if p, ok := all.byUUID(of.poolUUID); ok && of.poolUUID != "" {
		return p, nil
	}
	return volume{}, fmt.Errorf("thin pool %s/%s: %w", of.vg, of.pool, fs.ErrNotFound)
}

// list asks LVM for all volumes, or for those of the groups named.
// What a killed probe left goes first: LVM's commands wait for any device that
// is suspended.
func (d *Driver) list(ctx context.Context, groups ...string) (volumes, error) {
	if err := d.sweepProbes(ctx); err != nil {
		return nil, fmt.Errorf("remove what a killed probe left: %w", err)
	}
	argv := []string{"lvs", "-a", "--reportformat", "json", "--binary", "--units", "b", "--nosuffix", "--config", `report{time_format="%s"}`, "-o", fieldsLV}
	d.commands.Lock()
	defer d.commands.Unlock()
	out, err := run.Output(ctx, append(argv, groups...)...)
	found, parseErr := parseReport(out)
	if err == nil {
		return found, parseErr
	}
	// A volume group in trouble makes lvs fail and still report the others.
	if parseErr == nil && len(found) > 0 && ctx.Err() == nil {
		return found, nil
	}
	return nil, explain(err)
}

// checkGroup says why a volume group must be left alone, also one that has no
// volumes: fs.ErrNotFound when there is none of that name.
func (d *Driver) checkGroup(ctx context.Context, name string) error {
	d.commands.Lock()
	defer d.commands.Unlock()
	out, err := run.Output(ctx, "vgs", "--reportformat", "json", "--binary", "-o", "vg_name,vg_exported,vg_partial,vg_lock_type", name)
	if failed := (*run.Error)(nil); errors.As(err, &failed) && strings.Contains(failed.Stderr, "not found") {
		return advice.With(fmt.Errorf("volume group %s: %w", name, fs.ErrNotFound), "name one of those that vgs shows")
	}
	if err != nil {
		return explain(err)
	}
	return parseGroup(out)
}

// parseGroup reads what vgs printed of one group.
func parseGroup(out []byte) error {
	rows, err := parseRows(out, "vg")
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("of %d groups", len(rows))
	}
	if err != nil {
		return fmt.Errorf("read what vgs printed: %w", err)
	}
	p := rowParser{row: rows[0]}
	trouble := p.trouble()
	return errors.Join(p.err, trouble)
}

// parseRows reads a report of LVM's as JSON: of volumes (lv), or groups (vg).
func parseRows(out []byte, of string) (rows []map[string]string, err error) {
	var doc struct {
		Report []map[string][]map[string]string `json:"report"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, err
	}
	for _, r := range doc.Report {
		rows = append(rows, r[of]...)
	}
	return rows, nil
}

// parseReport reads what lvs printed. A volume of several segments is printed
// several times.
func parseReport(out []byte) (volumes, error) {
	rows, err := parseRows(out, "lv")
	if err != nil {
		return nil, fmt.Errorf("read what lvs printed: %w", err)
	}
	var all volumes
	for _, row := range rows {
		v, err := parseVolume(row)
		if err != nil {
			return nil, fmt.Errorf("read what lvs printed of %s/%s: %w", row["vg_name"], row["lv_name"], err)
		}
		if _, seen := all.byUUID(v.uuid); !seen {
			all = append(all, v)
		}
	}
	return all, nil
}

func parseVolume(row map[string]string) (volume, error) {
	p := rowParser{row: row}
	v := volume{
		vg: p.text("vg_name"), vgUUID: p.text("vg_uuid"), vgSeqno: p.number("vg_seqno"), vgFree: p.size("vg_free"), extent: p.size("vg_extent_size"),
		uuid: p.text("lv_uuid"), size: p.size("lv_size"), originUUID: p.text("origin_uuid"),
		pool: bare(p.text("pool_lv")), poolUUID: p.text("pool_lv_uuid"),
		made:    time.Unix(int64(p.number("lv_time")), 0).UTC(),
		dataUse: p.percent("data_percent"), metaUse: p.percent("metadata_percent"),
		major: p.device("lv_kernel_major"), minor: p.device("lv_kernel_minor"), open: p.yes("lv_device_open"),
		layout: strings.Split(p.text("lv_layout"), ","), roles: strings.Split(p.text("lv_role"), ","),
		merging: p.yes("lv_merging"), invalid: p.yes("lv_snapshot_invalid"),
		segtype: p.text("segtype"), thinID: p.number("thin_id"), transaction: p.number("transaction_id"), chunk: p.size("chunk_size"),
		zero: p.yes("zero"), discards: p.text("discards"),
	}
	if tags := p.text("lv_tags"); tags != "" {
		v.tags = strings.Split(tags, ",")
	}
	v.name = bare(p.text("lv_name"))
	v.hidden = v.name != p.text("lv_name")
	v.vgTrouble = p.trouble()
	if origin := p.size("origin_size"); v.classic() {
		v.size, v.cowSize = origin, v.size
	}
	if p.err == nil && (v.uuid == "" || v.name == "" || v.vg == "") {
		p.err = errors.New("it has no name or UUID")
	}
	return v, p.err
}

// bare is a name without the brackets that hidden volumes are shown in.
func bare(name string) string { return strings.TrimSuffix(strings.TrimPrefix(name, "["), "]") }

// rowParser keeps the first error.
type rowParser struct {
	row map[string]string
	err error
}

func (p *rowParser) text(field string) string {
	s, there := p.row[field]
	if !there && p.err == nil {
		p.err = advice.With(fmt.Errorf("there is no %s: this version of LVM is older than 2.03.11", field), "install LVM 2.03.11 or later")
	}
	return s
}

func (p *rowParser) number(field string) uint64 {
	s := p.text(field)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", field, err)
	}
	return n
}

func (p *rowParser) size(field string) int64 { return int64(p.number(field)) }

func (p *rowParser) percent(field string) float64 {
	s := p.text(field)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%s: %w", field, err)
	}
	return n
}

func (p *rowParser) device(field string) int {
	n, err := strconv.Atoi(p.text(field))
	if err != nil {
		return -1
	}
	return n
}

// yes reads a field that --binary shows as 1; what LVM does not know is -1.
func (p *rowParser) yes(field string) bool { return p.text(field) == "1" }

func (p *rowParser) trouble() error {
	return groupTrouble(p.text("vg_name"), p.yes("vg_exported"), p.yes("vg_partial"), p.text("vg_lock_type"))
}

// groupTrouble says why a volume group must be left alone.
func groupTrouble(vg string, exported, partial bool, lock string) error {
	switch {
	case exported:
		return advice.With(fmt.Errorf("volume group %s is exported", vg), "import it with vgimport %s, or leave it out", vg)
	case partial:
		return advice.With(fmt.Errorf("volume group %s lacks a physical volume", vg), "bring it back first: vgs and pvs show which one is missing")
	case lock != "" && lock != "none":
		return advice.With(fmt.Errorf("volume group %s is shared between hosts (lock type %s), and snapd only takes those of one host", vg, lock), "leave it out")
	}
	return nil
}
