package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/run"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

const (
	// roomNeeded is the least free space of a pool with which a snapshot is
	// taken, in bytes: it keeps everything that is overwritten from then on.
	roomNeeded = 4 << 20

	// argsMax bounds the command that takes a pool's snapshots, in bytes: the
	// kernel takes 2 MiB with the environment, and it must be one command.
	argsMax = 1 << 20

	// A pool is synced until that is short or was done this often: what is
	// written meanwhile would be synced in the window.
	syncRounds = 3
	syncShort  = 30 * time.Millisecond
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
	found, err := d.find(ctx, datasets...)
	if err != nil {
		return nil, err
	}
	p := &prepared{ctx: context.WithoutCancel(ctx), name: name, datasets: datasets, objects: found}
	for _, o := range found {
		if room := nameMax - len("@") - len(name); len(o.name) > room {
			return nil, advice.With(fmt.Errorf("dataset %s: its name has %d bytes and leaves no room for a snapshot's: at most %d would do", o.name, len(o.name), room), "rename it (zfs rename), or its parents")
		}
		p.add(o)
	}
	for _, s := range p.pools {
		if err := s.ready(ctx, name); err != nil {
			return nil, err
		}
	}
	for _, s := range p.pools {
		if err := s.flush(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// prepared is a snapshot of datasets of one or more pools about to be taken.
type prepared struct {
	ctx      context.Context //nolint:containedctx // of the one Prepare that made it; Take has none, and cannot be cancelled
	name     string
	datasets []fs.Dataset
	objects  []object // in their order
	pools    []*shot
	started  bool
	closed   bool
}

// shot is what one pool is about to take by one command.
type shot struct {
	pool  string
	names []string // of datasets
	argv  []string
	err   error
	taken bool
}

func (p *prepared) add(o object) {
	i := slices.IndexFunc(p.pools, func(s *shot) bool { return s.pool == o.pool() })
	if i < 0 {
		p.pools = append(p.pools, &shot{pool: o.pool(), argv: []string{"zfs", "snapshot"}})
		i = len(p.pools) - 1
	}
	s := p.pools[i]
	s.names = append(s.names, o.name)
	s.argv = append(s.argv, o.name+"@"+p.name)
}

// ready sees to everything that can be known to go wrong before the window.
func (s *shot) ready(ctx context.Context, name string) error {
	size := 0
	for _, arg := range s.argv {
		size += len(arg) + 1
	}
	if size > argsMax {
		return advice.With(fmt.Errorf("pool %s: the names of %d datasets are too long for one command (%d bytes, and %d is the most)", s.pool, len(s.names), size, argsMax), "make two groups of them")
	}
	if err := s.writable(ctx); err != nil {
		return err
	}
	if err := s.room(ctx); err != nil {
		return err
	}
	return s.free(ctx, name)
}

// writable looks whether the pool works.
func (s *shot) writable(ctx context.Context) error {
	pool, err := unlessSuspended(ctx, s.pool, func(context.Context) (*gozfs.Zpool, error) { return gozfs.GetZpool(s.pool) })
	switch {
	case err != nil:
		return fmt.Errorf("pool %s: %w", s.pool, err)
	case pool.ReadOnly:
		return advice.With(fmt.Errorf("pool %s is imported read-only", s.pool), "import it for writing")
	case pool.Health != gozfs.ZpoolOnline && pool.Health != gozfs.ZpoolDegraded:
		return advice.With(fmt.Errorf("pool %s is %s", s.pool, pool.Health), "see why with: zpool status %s", s.pool)
	}
	return nil
}

// room refuses a snapshot in a pool that is as good as full. One of a dataset
// with refreservation needs as much as it might overwrite.
func (s *shot) room(ctx context.Context) error {
	args := append([]string{"zfs", "get", "-Hp", "-o", "name,property,value", "available,usedbydataset,refreservation", s.pool}, s.names...)
	rows, err := table(ctx, s.pool, 3, args...)
	if err != nil {
		return err
	}
	values := make(map[string]uint64)
	for _, row := range rows {
		n, err := strconv.ParseUint(row[2], 10, 64)
		if err != nil && row[2] != "-" && row[2] != "none" {
			return fmt.Errorf("zfs get says that %s of %s is %q", row[1], row[0], row[2])
		}
		values[row[1]+" "+row[0]] = n
	}
	need := uint64(roomNeeded)
	for _, name := range s.names {
		need += min(values["usedbydataset "+name], values["refreservation "+name])
	}
	if free := values["available "+s.pool]; free < need {
		return advice.With(fmt.Errorf("%w in pool %s: %d KiB are free, and the snapshot needs %d KiB", fs.ErrNoSpace, s.pool, free>>10, need>>10),
			"free some, add a device, or lower the refreservation of volumes")
	}
	return nil
}

// free looks whether the snapshots' names are.
func (s *shot) free(ctx context.Context, name string) error {
	args := []string{"zfs", "list", "-Hp", "-t", "snapshot", "-o", "name"}
	rows, err := table(ctx, s.pool, 1, append(args, s.argv[2:]...)...)
	if len(rows) > 0 {
		return fmt.Errorf("snapshot %s: %w", rows[0][0], fs.ErrExists)
	}
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("zfs list does not say whether there is a snapshot %s", name)
	}
	return err
}

func (s *shot) flush(ctx context.Context) error {
	for range syncRounds {
		begin := time.Now()
		if err := command(ctx, s.pool, "zpool", "sync", s.pool); err != nil {
			return fmt.Errorf("flush pool %s: %w", s.pool, err)
		}
		if time.Since(begin) < syncShort {
			break
		}
	}
	return nil
}

// Take implements fs.Prepared: one command for each pool.
func (p *prepared) Take() error {
	if p.started || p.closed {
		return errors.New("take snapshot: taken or closed already")
	}
	p.started = true
	var others sync.WaitGroup
	for _, s := range p.pools[min(1, len(p.pools)):] {
		others.Go(func() { s.take(p.ctx) })
	}
	if len(p.pools) > 0 {
		p.pools[0].take(p.ctx)
	}
	others.Wait()
	var failed error
	for _, s := range p.pools {
		if s.err != nil {
			failed = errors.Join(failed, fmt.Errorf("take snapshot %s in pool %s: %w", p.name, s.pool, s.err))
		}
	}
	return failed
}

func (s *shot) take(ctx context.Context) {
	_, s.err = unlessSuspended(ctx, s.pool, func(ctx context.Context) ([]byte, error) { return run.Output(ctx, s.argv...) })
	s.taken = s.err == nil
	if errors.Is(s.err, fs.ErrNotFound) && !here(s.pool) {
		s.err = advice.With(fmt.Errorf("the pool is not on this host any more: %w", fs.ErrNotFound), "if it was only exported, run: zpool import %s", s.pool)
	}
}

// Result implements fs.Prepared.
func (p *prepared) Result(ctx context.Context) ([]fs.Snapshot, error) {
	if !p.started {
		return nil, nil
	}
	byName := make(map[string]instant)
	for _, s := range p.pools {
		if !s.taken && s.err == nil {
			continue
		}
		if err := s.result(ctx, byName); err != nil {
			return p.made(byName), fmt.Errorf("read snapshot %s in pool %s: %w", p.name, s.pool, err)
		}
	}
	return p.made(byName), nil
}

// result adds what a pool has taken. All of it must be of one instant.
func (s *shot) result(ctx context.Context, byName map[string]instant) error {
	args := []string{"zfs", "list", "-Hp", "-t", "snapshot", "-o", instantColumns}
	rows, err := table(ctx, s.pool, instantCount, append(args, s.argv[2:]...)...)
	if err != nil && (s.taken || !errors.Is(err, fs.ErrNotFound)) {
		return err
	}
	instants, err := parseInstants(rows)
	if err != nil {
		return err
	}
	for _, m := range instants {
		byName[m.name] = m
		if m.createTXG != instants[0].createTXG {
			return fmt.Errorf("%s was taken in transaction group %d and %s in %d: they are not of one instant", m.name, m.createTXG, instants[0].name, instants[0].createTXG)
		}
	}
	return nil
}

func (p *prepared) made(byName map[string]instant) []fs.Snapshot {
	var out []fs.Snapshot
	for i, o := range p.objects {
		if m, there := byName[o.name+"@"+p.name]; there {
			out = append(out, m.snapshot(p.datasets[i]))
		}
	}
	return out
}

// Close implements fs.Prepared.
func (p *prepared) Close() error {
	p.closed = true
	return nil
}
