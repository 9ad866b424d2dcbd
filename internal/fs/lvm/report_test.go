package lvm

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/run"

	"github.com/google/go-cmp/cmp"
)

// lvs.json was recorded on Debian 13; lvs of other fields printed no
// origin_size then.
func TestParseReport(t *testing.T) {
	raw, err := os.ReadFile("testdata/lvs.json")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(raw), `"origin":`, `"origin_size":"", "origin":`)
	all, err := parseReport([]byte(text))
	if err != nil || len(all) != 7 {
		t.Fatalf("got %d volumes, %v", len(all), err)
	}
	data, _ := all.named("v-g.x+1", "d-a")
	if !data.thin() || !data.active() || !data.open || data.size != 1<<30 || data.device() != "/dev/dm-4" || data.classic() || data.hidden {
		t.Errorf("got %+v", data)
	}
	pool, err := all.pool(data)
	if err != nil || !pool.isPool() || pool.chunk != 65536 || pool.transaction != 3 || !pool.zero || pool.discards != "passdown" || pool.metaUse != 10.27 || pool.dataUse != 5.73 {
		t.Errorf("got %+v, %v", pool, err)
	}
	snap, _ := all.find(func(v volume) bool { return v.thinID == 2 })
	order, _ := snap.tag(tagOrder)
	if snap.active() || order != "12" || snap.originUUID != data.uuid || !snap.made.Equal(time.Unix(1795252016, 0)) || snap.instant() != (lvmstream.Instant{UUID: snap.uuid, ThinID: 2, Transaction: 1}) {
		t.Errorf("got %+v", snap)
	}
	spare, _ := all.named("v-g.x+1", "lvol0_pmspare")
	if !spare.hidden {
		t.Errorf("got %+v", spare)
	}
	for name, text := range map[string]string{"no JSON": "x", "a field is missing": `{"report":[{"lv":[{"vg_name":"a"}]}]}`, "empty": ""} {
		if got, err := parseReport([]byte(text)); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestParseGroup(t *testing.T) {
	const report = `{"report":[{"vg":[{"vg_name":"data", "vg_exported":"EXP", "vg_partial":"PART", "vg_lock_type":"LOCK"}]}],"log":[]}`
	for _, c := range []struct{ exported, partial, lock, want string }{
		{"0", "0", "", ""}, {"1", "0", "", "vgimport data"}, {"0", "1", "", "lacks a physical volume"}, {"0", "0", "sanlock", "shared"},
	} {
		text := strings.NewReplacer("EXP", c.exported, "PART", c.partial, "LOCK", c.lock).Replace(report)
		err := parseGroup([]byte(text))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error()+"; "+advice.Of(err), c.want)) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	for _, bad := range []string{"", "x", `{"report":[{"vg":[]}]}`, `{"report":[{"vg":[{"vg_name":"data"}]}]}`} {
		if err := parseGroup([]byte(bad)); err == nil {
			t.Errorf("%q is a group", bad)
		}
	}
}

func TestParsePoolStatus(t *testing.T) {
	got, err := parsePoolStatus("0 2097152 thin-pool 3 842/8192 939/16384 97 rw discard_passdown queue_if_no_space - 1024 \n")
	if want := (poolStatus{3, fill{842, 8192}, fill{939, 16384}, "97", "rw"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := parsePoolStatus("0 1 thin-pool Fail\n"); err != nil || got.mode != "Fail" || got.data.use() != 100 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "0 1 linear", "0 1 thin-pool x y z - rw"} {
		if _, err := parsePoolStatus(bad); err == nil {
			t.Errorf("%q is a pool's status", bad)
		}
	}
}

func TestNames(t *testing.T) {
	if got := dmName("v-g.x+1", "po-ol", "tpool"); got != "v--g.x+1-po--ol-tpool" {
		t.Errorf("got %s", got)
	}
	const dm = "LVM-lFtDPypPsoBoTBgBlRisSXss6me97bcdN3z4XkyFKrjvqwTtaMZUluIlgMkGN127"
	if got := volumeOfDM(dm); got != "N3z4Xk-yFKr-jvqw-TtaM-ZUlu-IlgM-kGN127" {
		t.Errorf("got %s", got)
	}
	for _, other := range []string{dm + "-real", "CRYPT-LUKS2-0123", "", "LVM-short"} {
		if got := volumeOfDM(other); got != "" {
			t.Errorf("%s: got %s", other, got)
		}
	}
	for _, good := range []string{"data", "a.b+c-d_e", ".x", strings.Repeat("n", 100)} {
		if err := checkName("vg", good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-x", "a b", "a/b", "..", ".", "snapshot1", "pvmove0", "x_tdata", "x_rimage_0", "snapd_x", "ü", "$(x)", strings.Repeat("n", 121), strings.Repeat("-", 70)} {
		if err := checkName("vg", bad); err == nil {
			t.Errorf("%q is allowed", bad)
		}
	}
	name := fs.SnapshotName(time.Unix(0, 0), "06gzt396t85v7d5c")
	if got, err := fs.ParseLVMSnapshotName(fs.LVMSnapshotName(name, uuidA), uuidA); err != nil || got != name {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := fs.ParseLVMSnapshotName(fs.LVMSnapshotName(name, uuidA), uuidB); err == nil {
		t.Error("a name is of two volumes")
	}
}

func spoolOf(t *testing.T, text string) (*spool, error) {
	t.Helper()
	s, err := newSpool(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.parse(strings.NewReader(text)); err != nil {
		return s, err
	}
	return s, s.rewind()
}

// deltaText was recorded from thin_delta 1.1.
const deltaText = `<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="0">
  <diff left="2" right="3">
    <different begin="0" length="1"/>
    <same begin="1" length="7"/>
    <different begin="8" length="2"/>
    <right_only begin="10" length="6"/>
    <same begin="266" length="4"/>
    <left_only begin="4096" length="320"/>
    <left_only begin="16383" length="1"/>
  </diff>
</superblock>`

func TestPlan(t *testing.T) {
	const b = 65536
	for _, c := range []struct {
		name string
		head lvmstream.Header
		want []extent
	}{
		{"increment", lvmstream.Header{Size: 16384 * b, BaseSize: 16384 * b, Base: lvmstream.Instant{UUID: uuidA}}, []extent{
			{lvmstream.RecordData, 0, b}, {lvmstream.RecordData, 8 * b, 8 * b}, {lvmstream.RecordDiscard, 4096 * b, 320 * b}, {lvmstream.RecordDiscard, 16383 * b, b},
		}},
		{"grown: what both have behind the base's end counts", lvmstream.Header{Size: 16384 * b, BaseSize: 267*b + 4096, Base: lvmstream.Instant{UUID: uuidA}}, []extent{
			{lvmstream.RecordData, 0, b}, {lvmstream.RecordData, 8 * b, 8 * b}, {lvmstream.RecordData, 267 * b, 3 * b}, {lvmstream.RecordDiscard, 4096 * b, 320 * b}, {lvmstream.RecordDiscard, 16383 * b, b},
		}},
		{"made smaller", lvmstream.Header{Size: 9*b + 4096, BaseSize: 16384 * b, Base: lvmstream.Instant{UUID: uuidA}}, []extent{{lvmstream.RecordData, 0, b}, {lvmstream.RecordData, 8 * b, b + 4096}}},
		{"ends within a block", lvmstream.Header{Size: 16383*b + 512, BaseSize: 16383*b + 512, Base: lvmstream.Instant{UUID: uuidA}}, []extent{
			{lvmstream.RecordData, 0, b}, {lvmstream.RecordData, 8 * b, 8 * b}, {lvmstream.RecordDiscard, 4096 * b, 320 * b}, {lvmstream.RecordDiscard, 16383 * b, 512},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := spoolOf(t, deltaText)
			if err != nil {
				t.Fatal(err)
			}
			p := &plan{mappings: s, block: s.block, head: c.head}
			var got []extent
			for {
				e, err := p.next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(extent{})); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestThinDeltaIsNotBelieved(t *testing.T) {
	for name, text := range map[string]string{
		"cut off": deltaText[:200], "empty": "", "out of order": strings.Replace(deltaText, `begin="266"`, `begin="1"`, 1),
		"an unknown line": strings.Replace(deltaText, "left_only", "moved", 1), "no number": strings.Replace(deltaText, `length="7"`, `length="x"`, 1),
		"nothing": strings.Replace(deltaText, `length="7"`, `length="0"`, 1), "no block size": strings.Replace(deltaText, `data_block_size="128"`, "", 1),
	} {
		if _, err := spoolOf(t, text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClassicSize(t *testing.T) {
	v := volume{size: 100 << 30, extent: 4 << 20}
	for _, c := range []struct {
		rate float64 // bytes a second
		want int64
	}{{0, 2 << 30}, {100_000, 17_280_532_480}, {1e9, wholeSize(v)}} {
		if got := chooseSize(v, c.rate); got != c.want || got%v.extent != 0 {
			t.Errorf("at %v: got %d, want %d", c.rate, got, c.want)
		}
	}
	if got := chooseSize(volume{size: 16 << 20, extent: 4 << 20}, 0); got > 40<<20 {
		t.Errorf("a small volume gets %d", got)
	}
	now := time.Unix(1e9, 0)
	before := writes{"b", now.Add(-time.Hour), 1000}
	for _, c := range []struct {
		name string
		now  writes
		want float64
	}{
		{"since the last", writes{"b", now, 1000 + 3600*500}, 500},
		{"another boot", writes{"c", now, 7200 * 10}, 10},
		{"activated anew", writes{"b", now, 720}, 0.1},
	} {
		if got := rateBetween(before, c.now, 2*time.Hour); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	if got := rateBetween(writes{"b", now.Add(-time.Second), 0}, writes{"b", now, 600}, time.Hour); got != 1 {
		t.Errorf("after a second: got %v", got)
	}
	if got, err := sectorsWritten("     215        0     9448       12      300        0     4096       20        0       24\n"); err != nil || got != 4096*512 {
		t.Errorf("got %d, %v", got, err)
	}
}

// TestDigests compares with digests of a volume that ends within a unit, and
// that has grown since.
func TestDigests(t *testing.T) {
	d := New(t.TempDir())
	s := fs.Snapshot{Dataset: fs.Dataset{GUID: uuidA}, Name: fs.SnapshotName(time.Unix(5, 0), "x"), GUID: uuidB, Order: 4, Time: time.Unix(5, 0).UTC()}
	const unit = leastUnit
	r, err := d.writeDigests(s, 2*unit+4096, unit)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range [][]byte{filled(unit, 'a'), filled(unit, 0), filled(4096, 'c')} {
		if err := r.add(digestOf(u)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.openDigests(s); !errors.Is(err, fs.ErrNotFound) {
		t.Errorf("before the stream is whole: got %v", err)
	}
	if err := errors.Join(r.commit(), r.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := d.remembered(s.Dataset); err != nil || len(got) != 1 || got[0] != s {
		t.Errorf("got %+v, %v", got, err)
	}
	grown := append(filled(4096, 'c'), filled(unit-4096, 0)...)
	for _, c := range []struct {
		name  string
		units [][]byte
		want  []bool
	}{
		{"equal", [][]byte{filled(unit, 'a'), filled(unit, 0), filled(4096, 'c')}, []bool{false, false, false}},
		{"changed", [][]byte{filled(unit, 'x'), filled(unit, 'y'), filled(4096, 0)}, []bool{true, true, true}},
		{"grown by zeros", [][]byte{filled(unit, 'a'), filled(unit, 0), grown, filled(unit, 0)}, []bool{false, false, false, false}},
		{"grown by data", [][]byte{filled(unit, 'a'), filled(unit, 0), filled(unit, 'c'), filled(unit, 'd')}, []bool{false, false, true, true}},
	} {
		known, err := d.openDigests(s)
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range c.units {
			if got, err := known.differs(int64(i)*unit, u); err != nil || got != c.want[i] {
				t.Errorf("%s: unit %d: got %v, %v", c.name, i, got, err)
			}
		}
		known.Close()
	}
	if err := errors.Join(d.forget(s), d.forget(s)); err != nil {
		t.Error(err)
	}
}

func TestNotices(t *testing.T) {
	d := New(t.TempDir())
	if got, err := d.notices(); err != nil || got != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := errors.Join(d.notice("one\n%s", "line"), d.notice("two")); err != nil {
		t.Fatal(err)
	}
	if got, err := d.notices(); err != nil || cmp.Diff([]string{"one line", "two"}, got) != "" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := d.notices(); err != nil || got != nil {
		t.Errorf("once more: got %q, %v", got, err)
	}
}

// TestPowerCutsAreExplained: what LVM says after a power cut does not say what to
// do, and comes again with every command.
func TestPowerCutsAreExplained(t *testing.T) {
	for said, want := range map[string]string{
		`device-mapper: message ioctl on  (253:2) failed: File exists
  Failed to process message "create_snap 5 3".
  Thin pool my--vg-pool-tpool (253:2) already contain thin device with device_id 5.
  Manual intervention may be required to remove device dev_id=5 in thin pool metadata.`: "LVM makes it anew after: dmsetup message my--vg-pool-tpool 0 'delete 5'",
		"Check of pool my-vg/pool failed (status:64). Manual repair required!": "lvconvert --repair my-vg/pool",
	} {
		if err := explain(&run.Error{Argv: []string{"lvcreate"}, Code: 5, Stderr: said}); !strings.HasSuffix(advice.Of(err), want) {
			t.Errorf("%v does not end with %q", err, want)
		}
	}
}

// TestVerdict: only what a tool found is damage; a copy that ran out of room, or a
// tool that was killed, says nothing of the filesystem.
func TestVerdict(t *testing.T) {
	for status, damaged := range map[int]bool{4: true, 5: true, 8: false, 12: false, 16: false, 32: false, -1: false} {
		err := verdict(&run.Error{Argv: []string{"e2fsck"}, Code: status}, "said", e2fsckFound)
		if err == nil || errors.Is(err, fs.ErrDamaged) != damaged {
			t.Errorf("e2fsck ends with %d: %v", status, err)
		}
	}
	if err := verdict(nil, "", e2fsckFound); err != nil {
		t.Error(err)
	}
}
