package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// patience is how long a snapshot waits for another one's window.
const patience = 30 * time.Second

// Snapshot takes one restore point of each group. A fault with one group does
// not keep the others back.
func (a *Agent) Snapshot(ctx context.Context, names []string) ([]point.Point, error) {
	s, groups, err := a.lookFor(ctx, names)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.keepPromises(ctx, s)
	a.tendStorage(ctx)
	var out []point.Point
	var faults []error
	for _, g := range groups {
		p, err := a.withHooks(ctx, s, g)
		if err != nil {
			faults = append(faults, fmt.Errorf("restore point of group %s: %w", g.Name, err))
		}
		if p.ID != "" { // also beside an error: of a hook after it
			out = append(out, p)
		}
	}
	return out, errors.Join(faults...)
}

// snapshotGroup takes the point of a group. The caller keeps the host up.
func (a *Agent) snapshotGroup(ctx context.Context, s *scene, g workload.Group) (_ point.Point, err error) {
	held, err := a.waitLock(ctx, "window", "the window of this host", patience)
	if err != nil {
		return point.Point{}, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	if err := a.sweep(ctx, s); err != nil {
		return point.Point{}, err
	}
	r, err := a.resolve(ctx, s, g)
	if err != nil {
		return point.Point{}, err
	}
	now := a.Now()
	p := point.Point{
		ID: point.NewID(now), Group: g.Name, Host: hostName(), Time: now.UTC(),
		Consistency: r.plan.Consistency, Freeze: string(g.Freeze), Why: r.plan.Why,
		Warnings: r.warnings, Shipped: []point.Shipped{}, Containers: definitions(g.Members),
	}
	if err := a.taking.Put(intent(p, r)); err != nil {
		return point.Point{}, err
	}
	if err := a.take(ctx, s, g, r, &p); err != nil {
		// The next sweep looks after what could not be discarded now.
		return point.Point{}, with(err, a.sweepTaken(context.WithoutCancel(ctx)))
	}
	a.describe(ctx, r, &p)
	for _, w := range p.Warnings {
		a.warn(g.Name, "%s", w)
	}
	if err := a.record.Put(p); err != nil {
		return point.Point{}, errors.Join(err, a.sweepTaken(context.WithoutCancel(ctx)))
	}
	return p, errors.Join(unwell(r), a.taking.Delete(p.ID))
}

// intent is what is written down before snapshots are taken, so that those of
// a point that never came to be are found again.
func intent(p point.Point, r *resolved) point.Point {
	out := point.Point{ID: p.ID, Group: p.Group, Time: p.Time}
	for _, d := range r.datasets {
		out.Datasets = append(out.Datasets, r.dataset(fs.Snapshot{Dataset: d, Name: fs.SnapshotName(p.Time, string(p.ID))}))
	}
	return out
}

// sweepTaken removes the snapshots of points that were begun and never
// recorded. The window's lock is held, so nobody is taking them now.
func (a *Agent) sweepTaken(ctx context.Context) error {
	begun, err := a.taking.All()
	faults := []error{err}
	for _, p := range begun {
		if _, err := a.record.Get(p.ID); err == nil {
			faults = append(faults, a.taking.Delete(p.ID))
		} else if errors.Is(err, point.ErrUnknown) {
			faults = append(faults, a.abandon(ctx, p))
		} // else it is recorded, and cannot be read
	}
	return errors.Join(faults...)
}

// abandon removes the snapshots of one such point, and then its trace. Where
// the storage is not there now, a later sweep does it.
func (a *Agent) abandon(ctx context.Context, p point.Point) error {
	var left []fs.Snapshot
	for _, d := range p.Datasets {
		driver, err := a.driver(d.Driver)
		if err != nil {
			return err
		}
		snaps, err := driver.Snapshots(ctx, datasetOf(d))
		if errors.Is(err, fs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, s := range snaps {
			if s.Name == d.Snapshot {
				left = append(left, s)
			}
		}
	}
	if err := a.discard(ctx, left); err != nil {
		return err
	}
	return a.taking.Delete(p.ID)
}

// stayUp keeps the host from shutting down until the function it returns is
// called. Where nobody can, doctor says so; a timer need not say it every hour.
func (a *Agent) stayUp(why string, err *error) func() {
	if a.Inhibit == nil {
		return func() {}
	}
	release, inhibitErr := a.Inhibit(why)
	if inhibitErr != nil {
		a.step("", "%v", inhibitErr)
		return func() {}
	}
	return func() { *err = errors.Join(*err, release()) }
}

// sweep mends what a killed process left, before anything new is frozen.
func (a *Agent) sweep(ctx context.Context, s *scene) error {
	recovered, err := freeze.Recover(ctx, a.windowOptions(s, 0))
	tellRecovered(a.Report, recovered)
	for _, what := range a.unsuspend(ctx) {
		a.warn("", "mended: %s", what)
	}
	a.endOrphans()
	if err := a.sweepTaken(ctx); err != nil { // costs room, and keeps nobody from new points
		a.warnOfError("", fmt.Errorf("remove snapshots of points that were never recorded: %w", err))
	}
	return err
}

func (a *Agent) windowOptions(s *scene, deadline time.Duration) freeze.Options {
	o := freeze.Options{Dir: a.Run, Deadline: deadline, Fault: a.Fault, Guard: a.Guard, Needed: []string{a.State, a.Run}}
	if s.engine != nil {
		o.Engine, o.EngineHost = s.engine, s.engine.Host()
		o.Needed = append(o.Needed, s.engine.Root())
	}
	return o
}

// take prepares everything, opens the window, and fills in what came of it.
// When it fails, no snapshot stays.
func (a *Agent) take(ctx context.Context, s *scene, g workload.Group, r *resolved, p *point.Point) (err error) {
	agreed := a.agree(s, g, r.plan.Consistency, p)
	agreed.checkpoint(ctx)
	shots, err := a.prepare(ctx, r, fs.SnapshotName(p.Time, string(p.ID)))
	defer func() { err = errors.Join(err, shots.close()) }()
	if err != nil {
		return err
	}
	o := a.windowOptions(s, time.Duration(g.MaxWindow))
	o.Filesystems = r.disks
	window, err := freeze.Prepare(ctx, r.members, o)
	if err != nil {
		return fmt.Errorf("prepare the window: %w", err)
	}
	if err := agreed.acquire(ctx); err != nil {
		return errors.Join(err, window.Close())
	}
	p.Time = a.Now().UTC() // the instant of the snapshots, as near as names allow
	timings, err := window.Run(shots.take)
	err = errors.Join(err, agreed.release(ctx))
	r.stood = window.Stood()
	closeErr := window.Close() // what was taken is as good
	if closeErr != nil {
		p.Warnings = append(p.Warnings, inOneLine(closeErr))
	}
	if err == nil {
		err = a.startedMeanwhile(context.WithoutCancel(ctx), s, g, r, p)
	}
	snaps, listErr := shots.result(context.WithoutCancel(ctx))
	if listErr != nil || !worth(err, g.OnOverrun, len(snaps), len(r.datasets)) {
		return with(sooner(err), closeErr, listErr, a.discard(context.WithoutCancel(ctx), snaps))
	}
	if err != nil {
		p.Consistency = point.Crash
		p.Warnings = append(p.Warnings, inOneLine(err)+"; kept as crash, as on-overrun says")
	}
	p.MaxWindowUS = time.Duration(g.MaxWindow).Microseconds()
	p.WindowUS = timings.Window.Microseconds()
	p.Timings = point.Timings{Freeze: timings.Freeze.Microseconds(), Snapshot: timings.Snapshot.Microseconds(), Thaw: timings.Thaw.Microseconds()}
	agreed.note(err == nil)
	for _, m := range r.stood {
		p.Members = append(p.Members, point.Member{Kind: m.Kind, Name: m.Name, How: string(m.How)})
	}
	for _, snap := range snaps {
		p.Datasets = append(p.Datasets, r.dataset(snap))
	}
	return nil
}

// worth tells whether what a window left is a restore point: all that was
// asked for, of a window that went well or whose overrun can be kept as crash.
func worth(err error, on config.OnOverrun, got, want int) bool {
	overrun, late := errors.AsType[*freeze.Overrun](err)
	return got == want && (err == nil || late && overrun.Taken && on == config.OverrunCrash)
}

// shots are the prepared snapshots of all drivers that a group needs.
type shots []fs.Prepared

func (a *Agent) prepare(ctx context.Context, r *resolved, name string) (shots, error) {
	byDriver := map[string][]fs.Dataset{}
	var order []string
	for _, d := range r.datasets {
		if !slices.Contains(order, d.Driver) {
			order = append(order, d.Driver)
		}
		byDriver[d.Driver] = append(byDriver[d.Driver], d)
	}
	var out shots
	for _, d := range order {
		driver, err := a.driver(d)
		if err != nil {
			return out, err
		}
		prepared, err := driver.Prepare(ctx, name, byDriver[d])
		if err != nil {
			return out, fmt.Errorf("prepare the snapshot: %w", err)
		}
		out = append(out, prepared)
	}
	return out, nil
}

// take runs in the window.
func (s shots) take() error {
	for _, p := range s {
		if err := p.Take(); err != nil {
			return err
		}
	}
	return nil
}

func (s shots) result(ctx context.Context) ([]fs.Snapshot, error) {
	var out []fs.Snapshot
	var faults []error
	for _, p := range s {
		snaps, err := p.Result(ctx)
		out = append(out, snaps...)
		if err != nil {
			faults = append(faults, err)
		}
	}
	return out, errors.Join(faults...)
}

func (s shots) close() error {
	var faults []error
	for _, p := range s {
		faults = append(faults, p.Close())
	}
	return errors.Join(faults...)
}

// discard removes snapshots that are not worth what they claim.
func (a *Agent) discard(ctx context.Context, snaps []fs.Snapshot) error {
	var faults []error
	for _, s := range snaps {
		driver, err := a.driver(s.Dataset.Driver)
		if err == nil {
			err = driver.Delete(ctx, s)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("discard the snapshot %s of %s: %w", s.Name, s.Dataset.Name, err))
		}
	}
	return errors.Join(faults...)
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// definitions are what the engine says of the members, for who rebuilds them.
func definitions(members []workload.Container) json.RawMessage {
	all := map[string]json.RawMessage{}
	for _, m := range members {
		if len(m.Definition) > 0 {
			all[m.Name] = m.Definition
		}
	}
	if len(all) == 0 {
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil // what the engine said was no JSON; the point is worth as much
	}
	return text
}
