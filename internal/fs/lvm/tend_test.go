package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

func TestParseLoad(t *testing.T) {
	pool := func(data, rest string) string {
		return "vg-po--ol-tpool: 0 819200 thin-pool 5 100/4096 " + data + "/1000 - " + rest + " discard_passdown queue_if_no_space - 1024\n"
	}
	for _, c := range []struct {
		name, status string
		want         load
	}{
		{"nothing", "", load{}},
		{"no devices", "No devices found\n", load{}},
		{"others", "root: 0 1 linear \nx: 0 2 crypt \n", load{}},
		{"half full", pool("500", "rw"), load{}},
		{"filling", pool("500", "rw") + pool("720", "rw"), load{soon: true}},
		{"nearly full", pool("960", "rw"), load{true, true}},
		{"full", pool("1000", "out_of_data_space"), load{true, true}},
		{"read only", pool("10", "ro"), load{true, true}},
		{"failed", "vg-pool-tpool: 0 819200 thin-pool Fail\n", load{true, true}},
		{"metadata", "p: 0 819200 thin-pool 5 95/100 1/1000 - rw discard_passdown queue_if_no_space - 1024\n", load{true, true}},
		{"a classic snapshot", "vg-snap: 0 204800 snapshot 100/1000 16\n", load{}},
		{"one that fills", "vg-snap: 0 204800 snapshot 550/1000 16\n", load{soon: true}},
		{"one to be extended", "vg-snap: 0 204800 snapshot 700/1000 16\n", load{true, true}},
		{"one that overflowed", "vg-snap: 0 204800 snapshot Invalid\n", load{true, true}},
	} {
		if got := parseLoad([]byte(c.status)); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Of several snapshots that have the same blocks, all have to go, but none that
// is younger than the last one which has some alone.
func TestFewest(t *testing.T) {
	three := volumes{{name: "a"}, {name: "b"}, {name: "c"}}
	for _, c := range []struct{ alone, want string }{{"a", "a"}, {"b", "ab"}, {"bc", "ab"}, {"", ""}} {
		got, err := fewest(three, func(v volume) (bool, error) { return strings.Contains(c.alone, v.name), nil })
		names := ""
		for _, v := range got {
			names += v.name
		}
		if err != nil || names != c.want {
			t.Errorf("%q have something alone: got %q, %v; want %q", c.alone, names, err, c.want)
		}
	}
	if got, err := fewest(three, func(volume) (bool, error) { return false, context.Canceled }); got != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNextOf(t *testing.T) {
	thin := func(uuid string, id uint64, tags ...string) volume {
		return volume{uuid: uuid, segtype: "thin", poolUUID: "P", thinID: id, tags: tags}
	}
	mine := func(uuid string, id uint64) volume { return thin(uuid, id, tagOurs, tagOrigin+"O") }
	theirs := thin("T", 5)
	theirs.originUUID = "O"
	all := volumes{thin("O", 1), mine("A", 3), theirs, mine("B", 7), thin("other", 4), {uuid: "P", segtype: "thin-pool"}}
	for uuid, want := range map[string]string{"A": "T", "B": "O"} {
		v, _ := all.byUUID(uuid)
		if next, ok := all.nextOf(v); !ok || next.uuid != want {
			t.Errorf("after %s comes %q, %v; want %s", uuid, next.uuid, ok, want)
		}
	}
	orphan := thin("C", 9, tagOurs, tagOrigin+"gone")
	if next, ok := append(all, orphan).nextOf(orphan); ok {
		t.Errorf("after one whose origin is gone comes %v", next)
	}
}

// What lasts is told once; when it ended and comes again, it is told again.
func TestNoticeOnce(t *testing.T) {
	d := New(t.TempDir())
	full := volumes{{uuid: "P", segtype: "thin-pool", dataUse: 96}}
	roomy := volumes{{uuid: "P", segtype: "thin-pool", dataUse: 50}}
	say := func(want int) {
		t.Helper()
		if err := d.noticeOnce(stays+"P", "it is %s", "full"); err != nil {
			t.Fatal(err)
		}
		told, err := d.notices()
		if err != nil || len(told) != want {
			t.Errorf("got %q, %v; want %d", told, err, want)
		}
	}
	say(1)
	say(0)
	if err := d.forgetSaid(full); err != nil {
		t.Fatal(err)
	}
	say(0)
	long := time.Now().Add(-saidAgain)
	if err := os.Chtimes(filepath.Join(d.state, "said", stays+"P"), long, long); err != nil {
		t.Fatal(err)
	}
	say(1)
	say(0)
	if err := d.forgetSaid(roomy); err != nil {
		t.Fatal(err)
	}
	say(1)
}

// Watch leaves the notices for the next command, and tells each once.
func TestUnreadStays(t *testing.T) {
	d := New(t.TempDir())
	if err := d.notice("one"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if lines, err := d.unread(); err != nil || len(lines) != 1 || lines[0] != "one" {
			t.Errorf("got %q, %v", lines, err)
		}
	}
	if lines, err := d.notices(); err != nil || len(lines) != 1 {
		t.Errorf("got %q, %v", lines, err)
	}
	if lines, err := d.unread(); err != nil || len(lines) > 0 {
		t.Errorf("got %q, %v", lines, err)
	}
}

// A name where a pool stands is what a user writes who restores several
// volumes to one name: it is said what would be right.
func TestChoosePoolSaysWhatWouldBeRight(t *testing.T) {
	all := volumes{{vg: "vg", name: "pool", segtype: "thin-pool"}, {vg: "vg", name: "data", segtype: "thin"}}
	for wanted, says := range map[string]string{"new": "there is no thin pool vg/new", "data": "vg/data is no thin pool"} {
		_, err := choosePool(all, "vg", wanted)
		if !errors.Is(err, fs.ErrNotFound) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "pools in vg: pool") ||
			!strings.Contains(advice.Of(err), "lvm:vg or lvm:vg/POOL") || !strings.Contains(advice.Of(err), "one of them under a name of your choice") {
			t.Errorf("%s: got %v", wanted, err)
		}
	}
	if p, err := choosePool(all, "vg", "pool"); err != nil || p.name != "pool" {
		t.Errorf("got %v, %v", p, err)
	}
}

// Into a pool is neither beside it nor in its place.
func TestPoolIsNoTarget(t *testing.T) {
	all := volumes{{vg: "vg", name: "pool", segtype: "thin-pool"}}
	for _, suffix := range []string{"", ".before"} {
		r := &receiver{vg: "vg", name: "pool", suffix: suffix}
		if err := r.checkTarget(all); err == nil || errors.Is(err, fs.ErrExists) || !strings.Contains(advice.Of(err), "lvm:vg/pool/NAME") {
			t.Errorf("%q: got %v", suffix, err)
		}
	}
}

// The file live is there from before the first snapshot until some time after the
// last, and a call that finds it lost makes it again.
func TestLive(t *testing.T) {
	d := New(t.TempDir())
	live := volumes{{uuid: "S", tags: []string{tagOurs, tagOrigin + "O"}}}
	none := volumes{{uuid: "O"}}
	note := func(what string, all volumes, up time.Duration, want bool) {
		t.Helper()
		if err := d.updateLiveFile(all, up); err != nil || d.Live() != want {
			t.Errorf("%s: got %v, %v; want %v", what, d.Live(), err, want)
		}
	}
	const long = 2 * liveKept
	note("nothing was ever done", none, long, false)
	if err := d.makeLiveFile(); err != nil {
		t.Fatal(err)
	}
	note("about to be taken", none, long, true)
	before := time.Now().Add(-long)
	if err := os.Chtimes(d.liveFile(), before, before); err != nil {
		t.Fatal(err)
	}
	note("just booted", none, time.Minute, true)
	note("they live", live, long, true)
	note("all gone", none, long, false)
	note("the file live was lost", live, long, true)
}
