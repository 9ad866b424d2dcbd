package freeze

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/cgroup"
)

// Recovered is one member that a dead window had told to freeze.
type Recovered struct {
	Member
	Outcome Outcome
	Window  time.Time // when that window was prepared
}

// Outcome says what Recover found and did.
type Outcome string

// The outcomes.
const (
	Thawed   Outcome = "thawed"                              // it was frozen, and runs again
	Moving   Outcome = "was not frozen"                      // the window had not come to it, or was done with it
	Started  Outcome = "started again"                       // it had been stopped, and runs again
	Vanished Outcome = "is gone"                             // it ended, or was started anew since
	Taken    Outcome = "was paused by another program since" // and stays so
)

// Recover thaws what windows of dead processes left frozen, and only that, and
// removes their journals. Windows that are alive are not touched. It can be
// called at any time, also by several processes at once. A guard that is
// thawing is waited for, and ended if it hangs. A journal whose members could
// not all be thawed stays, and the error says so; the rest is done all the
// same. Containers that were stopped are started again in reverse order;
// Recover does not wait for their health.
func Recover(ctx context.Context, o Options) ([]Recovered, error) {
	paths, err := filepath.Glob(filepath.Join(o.Dir, journalPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var out []Recovered
	var errs error
	for _, path := range paths {
		recovered, err := recoverOne(ctx, path, o.Engine)
		out = append(out, recovered...)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("thaw what a killed snapd left frozen (%s): %w", path, err))
		}
	}
	return out, errs
}

// How often a journal that is locked is tried, and how long after.
const (
	lockTries = 3
	lockAgain = 3 * time.Millisecond
)

func recoverOne(ctx context.Context, path string, engine Engine) (_ []Recovered, err error) {
	j, err := openJournal(path)
	for try := 1; errors.Is(err, errAlive) && try < lockTries; try++ {
		time.Sleep(lockAgain) // perhaps another process only looks at it
		j, err = openJournal(path)
	}
	if errors.Is(err, errAlive) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := outlast(j); err != nil {
		return nil, err
	}
	if gone, err := j.unnamed(); gone || err != nil {
		return nil, err // its guard has thawed everything
	}
	c, err := j.read()
	if err != nil {
		return nil, err
	}
	var out []Recovered
	var errs error
	if c.state == stateOpen {
		out, errs = c.recover(ctx, engine)
	}
	if errs != nil {
		return out, errs
	}
	return out, j.remove()
}

// recover thaws in reverse: filesystems first, then members.
func (c contents) recover(ctx context.Context, engine Engine) ([]Recovered, error) {
	var out []Recovered
	var errs error
	for _, d := range slices.Backward(c.Disks) {
		outcome, err := d.recover()
		if err != nil {
			errs = errors.Join(errs, advice.With(fmt.Errorf("thaw filesystem %s: %w", d.Dir, err), "run: fsfreeze --unfreeze %s", d.Dir))
			continue
		}
		out = append(out, Recovered{Member: Member{Kind: Disk, ID: d.Dir, Name: d.Dir}, Outcome: outcome, Window: c.Started})
	}
	outcomes, faults := c.recoverMembers(ctx, engine, ByCgroup, ByPause, ByStop)
	for i, m := range slices.Backward(c.Members) {
		if faults[i] != nil {
			errs = errors.Join(errs, fmt.Errorf("thaw %s %s: %w", m.Kind, m.Name, faults[i]))
			continue
		}
		out = append(out, Recovered{Member: m.member(), Outcome: outcomes[i], Window: c.Started})
	}
	return out, errs
}

// recoverMembers thaws those that were frozen in one of the given ways: cgroups
// first, in reverse, then all that are paused at once, then what was stopped,
// rank by rank in reverse. The results are in the order of the members.
func (c contents) recoverMembers(ctx context.Context, engine Engine, hows ...How) ([]Outcome, []error) {
	outcomes, errs := make([]Outcome, len(c.Members)), make([]error, len(c.Members))
	one := func(i int) { outcomes[i], errs[i] = c.Members[i].recover(ctx, engine, c.memberStates[i]) }
	waves := map[int][]int{}
	var ranks []int
	var all sync.WaitGroup
	for i, m := range slices.Backward(c.Members) {
		switch {
		case !slices.Contains(hows, m.How):
		case m.How == ByPause:
			all.Go(func() { one(i) })
		case m.How == ByStop:
			if waves[m.Rank] == nil {
				ranks = append(ranks, m.Rank)
			}
			waves[m.Rank] = append(waves[m.Rank], i)
		default:
			one(i)
		}
	}
	all.Wait()
	slices.Sort(ranks)
	for _, rank := range slices.Backward(ranks) {
		for _, i := range waves[rank] {
			all.Go(func() { one(i) })
		}
		all.Wait()
	}
	return outcomes, errs
}

func (m journalMember) member() Member {
	return Member{Kind: m.Kind, ID: m.ID, Name: m.Name, Cgroup: m.Cgroup, Pause: m.How == ByPause, Stop: m.How == ByStop}
}

// recover thaws one member if it is still what the window froze. entry is what
// the journal says of it.
func (m journalMember) recover(ctx context.Context, engine Engine, entry byte) (Outcome, error) {
	ctx = context.WithoutCancel(ctx)
	if m.How == ByStop {
		return m.recoverStopped(ctx, engine, entry)
	}
	var s state
	if m.Kind == Container && engine != nil {
		s = stateCall(ctx, engine, m.ID)()
	}
	if m.How == ByPause {
		return m.recoverPaused(ctx, engine, s)
	}
	t, outcome, err := m.reopen()
	if t == nil {
		return outcome, err
	}
	defer t.close()
	on, err := t.switchedOn()
	switch {
	case err != nil:
		return "", err
	case t.gone:
		return Vanished, nil
	case !on:
		return Moving, nil
	case s.err == nil && s.paused && !pausesElsewhere():
		return Taken, nil
	}
	if err := t.write('0'); err != nil {
		return "", err
	}
	if on, err := t.switchedOn(); err != nil || on {
		return "", errors.Join(errors.New("it is still frozen after cgroup.freeze was written"), err)
	}
	return Thawed, nil
}

// pausesElsewhere tells whether the engine pauses through a v1 hierarchy. On
// hosts without one, pausing writes to the same cgroup.freeze as we do.
func pausesElsewhere() bool {
	m, err := cgroup.Of(0)
	return err == nil && m.V1["freezer"] != ""
}

// reopen opens the cgroup if it is the very one that was frozen; otherwise
// the target is nil.
func (m journalMember) reopen() (*target, Outcome, error) {
	t := newTarget(m.member())
	err := t.open(m.Cgroup)
	switch {
	case vanished(err):
		t.close()
		return nil, Vanished, nil
	case err != nil:
		t.close()
		return nil, "", err
	case t.dev != m.Dev || t.ino != m.Ino:
		t.close()
		return nil, Vanished, nil
	}
	return t, "", nil
}

// recoverPaused unpauses and looks again when that fails: the dead process may
// have asked for the same a moment before.
func (m journalMember) recoverPaused(ctx context.Context, engine Engine, s state) (Outcome, error) {
	if engine == nil {
		return "", advice.With(errors.New("the engine had been asked to pause it, and cannot be reached now"), "start the engine, then run: snapd thaw")
	}
	outcome := Moving
	look := stateCall(ctx, engine, m.ID)
	var err error
	for try := 0; s.err == nil && s.running && s.paused; try++ {
		if try == unpauseTries {
			return "", err
		}
		err = newPauser(ctx, engine, m.ID).unpause()
		outcome, s = Thawed, look()
	}
	if s.err != nil {
		return "", errors.Join(s.err, err)
	}
	if !s.running {
		return Vanished, nil
	}
	// runc can leave the cgroup frozen behind the engine's back.
	t, _, err := m.reopen()
	if t == nil {
		return outcome, err
	}
	defer t.close()
	if on, err := t.switchedOn(); err != nil || !on {
		return outcome, err
	}
	return Thawed, t.write('0')
}
