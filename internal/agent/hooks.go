package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/freeze"
	"snapd/internal/freeze/hold"
	"snapd/internal/point"
	"snapd/internal/quote"
	"snapd/internal/workload"
)

// The steps of hooks at which Options.Fault is called.
const (
	StepPromised  = "hook-promised"  // the hook after is on disk; the one before has not been started
	StepBefore    = "hook-before"    // one hook before has ended
	StepRecorded  = "hook-recorded"  // the point is recorded; no hook after has run
	StepAfter     = "hook-after"     // one hook after has ended; its promise still stands
	StepAfterDone = "hook-afterdone" // its promise is gone
)

func (a *Agent) promises() string { return filepath.Join(a.State, "hooks") }

func (a *Agent) fault(step string) {
	if a.Fault != nil {
		a.Fault(step)
	}
}

// runHooks runs the group's hooks before, and those after when the point is
// recorded or is not to be. They run outside of the host's window lock, so that a
// dump of ten minutes keeps no other group waiting. When a hook before fails there
// is no point; when one after does, there is a point and an error.
func (t *taking) runHooks(ctx context.Context) error {
	g, s := t.group, t.scene
	if !g.Asks(config.Commands.Hooks) || s.engine == nil {
		return nil
	}
	held, err := t.waitLock(ctx, "hooks-"+g.Name, "group "+g.Name, patience)
	if err != nil {
		return err
	}
	t.then(func(context.Context) error { return held.release() })
	// What is refused anyway is refused before anything has run.
	if _, err := t.Agent.resolve(ctx, s, g); err != nil && !changed(err) {
		return err
	}
	t.thawLeft(ctx, s)
	h := hooks{a: t.Agent, runner: runner{s.engine}, group: g}
	t.then(func(ctx context.Context) error {
		t.fault(StepRecorded)
		t.letGoDown() // the hooks after need not be waited for
		err := h.after(ctx)
		if !t.recorded {
			return err
		}
		noted, putErr := t.remember(ctx, t.point.ID, func(q *point.Point) {
			q.Hooks, q.Warnings = h.outcomes, append(q.Warnings, h.warnings...)
		})
		if putErr == nil {
			t.point = noted
		}
		return errors.Join(err, putErr)
	})
	return h.before(ctx)
}

// hooks are those of one point of a group.
type hooks struct {
	a        *Agent
	runner   runner
	group    workload.Group
	promised []*hold.Promise
	outcomes []point.Hook
	warnings []string
}

// before runs the hooks before, one after the other. That the one after must
// run is on disk before the one before is started.
func (h *hooks) before(ctx context.Context) error {
	for _, c := range h.group.Members {
		if !c.Commands.Hooks() {
			continue
		}
		running, paused, err := h.runner.engine.State(ctx, c.ID)
		if err != nil {
			return err
		}
		if !running || paused {
			h.warnings = append(h.warnings, fmt.Sprintf("container %s does not run, so that its hooks did not either", c.Name))
			h.a.warn(h.group.Name, "%s", h.warnings[len(h.warnings)-1])
			continue
		}
		mark, err := h.a.hookMark()
		if err != nil {
			return err
		}
		hook := hold.Hook{Target: target(c), Args: c.Commands.Before, Mark: mark}
		if len(c.Commands.After) > 0 {
			p := &hold.Promise{
				Group: h.group.Name, Made: h.a.Now(), ID: c.ID, Name: c.Name, User: string(c.Commands.User),
				Args: c.Commands.After, Timeout: time.Duration(h.group.HookTimeout), Mark: hook.Mark,
			}
			if err := p.Make(h.a.promises()); err != nil {
				return err
			}
			h.promised = append(h.promised, p)
			h.a.fault(StepPromised)
		}
		if len(hook.Args) == 0 {
			continue
		}
		if err := h.run(ctx, "before", hook).Failure(); err != nil {
			err = fmt.Errorf("hook before the point in container %s: %w; nothing was frozen, and no point was taken", c.Name, err)
			return advice.With(err, "correct the command, and try it with: docker exec %s …", c.Name)
		}
		h.a.fault(StepBefore)
	}
	return nil
}

// after runs the hooks after, in reverse, of all that were begun. What cannot
// run now is left to the next call.
func (h *hooks) after(ctx context.Context) error {
	var errs error
	for _, p := range slices.Backward(h.promised) {
		o := h.run(ctx, "after", p.Hook())
		h.a.fault(StepAfter)
		if err := o.Failure(); err != nil {
			errs = errors.Join(errs, fmt.Errorf("hook after the point in container %s: %w", p.Name, err))
		}
		if o.Err != nil && !errors.Is(o.Err, hold.ErrTooLong) {
			errs = errors.Join(errs, advice.With(errors.New("that hook has yet to run"), "run: snapd thaw, or wait for the next snapshot, which runs it too"), p.Later())
			continue
		}
		errs = errors.Join(errs, p.Kept())
		h.a.fault(StepAfterDone)
	}
	return errs
}

func (h *hooks) run(ctx context.Context, when string, hook hold.Hook) hold.Outcome {
	h.a.step(h.group.Name, "hook %s the point in container %s", when, hook.Name)
	o := hold.Run(ctx, h.runner, hook, time.Duration(h.group.HookTimeout))
	done := point.Hook{
		When: when, Container: hook.Name, Command: hook.Args, Exit: o.Exit,
		Seconds: o.Took.Seconds(), Output: o.Output,
	}
	if o.Err != nil {
		done.Error = o.Err.Error()
	}
	h.outcomes = append(h.outcomes, done)
	return o
}

// thawLeft thaws what a killed snapd left frozen: no command can be started in
// it.
func (a *Agent) thawLeft(ctx context.Context, s *scene) {
	recovered, err := freeze.Recover(ctx, a.windowOptions(s, 0))
	tellRecovered(a.Report, recovered)
	if err != nil {
		a.warnOfError("", err)
	}
}

// keepPromises runs the hooks after that a killed snapd owes. What cannot run
// now waits for the next call; nothing of it prevents a new point.
func (a *Agent) keepPromises(ctx context.Context, s *scene) []string {
	owed, err := hold.Outstanding(a.promises())
	if err != nil {
		a.warnOfError("", err)
	}
	if len(owed) == 0 {
		return nil
	}
	a.thawLeft(ctx, s)
	var out []string
	for _, p := range owed {
		text, done := a.keepPromise(ctx, s, p)
		text += "; " + quote.Ran(p.Args)
		a.warn(p.Group, "%s", text)
		out = append(out, text)
		if done {
			err = p.Kept()
		} else {
			err = p.Later()
		}
		if err != nil {
			a.warnOfError(p.Group, err)
		}
	}
	return out
}

// keepPromise tells what became of one, and whether that was all.
func (a *Agent) keepPromise(ctx context.Context, s *scene, p *hold.Promise) (text string, done bool) {
	what := fmt.Sprintf("the hook after a point, which a killed snapd owed container %s,", p.Name)
	if s.engine == nil {
		return what + " waits for the container engine", false
	}
	if !slices.ContainsFunc(s.containers, func(c workload.Container) bool { return c.ID == p.ID }) {
		return what + " was dropped: that container is gone; if what it was to undo lies in a volume, run it by hand", true
	}
	running, paused, err := s.engine.State(ctx, p.ID)
	switch {
	case err != nil:
		return fmt.Sprintf("%s waits: %v", what, err), false
	case !running || paused:
		return what + " waits until that container runs", false
	}
	// What was begun before may still be at it.
	if _, err := workload.EndMarked(func(mark string) bool { return p.Mark != "" && mark == p.Mark }); err != nil {
		return fmt.Sprintf("%s waits: %v", what, err), false
	}
	o := hold.Run(ctx, runner{s.engine}, p.Hook(), p.Timeout)
	if errors.Is(o.Err, workload.ErrHangs) || errors.Is(o.Err, context.Canceled) {
		return fmt.Sprintf("%s waits: %v", what, o.Err), false
	}
	if err := o.Failure(); err != nil {
		return fmt.Sprintf("%s was run, and failed: %v", what, err), true
	}
	return what + " was run", true
}
