package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/ship"
)

// planEvents says what becomes of events that cannot be read, and that this host
// has never read, so that it cannot put them back.
func (r *repair) planEvents(view *ship.View) {
	r.event = nil
	for _, e := range view.LostEvents() {
		r.event = append(r.event, e.Number)
		r.step(Repair{Action: RepairAccept, Object: e.Object, Allowed: r.o.AcceptLoss, Text: lostEventText(e)})
	}
}

// lostEventText says what is known of an event that this host cannot read, what
// could put it back, and what giving it up means.
func lostEventText(e ship.LostEvent) string {
	state := "is not there"
	if e.There {
		state = "does not verify"
	}
	var named []string
	if e.Events > 0 {
		named = append(named, plural(e.Events, "later event", "later events"))
	}
	if e.Points > 0 {
		named = append(named, plural(e.Points, "restore point", "restore points"))
	}
	proof := "nothing that can be read names it"
	if len(named) > 0 {
		proof = "signed records name it: " + strings.Join(named, " and ")
	}
	return fmt.Sprintf("write down that event number %d cannot be read any more: it %s, and %s. "+
		"Before that, try to get it back: a host that has read it puts it back with snapd repair, as does a copy of the object. "+
		"Once it is written down, what this event removed, pinned or called damaged is forgotten: "+
		"pin again what is to stay, and snapd verify finds damage again", e.Number, state, proof)
}

// givesUp tells whether a problem is one of the events that cannot be read.
func (r *repair) givesUp(p ship.Problem) bool {
	return slices.ContainsFunc(r.event, func(n int64) bool { return strings.HasSuffix(p.Object, fmt.Sprintf("ledger/%010d", n)) })
}

// giveUp writes down which events cannot be read any more, of those that were
// said before: one that another host has put back meanwhile is left out.
func (r *repair) giveUp(ctx context.Context, repo *ship.Repository, view *ship.View) error {
	if !r.o.AcceptLoss {
		return nil
	}
	var still []int64
	for _, e := range view.LostEvents() {
		if slices.Contains(r.event, e.Number) {
			still = append(still, e.Number)
		}
	}
	if len(still) == 0 {
		return nil
	}
	return repo.GiveUpEvents(ctx, view, still)
}
