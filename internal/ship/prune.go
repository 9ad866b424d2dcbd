package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// PruneOptions say what a prune may do.
type PruneOptions struct {
	Now    time.Time
	DryRun bool       // tell, and write and delete nothing
	Keep   []point.ID // streams being uploaded and their bases, see Records.Keep
	// Orphans also looks through data/ for what has neither manifest nor living
	// lease, and for manifests that no point names, and deletes it: when a
	// person says that nothing else is shipping.
	Orphans bool
	// Told says that a person named the points: then the newest of a group may
	// go too. Never all of them, and no pinned one.
	Told bool
}

// Pruned is what a prune removed, or would have.
type Pruned struct {
	Points  []point.ID
	Streams []point.ID
	Objects int     // all that were deleted
	Bytes   int64   // of them
	Orphans Orphans // found below data/, when that was asked for
	// Problems kept the prune from deleting anything.
	Problems []Problem
}

// Orphans are objects that no signed record explains.
type Orphans struct {
	Objects  int
	Bytes    int64
	Examples []string // a few keys
}

const pruneDeletes = 8 // at once

// pruneBeyond is how many numbers beyond the first that is not there are asked for
// before anything is deleted.
const pruneBeyond = 8

// Prune removes points, and the streams that then nothing needs. It puts on
// record what goes before it deletes any of it, and looks for new points in
// between. It deletes nothing while anything in the repository is unexplained:
// then Pruned.Problems says what, and the error is of the class damaged. It
// never removes all points, nor, unless told, the newest of a group. It may be
// repeated: what a crash leaves, the next prune removes. view may be nil; it is
// brought up to date.
func (r *Repository) Prune(ctx context.Context, view *View, drop []point.ID, o PruneOptions) (Pruned, error) {
	if o.Now.IsZero() {
		return Pruned{}, errors.New("prune: it must be told what time it is")
	}
	if err := r.checkWritable(); err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	p := &prune{repo: r, view: view, o: o, drop: map[point.ID]bool{}}
	for _, id := range drop {
		p.drop[id] = true
	}
	if err := p.run(ctx); err != nil {
		return p.pruned, fmt.Errorf("prune: %w", err)
	}
	return p.pruned, nil
}

type prune struct {
	repo *Repository
	view *View
	o    PruneOptions
	drop map[point.ID]bool

	looked   bool // at all that is there, for this prune
	leases   []Lease
	storeNow time.Time                // the newest time that a listing told, when orphans are looked for
	keep     map[point.ID]bool        // streams that stay
	going    []PointRecord            // records that this prune drops
	stray    []point.ID               // streams without a point or manifest that an orphan hunt removes by record
	says     map[point.ID]PointStream // what the points that go say of their streams; nil until it is asked for
	extra    []Object                 // below data/ of a stream that stays, and not named by its manifest

	mu     sync.Mutex
	pruned Pruned
}

func (p *prune) run(ctx context.Context) error {
	if err := p.begin(ctx); err != nil || p.idle() {
		return err
	}
	if p.o.Orphans {
		if err := p.readStoreClock(ctx); err != nil {
			return err
		}
	}
	if err := p.findLeases(ctx); err != nil {
		return err
	}
	if err := p.mark(); err != nil {
		return err
	}
	if p.o.Orphans {
		if err := p.findOrphans(ctx); err != nil {
			return err
		}
	}
	if p.o.DryRun {
		return p.deleteAll(ctx)
	}
	number := p.view.top
	if err := p.repo.putEvent(ctx, p.view, p.event); err != nil {
		return err
	}
	// A point or a lease that was put before that event is seen now; a host
	// that puts one after it sees the event.
	if p.view.top > number {
		if err := p.findLeases(ctx); err != nil {
			return err
		}
	}
	if err := p.lookAgain(ctx); err != nil {
		return err
	}
	return p.deleteAll(ctx)
}

// idle tells whether there is nothing to write down and nothing to delete, as
// far as it is known before the leases are: these only make things stay.
func (p *prune) idle() bool {
	if p.o.Orphans || len(p.going) > 0 || len(p.view.old) > 0 || len(p.goes()) > 0 || len(p.removable()) > 0 {
		return false
	}
	for n, d := range p.view.explained {
		if !d.IsZero() && p.mayLie(pointKey(n)) {
			return false
		}
	}
	return true
}

// begin looks what is there, and picks what goes.
func (p *prune) begin(ctx context.Context) error {
	if err := p.look(ctx); err != nil {
		return err
	}
	if err := p.plan(); err != nil || p.looked || p.idle() {
		return err
	}
	if err := p.lookWhole(ctx); err != nil {
		return err
	}
	return p.plan()
}

// look makes the view, or takes the one given if it says enough.
func (p *prune) look(ctx context.Context) error {
	if v := p.view; v == nil || v.look == Known && len(v.old) > 0 {
		return p.lookWhole(ctx)
	}
	return p.explained()
}

// lookWhole looks at all that is listed. What goes is decided on that alone: a look
// that probes upwards from what this host knows ends at the first number that is not
// there, and what lies above a record that was lost may need what is to go.
func (p *prune) lookWhole(ctx context.Context) error {
	var cache *Cache
	if p.view != nil {
		cache = p.view.cache
	}
	beyond := int64(pruneBeyond)
	if p.o.Orphans {
		beyond = maxJunk // all that is not known goes
	}
	whole, err := p.repo.viewBeyond(ctx, cache, Whole, beyond)
	if err != nil {
		return err
	}
	p.looked = true
	if p.view == nil {
		p.view = whole
	} else {
		*p.view = *whole
	}
	return p.explained()
}

// plan picks what goes and what stays.
func (p *prune) plan() error {
	if err := p.choose(); err != nil {
		return err
	}
	return p.mark()
}

// explained refuses to go on while something in the repository is not explained.
func (p *prune) explained() error {
	return p.refuse(slices.DeleteFunc(slices.Clone(p.view.Problems), func(x Problem) bool { return x.Kind == KindOldGaps }))
}

// refuse is for what is unexplained: while there is any, nothing is deleted.
func (p *prune) refuse(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	p.pruned = Pruned{Problems: problems}
	return advice.In(advice.Damaged, fmt.Errorf("nothing is deleted while %s is not explained: %s", problems[0].Object, problems[0].Problem))
}

// choose picks the records that go, and refuses what must not.
func (p *prune) choose() error {
	v := p.view
	p.going, p.pruned.Points = nil, nil
	left, newest := 0, map[string]int64{}
	for _, rec := range v.Points {
		newest[rec.GroupTag] = max(newest[rec.GroupTag], rec.Number)
		if !p.drop[rec.ID] {
			left++
		}
	}
	for _, rec := range v.Points {
		switch {
		case !p.drop[rec.ID]:
			continue
		case v.Pinned(rec.ID):
			return advice.Usagef("point %s is pinned: it is not removed", rec.ID)
		case rec.Number == newest[rec.GroupTag] && !p.o.Told:
			return fmt.Errorf("point %s is the newest of its group: it is not removed", rec.ID)
		case left == 0:
			return errors.New("it would remove every point: refused")
		}
		p.going = append(p.going, rec)
		p.pruned.Points = append(p.pruned.Points, rec.ID)
	}
	p.going = append(p.going, v.superseded...)
	return nil
}

func (p *prune) findLeases(ctx context.Context) error {
	leases, problems, err := p.repo.Leases(ctx)
	if err != nil {
		return err
	}
	p.leases = p.living(leases)
	return p.refuse(problems)
}

// mark finds the streams that stay.
func (p *prune) mark() error {
	v := p.view
	p.keep = map[point.ID]bool{}
	var problems []Problem
	need := func(id point.ID, certain bool) {
		if id != "" && !v.need(p.keep, id) && certain {
			problems = append(problems, Problem{
				Object: v.objectOf(id), Problem: "what it builds on is not known down to a full stream", Points: []point.ID{}, Kind: KindChain,
			})
		}
	}
	for _, rec := range v.Points {
		if p.drop[rec.ID] {
			continue
		}
		for _, s := range rec.Streams {
			need(s.Stream, true)
		}
	}
	for _, l := range p.leases {
		p.keep[l.Stream] = true // its manifest is not there yet
		need(l.Base, true)
	}
	for _, id := range p.o.Keep {
		need(id, false)
	}
	return p.refuse(problems)
}

// goes are the streams that nothing needs any more: of the points that go, and
// of those that went before.
func (p *prune) goes() []point.ID {
	v := p.view
	out := map[point.ID]bool{}
	consider := func(id point.ID) {
		if _, already := v.removed[id]; !already && !p.keep[id] {
			out[id] = true
		}
	}
	for _, rec := range p.going {
		for _, s := range rec.Streams {
			consider(s.Stream)
		}
	}
	for _, e := range v.events {
		for _, d := range e.Drop {
			for _, s := range d.Streams {
				consider(s.Stream)
			}
		}
	}
	return sortedIDs(out)
}

// event is what goes on record before anything is deleted. It is asked for
// again when another process put an event first.
func (p *prune) event() (*eventBody, error) {
	// Another prune may have dropped, or a person pinned, a point meanwhile.
	if err := errors.Join(p.choose(), p.mark()); err != nil {
		return nil, err
	}
	body := &eventBody{Absent: p.view.old, Remove: p.goes()}
	for _, rec := range p.going {
		if _, gone := p.view.explained[rec.Number]; gone {
			continue
		}
		d := dropped{Number: rec.Number, Point: rec.ID, Digest: rec.Digest}
		for _, s := range rec.Streams {
			ref, known := p.view.Stream(s.Stream)
			if !known {
				ref = s.Ref()
			}
			ref.Digest, ref.Segments = s.Digest, s.Segments
			d.Streams = append(d.Streams, ref.asDropped())
		}
		body.Drop = append(body.Drop, d)
	}
	for _, id := range p.stray {
		if _, already := p.view.removed[id]; !already && !p.keep[id] {
			body.Abandon = append(body.Abandon, id)
		}
	}
	return body, nil
}

// lookAgain reads the points that were put meanwhile: what one of them needs
// stays, although it is on record as gone. The host that put it has seen that
// record and ships anew: two prunes may run, so that one cannot promise for both.
func (p *prune) lookAgain(ctx context.Context) error {
	if err := p.repo.newPoints(ctx, p.view); err != nil {
		return err
	}
	return p.mark()
}

func (p *prune) delete(ctx context.Context, objects []Object) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(pruneDeletes)
	for _, o := range objects {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !p.o.DryRun {
				if err := p.repo.store.Delete(ctx, o.Key); err != nil {
					return fmt.Errorf("delete %s: %w", o.Key, err)
				}
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.pruned.Objects++
			p.pruned.Bytes += o.Size
			return nil
		})
	}
	return g.Wait()
}
