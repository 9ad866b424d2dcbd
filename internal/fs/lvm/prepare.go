package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

const (
	// nameMax is what device-mapper allows for the names of group and volume
	// together, with their dashes doubled and a layer's suffix.
	nameMax = 127 - len("-cow")

	// Dirty data is flushed until a flush is short or this many were made:
	// what is written meanwhile would be flushed in the window.
	flushRounds = 3
	flushShort  = 30 * time.Millisecond

	// Nothing is written to /etc in the window; Result makes up for the
	// backup of LVM's metadata.
	noBackup = "backup{backup=0 archive=0}"
)

// Prepare implements fs.Driver.
func (d *Driver) Prepare(ctx context.Context, name string, datasets []fs.Dataset) (fs.Prepared, error) {
	p, err := d.prepare(ctx, name, datasets)
	if err != nil {
		return nil, fmt.Errorf("prepare snapshot %s: %w", name, err)
	}
	return p, nil
}

func (d *Driver) prepare(ctx context.Context, name string, datasets []fs.Dataset) (*prepared, error) {
	if _, _, err := fs.ParseSnapshotName(name); err != nil {
		return nil, err
	}
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.makeLiveFile(); err != nil { // from now on there is something to look after
		return nil, err
	}
	p := &prepared{driver: d, name: name}
	// The window is not cancelled, and Take has no context of its own.
	whole := context.WithoutCancel(ctx)
	p.run = func(argv []string) error { return d.change(whole, argv...) }
	var classic []volume
	for _, dataset := range datasets {
		if v, err := all.dataset(dataset); err == nil && !v.thin() && snapshotable(v) == nil {
			classic = append(classic, v)
		}
	}
	sizes, err := d.classicSizes(classic)
	if err != nil {
		return nil, err
	}
	for _, dataset := range datasets {
		one, err := prepareOne(all, name, dataset, sizes)
		if err != nil {
			return nil, fmt.Errorf("of %s: %w", dataset.Name, err)
		}
		p.each = append(p.each, one)
	}
	if err := p.lookBefore(ctx, all); err != nil {
		return nil, err
	}
	if err := p.flush(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// pending is one volume's snapshot about to be taken.
type pending struct {
	dataset fs.Dataset
	origin  volume
	volume  string // name of the snapshot's volume
	argv    []string
	taken   bool
}

// prepared is a snapshot of several volumes about to be taken.
type prepared struct {
	driver  *Driver
	name    string
	each    []*pending
	before  map[string]map[uint64]thinDevice // what each pool had, by the pools' UUIDs
	run     func(argv []string) error
	started bool
	closed  bool
}

// prepareOne resolves one volume. sizes are those of snapshots of classic ones.
func prepareOne(all volumes, name string, dataset fs.Dataset, sizes map[string]int64) (*pending, error) {
	v, err := all.dataset(dataset)
	if err != nil {
		return nil, err
	}
	if err := snapshotable(v); err != nil {
		return nil, err
	}
	one := &pending{dataset: dataset, origin: v, volume: fs.LVMSnapshotName(name, v.uuid)}
	if n := len(dmName(v.vg, one.volume, "")); n > nameMax {
		return nil, advice.With(fmt.Errorf("the name of volume group %s leaves no room for the snapshot's, %s: device-mapper allows %d bytes", v.vg, one.volume, nameMax), "rename the group (vgrename)")
	}
	if _, taken := all.named(v.vg, one.volume); taken {
		return nil, fmt.Errorf("%s/%s: %w", v.vg, one.volume, fs.ErrExists)
	}
	one.argv = []string{
		"lvcreate", "--config", noBackup, "-s", "-n", one.volume, "-p", "r",
		"--addtag", tagOurs, "--addtag", tagOrigin + v.uuid, "--addtag", tagOrder + strconv.FormatUint(v.vgSeqno, 10),
	}
	if v.thin() {
		pool, err := all.pool(v)
		if err != nil {
			return nil, err
		}
		if err := pool.roomForSnapshot(); err != nil {
			return nil, err
		}
		// Not activated, now or at boot: two filesystems with one UUID
		// must not be seen.
		one.argv = append(one.argv, "-k", "y", "-a", "n", v.full())
		return one, nil
	}
	one.argv = append(one.argv, "-y", "-L", strconv.FormatInt(sizes[v.uuid], 10)+"b", v.full())
	return one, nil
}

// snapshotable refuses volumes of which LVM makes no snapshot, or of which one
// must not be made.
func snapshotable(v volume) error {
	_, ours := v.tag(tagOurs)
	_, temporary := v.tag(tagTemporary)
	switch {
	case v.vgTrouble != nil:
		return v.vgTrouble
	case ours || temporary:
		return advice.With(fmt.Errorf("%s is snapd's own", v.full()), "name the volume that it was made from")
	case v.hidden || slices.Contains(v.roles, "private"):
		return advice.With(fmt.Errorf("%s is a part of another volume (%s)", v.full(), v.segtype), "name that volume")
	case v.merging:
		return advice.With(fmt.Errorf("%s: %w: a snapshot is being merged into it", v.full(), fs.ErrBusy), "wait for that: lvs shows how far it is")
	case v.classic():
		return advice.With(fmt.Errorf("%s is itself a classic snapshot, and of those LVM makes none", v.full()), "name its origin")
	case !v.thin() && !v.active():
		return nil // lvcreate takes a snapshot of an inactive one too
	}
	return nil
}

// flush writes dirty data of every filesystem and device, again while that
// takes long.
func (p *prepared) flush(ctx context.Context) error {
	var open []*os.File
	defer func() {
		for _, f := range open {
			_ = f.Close() // only flushed
		}
	}()
	mounted, err := proc.Host()
	if err != nil {
		return err
	}
	for _, one := range p.each {
		if !one.origin.active() {
			continue
		}
		f, err := openToFlush(one.origin, mounted)
		if err != nil {
			return err
		}
		open = append(open, f)
	}
	for range flushRounds {
		begin := time.Now()
		for _, f := range open {
			if err := ctx.Err(); err != nil {
				return err
			}
			// Of a device's node this flushes nothing but devtmpfs, which
			// costs nothing; fsync does the device.
			if err := errors.Join(unix.Syncfs(int(f.Fd())), unix.Fsync(int(f.Fd()))); err != nil {
				return fmt.Errorf("flush %s: %w", f.Name(), err)
			}
		}
		if time.Since(begin) < flushShort {
			break
		}
	}
	return nil
}

// openToFlush opens the filesystem that is mounted on a volume, or else the
// volume itself.
func openToFlush(v volume, mounted proc.Table) (*os.File, error) {
	for _, m := range mounted {
		lv, err := volumeBelow(m.Device)
		if err == nil && lv == v.uuid {
			if f, err := os.Open(m.Point); err == nil {
				return f, nil
			}
		}
	}
	f, err := os.Open(v.device())
	if err != nil {
		return nil, fmt.Errorf("flush %s: %w", v.full(), err)
	}
	return f, nil
}

// Take implements fs.Prepared. LVM takes one at a time.
func (p *prepared) Take() error {
	if p.started || p.closed {
		return errors.New("take snapshot: taken or closed already")
	}
	p.started = true
	for _, one := range p.each {
		if err := p.run(one.argv); err != nil {
			// The others would be of another instant: no use to go on.
			return fmt.Errorf("take snapshot %s of %s: %w", p.name, one.dataset.Name, err)
		}
		one.taken = true
	}
	return nil
}

// Result implements fs.Prepared.
func (p *prepared) Result(ctx context.Context) ([]fs.Snapshot, error) {
	var made []fs.Snapshot
	var groups []string
	for _, one := range p.each {
		if one.taken && !slices.Contains(groups, one.origin.vg) {
			groups = append(groups, one.origin.vg)
		}
	}
	if len(groups) == 0 {
		return nil, nil
	}
	all, err := p.driver.list(ctx, groups...)
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", p.name, err)
	}
	for _, one := range p.each {
		if !one.taken {
			continue
		}
		v, there := all.named(one.origin.vg, one.volume)
		if !there {
			return made, fmt.Errorf("read snapshot %s of %s: %w", p.name, one.dataset.Name, fs.ErrNotFound)
		}
		if err := p.isNew(ctx, v); err != nil {
			return made, err
		}
		s, err := describe(v, one.dataset)
		if err != nil {
			return made, err
		}
		made = append(made, s)
	}
	return made, p.driver.backup(ctx, groups)
}

// backup writes the copies of LVM's metadata that Take left out.
func (d *Driver) backup(ctx context.Context, groups []string) error {
	d.commands.Lock()
	defer d.commands.Unlock()
	_, err := run.Program{Argv: append([]string{"vgcfgbackup"}, groups...), Whole: true}.Output(ctx)
	if err != nil {
		return fmt.Errorf("back up LVM's metadata after the snapshots: %w", err)
	}
	return nil
}

// Close implements fs.Prepared.
func (p *prepared) Close() error {
	p.closed = true
	return nil
}
