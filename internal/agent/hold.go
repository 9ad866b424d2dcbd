package agent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/config"
	"snapd/internal/freeze/hold"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// runner runs commands in containers through the engine.
type runner struct{ engine *workload.Engine }

func (r runner) Start(ctx context.Context, c hold.Command) (hold.Session, error) {
	s, err := r.engine.Exec(ctx, c.ID, workload.Command{
		Args: c.Args, User: c.User, Mark: c.Mark, Stdout: c.Stdout, Stderr: c.Stderr,
	})
	if err != nil {
		return nil, err // not a session that is nil
	}
	return s, nil
}

func target(c workload.Container) hold.Target {
	return hold.Target{ID: c.ID, Name: c.Name, User: string(c.Commands.User)}
}

// agreement is what the applications of a group do for one of its points.
type agreement struct {
	a       *Agent
	runner  runner
	group   workload.Group
	planned point.Consistency
	point   *point.Point

	missing bool // an application that was to agree did not
	agreed  []point.Quiet
	held    *hold.Held
	wasLost error // a lock was lost, and the point is kept all the same
}

// agree begins an agreement. Members that are to be stopped are not asked:
// their shutting down puts more in order than any lock.
func (a *Agent) agree(s *scene, g workload.Group, r *resolved, p *point.Point) *agreement {
	g.Members = slices.Clone(g.Members)
	if r.stops() { // also when the point is called less for what others write
		g.Members = nil
	}
	return &agreement{a: a, runner: runner{s.engine}, group: g, planned: r.plan.Consistency, point: p}
}

// members are the containers that can be asked. One that another program has
// frozen or paused cannot.
func (g *agreement) members(ctx context.Context, asks func(config.Commands) bool) ([]workload.Container, error) {
	var out []workload.Container
	for _, c := range g.group.Members {
		if !asks(c.Commands) {
			continue
		}
		// A hook may have changed it since it was looked up.
		running, paused, err := g.runner.engine.State(ctx, c.ID)
		switch {
		case err != nil:
			return nil, err
		case paused:
			g.missing = true
			g.warn("container %s is paused, so that its application was not asked to put its data in order", c.Name)
		case running:
			out = append(out, c)
		}
	}
	return out, nil
}

func (g *agreement) warn(format string, args ...any) {
	g.point.Warnings = append(g.point.Warnings, fmt.Sprintf(format, args...))
}

// checkpoint has the PostgreSQL servers write out what they have in memory.
// It makes recovery short; without it the point is as good as after a power
// cut, so that a failure is no reason to have none.
func (g *agreement) checkpoint(ctx context.Context) {
	members, err := g.members(ctx, func(c config.Commands) bool { return c.Quiesce == config.QuiescePostgres })
	if err != nil {
		g.missing = true
		g.warn("checkpoint (postgres): %s", inOneLine(err))
	}
	for _, c := range members {
		if err := hold.Checkpoint(ctx, g.runner, target(c), time.Duration(g.group.HookTimeout)); err != nil {
			g.missing = true
			g.warn("%s", inOneLine(err))
			continue
		}
		g.agreed = append(g.agreed, point.Quiet{Container: c.Name, By: string(config.QuiescePostgres)})
	}
}

// acquire takes the locks. Nothing is frozen yet; when one cannot be had, no
// point is made.
func (g *agreement) acquire(ctx context.Context) error {
	members, err := g.members(ctx, config.Commands.Locks)
	if err != nil {
		return err
	}
	var locks []hold.Lock
	for _, c := range members {
		if c.Commands.Quiesce == config.QuiesceMariaDB {
			locks = append(locks, hold.Lock{Target: target(c), By: hold.MariaDB})
		}
		if len(c.Commands.Hold) > 0 {
			locks = append(locks, hold.Lock{Target: target(c), By: "command", Args: c.Commands.Hold})
		}
	}
	mark, err := holdMark()
	if err != nil {
		return err
	}
	g.held, err = hold.Acquire(ctx, locks, hold.Options{
		Runner: g.runner, Timeout: time.Duration(g.group.HoldTimeout), Mark: mark, Fault: g.a.Fault,
	})
	return err
}

// release gives the locks back, right after the window. A lock that was lost
// before is an error, unless the group keeps overruns as crash.
func (g *agreement) release(ctx context.Context) error {
	err := g.held.Release(ctx)
	if _, lost := errors.AsType[*hold.Lost](err); lost && g.group.OnOverrun == config.OverrunCrash {
		g.wasLost, err = err, nil
	}
	return err
}

// note writes into the point what was agreed. whole: nothing else went wrong.
func (g *agreement) note(whole bool) {
	p := g.point
	p.HeldUS, p.Timings.Hold = g.held.Held().Microseconds(), g.held.Took().Microseconds()
	if g.wasLost != nil {
		p.Consistency = point.Crash
		g.warn("%s; kept as crash, as on-overrun says", inOneLine(g.wasLost))
		return
	}
	for _, l := range g.held.All() {
		g.agreed = append(g.agreed, point.Quiet{Container: l.Name, By: l.By, Said: l.Said, Tries: l.Tries, HeldUS: l.Held.Microseconds()})
	}
	p.Quiesced = g.agreed
	for _, q := range g.agreed {
		p.Why += "; " + quietly(q)
	}
	lowered := p.Consistency != g.planned // by a later step, which saw more
	if whole && !lowered && len(g.agreed) > 0 && !g.missing && (g.planned == point.Crash || g.planned == point.Frozen) {
		p.Consistency = point.Quiesced
	}
}

// quietly says for people what an application did.
func quietly(q point.Quiet) string {
	switch q.By {
	case string(config.QuiescePostgres):
		return q.Container + " had made a checkpoint (postgres)"
	case hold.MariaDB:
		return q.Container + " kept commits and writes waiting (mariadb, BACKUP STAGE BLOCK_COMMIT)"
	}
	return q.Container + " held its lock (hold command)"
}

// holdPrefix begins the mark of commands that keep locks.
const holdPrefix = "hold-"

func holdMark() (string, error) {
	self, err := workload.SelfMark()
	return holdPrefix + self, err
}

// hookPrefix begins the mark of hooks, hookEnd separates what tells them apart.
const hookPrefix, hookEnd = "hook-", "+"

// hookMark is the mark of one run of a hook: of this process, so that a later one
// sees whether that was killed, of those that share its locks, and unlike any other.
func (a *Agent) hookMark() (string, error) {
	self, err := workload.SelfMark()
	return hookPrefix + self + hookEnd + a.kin() + hookEnd + rand.Text(), err
}

// kin is one text for all processes of snapd that share their locks.
func (a *Agent) kin() string {
	sum := sha256.Sum256([]byte(a.Run))
	return hex.EncodeToString(sum[:4])
}

// orphaned tells whether a mark is of a hold, or of a hook of ours, whose snapd was
// killed.
func (a *Agent) orphaned(mark string) bool {
	if self, ours := strings.CutPrefix(mark, holdPrefix); ours {
		return workload.MarkOfDead(self)
	}
	self, ours := strings.CutPrefix(mark, hookPrefix)
	self, rest, _ := strings.Cut(self, hookEnd)
	kin, _, whole := strings.Cut(rest, hookEnd)
	return ours && whole && kin == a.kin() && workload.MarkOfDead(self)
}

// endOrphans ends commands that keep a lock, and hooks that run, for a snapd that
// was killed. The engine has closed their input when that happened; this is for
// those that did not heed it, and for an engine that hangs.
func (a *Agent) endOrphans() []string {
	ended, err := workload.EndMarked(a.orphaned)
	var out []string
	for _, pid := range ended {
		out = append(out, fmt.Sprintf("process %d, which kept a lock or ran a hook for a killed snapd, was ended", pid))
		a.warn("", "%s", out[len(out)-1])
	}
	if err != nil {
		a.warnOfError("", err)
	}
	return out
}
