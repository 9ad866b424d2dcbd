package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"snapd/internal/advice"
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
	s, groups, unusable, err := a.lookFor(ctx, names)
	if err != nil {
		return nil, err
	}
	defer s.close() //nolint:errcheck // only read from
	a.keepPromises(ctx, s)
	a.tendStorage(ctx)
	var out []point.Point
	faults := []error{unusable}
	for _, g := range groups {
		p, err := a.takePoint(ctx, s, g)
		failed := err
		if p.ID != "" { // taken all the same
			failed = advice.In(advice.Partial, err)
		}
		a.noteOutcome(ctx, g.Name, StepSnapshot, failed)
		if err != nil {
			faults = append(faults, fmt.Errorf("restore point of group %s: %w", g.Name, err))
		}
		if p.ID != "" { // also beside an error: of a hook after it
			out = append(out, p)
			faults = append(faults, notAsBefore(p))
		}
	}
	return out, errors.Join(faults...)
}

// takePoint takes a restore point of a group, step by step. What a step begins is
// ended when all are over or one has failed, the last first: see taking.then. The
// point is there, also beside an error, once it is recorded.
func (a *Agent) takePoint(ctx context.Context, s *scene, g workload.Group) (p point.Point, err error) {
	t := &taking{Agent: a, scene: s, group: g}
	t.letGoDown = sync.OnceFunc(a.stayUp("restore point of group "+g.Name, &err))
	defer t.letGoDown()
	defer func() {
		ended := t.end(ctx)
		if err = with(err, ended); t.recorded {
			p = t.point
		}
	}()
	for _, step := range []func(context.Context) error{
		t.runHooks,    // those before; those after run at the end
		t.lockWindow,  // one window at a time on this host
		t.recoverLeft, // what killed processes left
		t.ready,       // all that comes before: looked up, planned, opened
		t.hold,        // locks of applications
		t.takeAll,     // the window itself: freeze, snapshot, thaw; the locks go
		t.judge,       // whether that is a restore point, and which
		t.describe,    // what was set on the datasets
		t.compare,     // what it is made of, with the last one
		t.record,      // now it exists
	} {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	return p, nil
}

// taking is a restore point on its way.
type taking struct {
	*Agent
	scene     *scene
	group     workload.Group
	letGoDown func() // this host; may be called twice
	undo      []func(ctx context.Context) error

	found    *resolved
	point    point.Point
	agreed   *agreement
	shots    shots
	window   *freeze.Window
	timings  freeze.Timings
	failed   error // of the window; the point may be worth something all the same
	unclosed error // the window's journal is still there
	recorded bool
	before   []string // the warnings of the last point
	lastTry  bool     // a member that changes now is not looked up again

	follower  *workload.Follower // nil when nothing was promised or there is no engine
	watch     *workload.Watch    // nil when nothing was promised
	unwatched error              // why it did not watch
	taken     time.Time          // when all snapshots were there
}

// then is called by a step: what is to be done at the end, with a ctx that does
// not end.
func (t *taking) then(do func(ctx context.Context) error) { t.undo = append(t.undo, do) }

func (t *taking) end(ctx context.Context) error { return t.unwind(ctx, 0) }

// unwind ends what was begun since there were so many.
func (t *taking) unwind(ctx context.Context, since int) error {
	var faults error
	for _, do := range slices.Backward(t.undo[since:]) {
		faults = errors.Join(faults, do(context.WithoutCancel(ctx)))
	}
	t.undo = t.undo[:since]
	return faults
}

func (t *taking) lockWindow(ctx context.Context) error {
	held, err := t.waitLock(ctx, "window", "the window of this host", patience)
	if err == nil {
		t.then(func(context.Context) error { return held.release() })
	}
	return err
}

func (t *taking) recoverLeft(ctx context.Context) error { return t.sweep(ctx, t.scene) }

func (t *taking) begin(context.Context) error {
	g, r, now := t.group, t.found, t.Now()
	t.point = point.Point{
		ID: point.NewIDBy(now, t.self()), Group: g.Name, Host: hostName(), Time: now.UTC(),
		Consistency: r.plan.Consistency, Freeze: string(g.Freeze), Why: r.plan.Why,
		Warnings: r.warnings, Shipped: []point.Shipped{}, Containers: definitions(g.Members),
	}
	if err := t.taking.Put(intent(t.point, r)); err != nil {
		return err
	}
	t.then(func(ctx context.Context) error {
		if t.recorded {
			return nil
		}
		return t.sweepTaken(ctx) // what could not be discarded now the next sweep looks after
	})
	return nil
}

func (t *taking) hold(ctx context.Context) error {
	if err := t.agreed.acquire(ctx); err != nil {
		return errors.Join(err, t.window.Close())
	}
	return nil
}

// takeAll runs the window. What came of it judge looks at.
func (t *taking) takeAll(ctx context.Context) (err error) {
	t.point.Time = t.Now().UTC() // the instant of the snapshots, as near as names allow
	t.timings, err = t.window.Run(t.shoot)
	t.failed = errors.Join(err, t.agreed.release(ctx))
	t.found.stood = t.window.Stood()
	if t.unclosed = t.window.Close(); t.unclosed != nil { // what was taken is as good
		t.point.Warnings = append(t.point.Warnings, inOneLine(t.unclosed))
	}
	return nil
}

// judge fills in what came of the window. When that is no restore point, no
// snapshot stays.
func (t *taking) judge(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err, g, p, r := t.failed, t.group, &t.point, t.found
	if err == nil {
		err = t.meanwhile(ctx)
	}
	snaps, listErr := t.shots.result(ctx)
	good := listErr == nil && worth(err, g.OnOverrun, len(snaps), len(r.datasets))
	t.noteStops(g, r.stood, good)
	if !good {
		return with(sooner(err), t.unclosed, listErr, t.discard(ctx, snaps))
	}
	if err != nil {
		p.Consistency = point.Crash
		p.Warnings = append(p.Warnings, inOneLine(err)+"; kept as crash, as on-overrun says")
	}
	p.MaxWindowUS = time.Duration(g.MaxWindow).Microseconds()
	p.WindowUS = t.timings.Window.Microseconds()
	p.Timings = point.Timings{Freeze: t.timings.Freeze.Microseconds(), Snapshot: t.timings.Snapshot.Microseconds(), Thaw: t.timings.Thaw.Microseconds()}
	t.agreed.note(err == nil)
	for _, m := range r.stood {
		p.Members = append(p.Members, point.Member{Kind: m.Kind, Name: m.Name, How: string(m.How)})
	}
	for _, snap := range snaps {
		p.Datasets = append(p.Datasets, r.dataset(snap))
	}
	return nil
}

func (t *taking) describe(ctx context.Context) error {
	t.Agent.describe(ctx, t.found, &t.point)
	return nil
}

func (t *taking) record(context.Context) error {
	gravestFirst(t.point.Warnings)
	t.tellNew()
	if err := t.Agent.record.Put(t.point); err != nil {
		return err
	}
	t.recorded = true
	return errors.Join(unwell(t.found), t.taking.Delete(t.point.ID))
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
// recorded. The window's lock is held, so no process is taking them now.
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
// called. Where no program can, doctor says so; a timer need not say it every hour.
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

// sweep recovers what a killed process left, before anything new is frozen.
func (a *Agent) sweep(ctx context.Context, s *scene) error {
	recovered, err := freeze.Recover(ctx, a.windowOptions(s, 0))
	tellRecovered(a.Report, recovered)
	for _, what := range a.unsuspend(ctx) {
		a.warn("", "recovered: %s", what)
	}
	a.endOrphans()
	if err := a.sweepTaken(ctx); err != nil { // costs room, and prevents no new point
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

// worth tells whether what a window left is a restore point: all that was
// asked for, of a window that went well or whose overrun can be kept as crash.
func worth(err error, on config.OnOverrun, got, want int) bool {
	overrun, late := errors.AsType[*freeze.Overrun](err)
	return got == want && (err == nil || late && overrun.Taken && on == config.OverrunCrash)
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

// definitions are what the engine says of the members, for a user who rebuilds them.
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
