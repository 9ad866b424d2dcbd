package lvm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/proc"
	"snapd/internal/run"
)

// relistEvery is how often Watch asks LVM whether there are snapshots of ours.
const relistEvery = time.Minute

// classicSoon is how full a classic snapshot may be, in per cent, before it is
// looked at more often.
const classicSoon = 50

// Tend looks after everything that snapshots can endanger: it drops our oldest
// snapshots from pools that are about to be full, extends classic snapshots
// that fill, and removes those that overflowed. It returns what people have to
// be told, also of what other calls did since the last time. A stream that is
// open does the same by itself.
func (d *Driver) Tend(ctx context.Context) ([]string, error) {
	if !d.used() {
		return nil, nil
	}
	_, _, err := d.lookAfter(ctx)
	told, tellErr := d.notices()
	if err := errors.Join(err, tellErr); err != nil {
		return told, fmt.Errorf("look after LVM pools: %w", err)
	}
	return told, nil
}

func (d *Driver) lookAfter(ctx context.Context) (all volumes, reading map[string]bool, err error) {
	if all, err = d.list(ctx); err != nil {
		return nil, nil, err
	}
	reading, err = d.relieveAll(ctx, all)
	return all, reading, errors.Join(err, d.tendClassic(ctx, all), d.forgetSaid(all), d.updateLiveFile(all, proc.Uptime()))
}

// watchMemory is what Watch knows from the last time.
type watchMemory struct {
	sync.Mutex
	listed time.Time
	live   bool
	heard  []string
}

// Watch is Tend for a caller that calls it every few seconds, on one Driver. It
// asks device-mapper, which is cheap. It asks LVM only where that says that
// something has to be done, and once a minute. What has to be told it returns
// once, and leaves it for the next Tend. live says whether snapshots of ours are
// there, which have to be watched further.
func (d *Driver) Watch(ctx context.Context) (told []string, live bool, err error) {
	d.watched.Lock()
	defer d.watched.Unlock()
	w := &d.watched
	if !d.used() {
		return nil, false, nil
	}
	load, err := d.load(ctx)
	if err != nil || load.alarm || time.Since(w.listed) > relistEvery {
		var all volumes
		if all, _, err = d.lookAfter(ctx); err == nil {
			w.listed, w.live = time.Now(), slices.ContainsFunc(all, isOurs)
		}
	}
	lines, readErr := d.unread()
	for _, line := range lines {
		if !slices.Contains(w.heard, line) {
			told = append(told, line)
		}
	}
	w.heard = lines
	if err = errors.Join(err, readErr); err != nil {
		err = fmt.Errorf("look after LVM pools: %w", err)
	}
	return told, w.live, err
}

func isOurs(v volume) bool {
	_, ours := v.tag(tagOrigin)
	return ours
}

// load is how full the fullest pool and classic snapshot of this host are.
type load struct {
	soon  bool // to be looked at again soon
	alarm bool // something has to be done
}

// load asks device-mapper: unlike lvs this takes no lock and reads no disk.
func (d *Driver) load(ctx context.Context) (load, error) {
	out, err := run.Output(ctx, "dmsetup", "status")
	if err != nil {
		return load{}, fmt.Errorf("ask how full pools are: %w", err)
	}
	return parseLoad(out), nil
}

// parseLoad reads lines such as
//
//	vg-pool-tpool: 0 2097152 thin-pool 3 842/8192 939/16384 97 rw …
//	vg-snap: 0 204800 snapshot 1024/8192 16
//	vg-lost: 0 204800 snapshot Invalid
func parseLoad(status []byte) load {
	var l load
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		_, line, _ := strings.Cut(lines.Text(), ": ")
		words := strings.Fields(line)
		if len(words) < 4 {
			continue
		}
		switch words[2] {
		case "thin-pool":
			st, err := parsePoolStatus(line)
			pool := volume{dataUse: st.data.use(), metaUse: st.meta.use()}
			l.alarm = l.alarm || err != nil || pool.suffers() || st.mode != "rw"
			l.soon = l.soon || pool.dataUse > refuseData-20 || pool.metaUse > refuseMeta-20
		case "snapshot":
			var f fill
			_, err := fmt.Sscanf(words[3], "%d/%d", &f.used, &f.total)
			l.alarm = l.alarm || err != nil || f.use() >= classicFull
			l.soon = l.soon || f.use() >= classicSoon
		}
	}
	l.soon = l.soon || l.alarm
	return l
}
