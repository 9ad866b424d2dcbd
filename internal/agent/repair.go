package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// RepairOptions say what a repair may do.
type RepairOptions struct {
	Repository string // "" means all that are configured
	Plan       bool   // only say what it would do
	AcceptLoss bool   // also write down which points are gone for good
	RemoveJunk bool   // also delete objects that do not verify and that nothing needs
	// Say is told each step before it is done. May be nil.
	Say func(Repair)
}

// Repair is one thing that a repair does, or could do.
type Repair struct {
	Repository string     `json:"repository"`
	Action     RepairKind `json:"action"`
	Object     string     `json:"object,omitempty"` // key, where it concerns one
	Points     []point.ID `json:"points,omitempty"`
	Text       string     `json:"text"`    // for people
	Allowed    bool       `json:"allowed"` // false: it is not done unless a person allows it
}

// RepairKind says what is done.
type RepairKind string

// What a repair does.
const (
	RepairHeal   RepairKind = "heal"   // ship damaged streams anew from the snapshots here
	RepairShip   RepairKind = "ship"   // ship lost points again from the snapshots here
	RepairAccept RepairKind = "accept" // write down that points are gone for good
	RepairRemove RepairKind = "remove" // delete an object that does not verify and that nothing needs
	RepairPut    RepairKind = "put"    // put an event back as it was signed
	RepairTell   RepairKind = "tell"   // nothing can be done from here
)

// Causes of steps that a repair leaves out.
const (
	NotAccepted advice.Class = "not-accepted" // losses that a person has to accept
	NotRemoved  advice.Class = "not-removed"  // junk that a person has to have removed
)

// Repaired is what a repair did, or would do.
type Repaired struct {
	Steps  []Repair   `json:"steps"`
	Healed []point.ID `json:"healed"`
}

// Repair does on purpose what a ship does by itself, for all groups, and what a
// person has to allow. It says what it will do before it does anything. What is
// left afterwards is the error, of the class damaged.
func (a *Agent) Repair(ctx context.Context, o RepairOptions) (Repaired, error) {
	out := Repaired{Steps: []Repair{}, Healed: []point.ID{}}
	if o.Say == nil {
		o.Say = func(Repair) {}
	}
	names := a.repositoryNames(o.Repository)
	switch {
	case len(names) == 0 && o.Repository != "":
		return out, a.noRepository(o.Repository)
	case len(names) == 0:
		return out, advice.In(NoRepository, advice.Usagef("no repository is configured, so there is nothing to repair"))
	}
	s, groups, _, err := a.lookFor(ctx, nil)
	if err != nil {
		return out, err
	}
	defer s.close() //nolint:errcheck // only read from
	var faults []error
	for _, name := range names {
		r := &repair{agent: a, o: o, name: name, out: &out}
		for _, g := range groups {
			if slices.Contains(g.Repositories, name) {
				r.groups = append(r.groups, g)
			}
		}
		if err := r.run(ctx); err != nil {
			faults = append(faults, fmt.Errorf("repair repository %s: %w", name, err))
		}
	}
	return out, errors.Join(faults...)
}

// repair is that of one repository.
type repair struct {
	agent  *Agent
	o      RepairOptions
	name   string
	groups []workload.Group
	out    *Repaired

	gone  []int64
	again []int64 // gone too, but their points were shipped again under other numbers
	junk  []string
	put   []int64  // events that are put back
	event []int64  // events that cannot be read and that this host has never read
	lease []string // keys of leases that do not verify
	ill   bool     // kept points are damaged
	lost  bool     // points are lost
}

func (r *repair) run(ctx context.Context) error {
	if err := r.plan(ctx); err != nil || r.o.Plan {
		return err
	}
	var faults []error
	if r.ill || r.lost || len(r.again) > 0 {
		faults = append(faults, r.heal(ctx))
	}
	if ctx.Err() == nil && (len(r.junk)+len(r.lease) > 0 && r.o.RemoveJunk || len(r.gone)+len(r.event) > 0 && r.o.AcceptLoss || len(r.again) > 0 || len(r.put) > 0) {
		faults = append(faults, r.write(ctx))
	}
	if ctx.Err() == nil {
		faults = append(faults, r.left(ctx))
	}
	return errors.Join(faults...)
}

// plan looks at everything and says what will be done.
func (r *repair) plan(ctx context.Context) error {
	repo, view, cache, err := r.agent.openView(ctx, r.name, ship.Whole)
	if err != nil {
		again, err := r.describe(ctx, err)
		if err != nil || !again {
			return err
		}
		if repo, view, cache, err = r.agent.openView(ctx, r.name, ship.Whole); err != nil {
			return err
		}
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	for _, d := range view.Damage() {
		r.ill = true
		r.step(Repair{Action: RepairHeal, Object: d.Object, Points: d.Points, Allowed: true, Text: fmt.Sprintf("ship anew what makes stream %s (%s), if its snapshot is still here", d.Stream, d.Problem)})
	}
	var lost []point.ID
	for _, p := range lostPoints(view) {
		lost = append(lost, p.ID)
	}
	if r.lost = len(lost) > 0; r.lost {
		r.step(Repair{Action: RepairShip, Points: lost, Allowed: true, Text: "ship again what is gone without a record of its removal, if its snapshots are still here"})
	}
	if err := r.lookForGone(ctx, repo, view); err != nil {
		return err
	}
	if len(r.again) > 0 {
		r.step(Repair{Action: RepairAccept, Allowed: true, Text: fmt.Sprintf("write down that nothing lies under the numbers %s any more: their points were shipped again", numbersText(r.again))})
	}
	if len(r.gone) > 0 {
		r.step(Repair{Action: RepairAccept, Points: lost, Allowed: r.o.AcceptLoss, Text: fmt.Sprintf("write down that the points with the numbers %s are gone for good: they were asked for by name and are not there; what nothing else needs can then be removed", numbersText(r.gone))})
	}
	_, leases, err := repo.Leases(ctx)
	if err != nil {
		return err
	}
	for _, p := range leases {
		r.lease = append(r.lease, p.Object)
		r.step(Repair{Action: RepairRemove, Object: p.Object, Allowed: r.o.RemoveJunk, Text: "delete a lease that does not verify; the next ship of the host that put it replaces it, too: " + p.Problem})
	}
	r.put = view.Broken()
	for _, p := range view.Junk() {
		r.junk = append(r.junk, p.Object)
		r.step(Repair{Action: RepairRemove, Object: p.Object, Allowed: r.o.RemoveJunk, Text: "delete an object that no record needs: " + p.Problem})
	}
	r.planEvents(view)
	for _, p := range view.Problems {
		switch {
		case r.givesUp(p):
		case r.puts(p):
			r.step(Repair{Action: RepairPut, Object: p.Object, Allowed: true, Text: "put back what lay there, as it was signed: this host remembers it (" + p.Problem + ")"})
		case slices.Contains(r.junk, p.Object), r.accepts(p), p.Kind == ship.KindOldGaps:
		default:
			r.step(Repair{Action: RepairTell, Object: p.Object, Text: "nothing can be done about it from here: " + p.Problem})
		}
	}
	return nil
}

// puts tells whether a problem is one of the events that are put back.
func (r *repair) puts(p ship.Problem) bool {
	return slices.ContainsFunc(r.put, func(n int64) bool { return strings.HasSuffix(p.Object, fmt.Sprintf("ledger/%010d", n)) })
}

// lookForGone finds the numbers under which nothing lies any more.
func (r *repair) lookForGone(ctx context.Context, repo *ship.Repository, view *ship.View) error {
	gone, err := repo.Gone(ctx, view)
	if err != nil {
		return err
	}
	r.gone, r.again = nil, nil
	for _, n := range gone {
		lost := func(p ship.PointRecord) bool { return p.Number == n }
		if i := slices.IndexFunc(view.Lost(), lost); i >= 0 {
			if _, kept := view.Point(view.Lost()[i].ID); kept {
				r.again = append(r.again, n)
				continue
			}
		}
		r.gone = append(r.gone, n)
	}
	return nil
}

// accepts tells whether a problem is one of the numbers that are gone.
func (r *repair) accepts(p ship.Problem) bool {
	return slices.ContainsFunc(slices.Concat(r.gone, r.again), func(n int64) bool { return strings.HasSuffix(p.Object, fmt.Sprintf("points/%010d", n)) })
}

func numbersText(numbers []int64) string {
	var words []string
	for _, n := range numbers {
		words = append(words, fmt.Sprint(n))
	}
	return strings.Join(words, ", ")
}

func (r *repair) step(s Repair) {
	s.Repository = r.name
	r.out.Steps = append(r.out.Steps, s)
	r.o.Say(s)
}

// heal ships, for all groups, what a ship would.
func (r *repair) heal(ctx context.Context) error {
	var faults []error
	for _, g := range r.groups {
		healed, _, err := r.agent.heal(ctx, g, r.name)
		for _, p := range healed {
			r.out.Healed = append(r.out.Healed, p.ID)
		}
		if err == nil && (r.lost || len(r.again) > 0) { // or it was killed before the record here said so
			err = r.ship(ctx, g.Name)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("group %s: %w", g.Name, err))
		}
	}
	return errors.Join(faults...)
}

// ship is Ship with a whole look: what is lost is only seen by that.
func (r *repair) ship(ctx context.Context, group string) error {
	repos := r.agent.repositories()
	repos.look = ship.Whole
	defer repos.close()
	_, err := (&shipping{Agent: r.agent, repos: repos, lossAccepted: r.o.AcceptLoss}).groups(ctx, []string{group})
	return err
}

// write puts on record what a person allowed. The list of points is locked, and
// what is shipped again meanwhile is no loss.
func (r *repair) write(ctx context.Context) (err error) {
	repo, view, cache, err := r.agent.openView(ctx, r.name, ship.Whole)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	held, err := r.agent.waitLock(ctx, pointsLock(repo), "the list of points in "+r.name, time.Minute)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	for _, n := range view.Broken() {
		if err := repo.RestoreEvent(ctx, view, n); err != nil {
			return err
		}
	}
	if err := r.giveUp(ctx, repo, view); err != nil {
		return err
	}
	if r.o.RemoveJunk {
		still := slices.DeleteFunc(r.junk, func(key string) bool {
			return !slices.ContainsFunc(view.Junk(), func(p ship.Problem) bool { return p.Object == key })
		})
		if err := errors.Join(repo.RemoveJunk(ctx, view, still), repo.RemoveLeases(ctx, r.lease)); err != nil {
			return err
		}
	}
	if err := r.lookForGone(ctx, repo, view); err != nil {
		return err
	}
	settled := r.again
	if r.o.AcceptLoss {
		settled = slices.Concat(settled, r.gone)
	}
	if len(settled) == 0 {
		return nil
	}
	return repo.Absent(ctx, view, settled)
}

// left looks once more, and says what is not repaired.
func (r *repair) left(ctx context.Context) error {
	repo, view, cache, err := r.agent.openView(ctx, r.name, ship.Whole)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // what it could not write is read again
	_, leases, err := repo.Leases(ctx)
	if err != nil {
		return err
	}
	r.agent.noteLeases(r.name, repo.ID, leases)
	var faults []error
	if n := len(damagedPoints(view)); n > 0 {
		err := fmt.Errorf("%s and cannot be healed from this host", plural(n, "restore point is damaged", "restore points are damaged"))
		faults = append(faults, advice.With(err, "run it on a host that still has the snapshots, or remove what is lost with snapd drop"))
	}
	problems := slices.Concat(view.Problems, leases)
	if n := len(problems); n > 1 || n == 1 && problems[0].Kind != ship.KindOldGaps {
		err := fmt.Errorf("%s unexplained, the first is %s: %s", plural(n, "thing there is", "things there are"), problems[0].Object, problems[0].Problem)
		switch {
		case len(r.gone)+len(r.event) > 0 && !r.o.AcceptLoss:
			err = advice.In(NotAccepted, err)
		case len(r.junk)+len(r.lease) > 0 && !r.o.RemoveJunk:
			err = advice.In(NotRemoved, err)
		}
		faults = append(faults, err)
	}
	if len(faults) == 0 {
		return nil
	}
	return advice.In(advice.Damaged, errors.Join(faults...))
}
