package agent

import (
	"fmt"
	"time"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/retain"
	"snapd/internal/ship"
	"snapd/internal/workload"
)

// choice is what a stream builds on.
type choice struct {
	retain.Choice
	stream *ship.StreamRef // the base; nil: a full stream
}

// chooser chooses what the next stream of a dataset builds on. It leaves out,
// one reason after the other, what must not be built upon; the reason that took
// the last base away is why a stream is full.
type chooser struct {
	view    *ship.View
	all     []ship.StreamRef // of the dataset, that kept points need
	filters []filter
	full    bool // the user asked for a full stream
	only    string
}

type filter struct {
	why string
	fit func(ship.StreamRef) bool
}

func (a *shipping) chooser(o *opened, g workload.Group, origin string) *chooser {
	c := &chooser{view: o.view}
	for _, s := range o.view.Streams() {
		if s.Origin == origin {
			c.all = append(c.all, s)
		}
	}
	c.filters = a.baseFilters(o, g)
	if a.full && !a.begun[o.repo.ID+" "+origin] {
		c.full = true
		c.onlyFull("it was asked for")
	}
	return c
}

// baseFilters are the reasons for which no increment is built on a stream that is
// there, one after the other.
func (a *Agent) baseFilters(o *opened, g workload.Group) []filter {
	tag := o.repo.RecipientsTag()
	begun := a.Now().Add(-time.Duration(g.FullEvery))
	root := roots(o.view)
	filters := []filter{
		{"its base is damaged", func(s ship.StreamRef) bool { return o.view.Whole(s.ID) }},
		{"the recipients changed", func(s ship.StreamRef) bool {
			return o.repo.Encryption == ship.EncryptionNone || s.Recipients == tag
		}},
	}
	if g.FullEvery > 0 {
		filters = append(filters, filter{
			fmt.Sprintf("the last full stream is older than full-every (%s)", shortDuration(time.Duration(g.FullEvery))),
			func(s ship.StreamRef) bool { return root(s.ID).Time().After(begun) },
		})
	}
	return filters
}

// made is a stream that makes a snapshot and may be built upon.
func (c *chooser) made(guid string) (ship.StreamRef, bool) {
	for _, s := range c.fit(len(c.filters)) {
		if s.GUID == guid {
			return s, true
		}
	}
	return ship.StreamRef{}, false
}

// refuse leaves one base out.
func (c *chooser) refuse(id point.ID, why string) {
	c.filters = append(c.filters, filter{why, func(s ship.StreamRef) bool { return s.ID != id }})
}

func (c *chooser) onlyFull(why string) { c.only = why }

// fit are the streams that the first n filters leave.
func (c *chooser) fit(n int) []ship.StreamRef {
	var out []ship.StreamRef
next:
	for _, s := range c.all {
		for _, f := range c.filters[:n] {
			if !f.fit(s) {
				continue next
			}
		}
		out = append(out, s)
	}
	return out
}

// choose chooses among what is on this host and older than the snapshot.
func (c *chooser) choose(here []fs.Snapshot, snap fs.Snapshot) choice {
	order := make(map[string]uint64, len(here))
	for _, s := range here {
		order[s.GUID] = s.Order
	}
	usable := func(guid string) bool {
		at, there := order[guid]
		return there && at < snap.Order
	}
	fit := c.fit(len(c.filters))
	out := choice{Choice: retain.Base(chainOf(fit), usable)}
	for _, s := range c.all {
		out.Number = max(out.Number, s.Number+1)
	}
	switch {
	case c.only != "":
		return choice{Choice: fullOf(out.Choice, c.only)}
	case out.Base == nil && len(c.all) > 0:
		for n := range c.filters {
			if retain.Base(chainOf(c.fit(n)), usable).Base != nil && retain.Base(chainOf(c.fit(n+1)), usable).Base == nil {
				return choice{Choice: fullOf(out.Choice, c.filters[n].why)}
			}
		}
	}
	explainChoice(&out.Choice, fit, order)
	for i := range fit {
		if out.Base != nil && fit[i].ID == out.Base.ID {
			out.stream = &fit[i]
		}
	}
	return out
}

// roots gives the full stream that a stream builds on in the end.
func roots(view *ship.View) func(point.ID) point.ID {
	known := map[point.ID]point.ID{}
	return func(id point.ID) point.ID {
		var way []point.ID
		root := id
		for at := id; at != "" && len(way) <= retain.MaxDepth+1; {
			if r, there := known[at]; there {
				root = r
				break
			}
			way, root = append(way, at), at
			s, _ := view.Stream(at)
			at = s.Base
		}
		for _, w := range way {
			known[w] = root
		}
		return root
	}
}

// beganFull notes that this operation has shipped a full stream of a dataset.
func (a *shipping) beganFull(o *opened, origin string) {
	if a.begun == nil {
		a.begun = map[string]bool{}
	}
	a.begun[o.repo.ID+" "+origin] = true
}
