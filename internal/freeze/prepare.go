package freeze

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"snapd/internal/cgroup"
)

// Window is prepared once, run once, and closed.
type Window struct {
	options Options
	targets []*target // in the order of the members, those that are to be frozen
	disks   []*disk   // filesystems that are to be frozen
	guard   *guard    // nil without one
	stood   []Stood   // of all members; filled in by Run
	index   []int     // of a target in stood
	left    []*target // frozen by another program before; only looked at
	journal *journal  // nil when there is nothing to freeze
	ran     bool

	mu        sync.Mutex    // held for each write to a cgroup, so that no freeze comes after the thaw
	thawing   bool          // under mu: the thaw has begun
	expired   bool          // under mu: the deadline began it
	freezeNow chan struct{} // closed when the filesystems are to be frozen
	released  chan struct{} // closed when the thaw begins
	thawed    chan struct{} // closed when it is over
	thawErr   error         // read after thawed: a member or filesystem may still be frozen
	badThaw   error         // read after thawed: another program had thawed a filesystem before
	thawedAt  time.Time     // read after thawed
}

// Prepare does everything for a window that can be done before it: it checks
// every member and filesystem, opens what the window writes to, flushes the
// filesystems, writes the journal, and starts the guard. Members that do not
// run are skipped. Those that another program froze or paused are left alone.
// The caller closes the result, also without Run.
//
// The engine is needed only for those that it pauses or stops. Of the others it
// is asked whether another program has paused them. If it hangs, only their
// cgroups say so.
//
// ErrNeverFreeze, ErrCannotFreeze and ErrChanged are wrapped; nothing has been
// frozen then.
func Prepare(ctx context.Context, members []Member, o Options) (_ *Window, err error) {
	if o.Deadline <= 0 {
		return nil, errors.New("prepare the window: max-window must be above 0")
	}
	w := &Window{options: o, freezeNow: make(chan struct{}), released: make(chan struct{}), thawed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	if err := w.openMembers(ctx, members); err != nil {
		return nil, err
	}
	if err := w.openDisks(); err != nil {
		return nil, fmt.Errorf("prepare to freeze filesystems: %w", err)
	}
	if len(w.targets) == 0 && len(w.disks) == 0 {
		return w, nil
	}
	if w.journal, err = writeJournal(o.Dir, w.journalBody()); err != nil {
		return nil, fmt.Errorf("write down what the window freezes: %w", err)
	}
	w.fault(StepJournal)
	if o.Guard {
		if w.guard, err = w.startGuard(); err != nil {
			return nil, fmt.Errorf("the guard, which thaws if snapd is killed, does not come up: %w", err)
		}
		w.fault(StepGuarded)
	}
	return w, nil
}

func (w *Window) openMembers(ctx context.Context, members []Member) error {
	check, err := newChecker(members)
	if err != nil {
		return fmt.Errorf("prepare the window: %w", err)
	}
	states := askAll(ctx, members, w.options.Engine)
	for i, m := range members {
		t, err := check.target(ctx, m, w.options.Engine, states[i])
		if err != nil {
			return fmt.Errorf("prepare to freeze %s: %w", m, err)
		}
		w.stood = append(w.stood, Stood{Member: m, How: t.how})
		switch t.how {
		case ByCgroup, ByPause, ByStop:
			t.index = len(w.targets)
			w.targets, w.index = append(w.targets, t), append(w.index, i)
		case LeftAlone:
			w.left = append(w.left, t)
		}
	}
	return nil
}

// askLimit bounds what Prepare waits for an engine that hangs.
const askLimit = 5 * time.Second

// askAll asks the engine for all containers at once.
func askAll(ctx context.Context, members []Member, engine Engine) []state {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := make([]state, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		if m.Kind != Container || engine == nil {
			continue
		}
		all.Go(func() {
			running, paused, err := engine.State(ctx, m.ID)
			out[i] = state{running, paused, err}
		})
	}
	all.Wait()
	return out
}

// openDisks opens the filesystems, refuses those that must not be frozen, and
// flushes the others at once.
func (w *Window) openDisks() error {
	for _, f := range w.options.Filesystems {
		d, err := openDisk(f)
		if err != nil {
			return err
		}
		w.disks = append(w.disks, d)
		w.stood = append(w.stood, Stood{Member: Member{Kind: Disk, ID: d.Dir, Name: d.Dir}, How: ByFifreeze})
	}
	if err := checkDisks(w.disks, w.options); err != nil {
		return err
	}
	errs := make([]error, len(w.disks))
	var all sync.WaitGroup
	for i, d := range w.disks {
		all.Go(func() { errs[i] = d.flush() })
	}
	all.Wait()
	return errors.Join(errs...)
}

// Stood says how every member was frozen, in the order given to Prepare, and
// after them the filesystems.
func (w *Window) Stood() []Stood { return w.stood }

func (w *Window) fault(step string) {
	if w.options.Fault != nil {
		w.options.Fault(step)
	}
}

func (w *Window) journalBody() journalBody {
	r := journalBody{Pid: os.Getpid(), Started: time.Now().UTC(), Engine: w.options.EngineHost}
	for _, t := range w.targets {
		r.Members = append(r.Members, journalMember{
			Kind: t.Kind, ID: t.ID, Name: t.Name, How: t.how, Rank: t.Rank,
			Cgroup: t.Cgroup, Dev: t.dev, Ino: t.ino,
		})
	}
	for _, d := range w.disks {
		r.Disks = append(r.Disks, journalDisk{Dir: d.Dir, Type: d.Type, Dev: d.Device})
	}
	return r
}

// checker knows where the v2 tree is and which part of it is ours.
type checker struct {
	mount string // "" without a v2 tree
	own   string // absolute directory of our own cgroup, "" without a v2 tree
}

func newChecker(members []Member) (checker, error) {
	mount, err := cgroup.Mount()
	if errors.Is(err, cgroup.ErrNone) {
		for _, m := range members {
			if m.Cgroup != "" {
				return checker{}, fmt.Errorf("freeze %s: %w", m, err)
			}
		}
		return checker{}, nil
	}
	if err != nil {
		return checker{}, err
	}
	self, err := cgroup.Of(0)
	if err != nil {
		return checker{}, err
	}
	own, err := cgroup.Dir(mount, self.V2)
	return checker{mount: mount, own: own}, err
}

// target opens one member, or says with how that it is not to be touched.
// known is what the engine says about it.
func (c checker) target(ctx context.Context, m Member, engine Engine, known state) (_ *target, err error) {
	t := newTarget(m)
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	byEngine := m.Pause || m.Stop || m.Cgroup == ""
	if m.Kind == Container && engine != nil {
		switch {
		case known.err != nil && byEngine:
			return nil, fmt.Errorf("ask the engine about it: %w", known.err)
		case known.err != nil: // its cgroup says what it can
		case !known.running:
			t.how = NotRunning
			return t, nil
		case known.paused:
			t.how, t.askEngine = LeftAlone, stateCall(ctx, engine, m.ID)
			return t, nil
		}
	}
	if byEngine && m.Kind == Container && engine == nil {
		return nil, errors.New("there is no engine that could freeze it")
	}
	if m.Cgroup == "" && m.Kind != Container {
		return nil, errors.New("it has no cgroup in the v2 tree")
	}
	if m.Cgroup != "" {
		if err := c.open(t); err != nil {
			return nil, err
		}
	}
	switch {
	case t.how != ByCgroup || !byEngine:
	case m.Stop:
		t.how, t.stopper = ByStop, newStopper(ctx, engine, m.ID)
	default:
		t.how, t.engine = ByPause, newPauser(ctx, engine, m.ID)
	}
	return t, nil
}

// contains checks that a process is in the cgroup. It is asked after the
// cgroup was opened, so that a cgroup that was replaced before is noticed.
func (c checker) contains(dir string, pid int) error {
	if pid <= 0 {
		return nil
	}
	in, err := cgroup.Of(pid)
	if err != nil {
		return fmt.Errorf("its process %d is gone: %w", pid, ErrChanged)
	}
	where, err := cgroup.Dir(c.mount, in.V2)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(dir, where); err != nil || !filepath.IsLocal(rel) {
		return fmt.Errorf("its process %d is in cgroup %s and not in %s: %w", pid, where, dir, ErrChanged)
	}
	return nil
}

// open opens the cgroup of t and checks that it is the member's, that it may
// be frozen, and that no other program has frozen it.
func (c checker) open(t *target) error {
	dir := filepath.Clean(t.Cgroup)
	if rel, err := filepath.Rel(c.mount, dir); err != nil || !filepath.IsLocal(rel) || rel == "." {
		return fmt.Errorf("cgroup %s lies not below the v2 tree at %s: %w", dir, c.mount, ErrNeverFreeze)
	}
	if t.Kind != Process && cgroup.Cut(filepath.Base(dir), t.ID) == "" {
		return fmt.Errorf("cgroup %s does not carry its id %s: %w", dir, t.ID, ErrNeverFreeze)
	}
	if rel, err := filepath.Rel(dir, c.own); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("snapd itself is in cgroup %s: %w", dir, ErrNeverFreeze)
	}
	err := t.open(dir)
	if errors.Is(err, os.ErrNotExist) {
		// With an engine it was running a moment ago, so it is being
		// replaced; without one, there is nothing to freeze.
		if t.Kind == Container {
			return fmt.Errorf("its cgroup is gone: %w", ErrChanged)
		}
		t.how = NotRunning
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.contains(dir, t.Pid); err != nil {
		return err
	}
	if err := neverFreeze(dir); err != nil {
		return err
	}
	frozen, err := t.alreadyFrozen()
	if err != nil {
		return fmt.Errorf("read whether it is frozen: %w", err)
	}
	if frozen {
		t.how = LeftAlone
	}
	return nil
}
