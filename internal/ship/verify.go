package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Points []point.ID // all if empty
	Deep   bool       // also decrypt, decompress, and Check; needs an identity
	// Check reads a whole stream of a format and says whether its structure
	// is sound. It must read to the end. nil checks none. Deep only.
	Check func(format string, r io.Reader) error
}

// Checked counts what a verify looked at.
type Checked struct {
	Points   int   `json:"points"`
	Streams  int   `json:"streams"`
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"` // stored
}

// Verified is what a verify found.
type Verified struct {
	Checked
	Damage  []Damage   // what was found damaged or missing; a host with the key notes it in the ledger
	Whole   []point.ID // streams that were noted damaged and are whole now
	Sound   []point.ID // all streams that were read to their end and are whole
	Orphans Orphans    // below data/: neither manifest nor lease explains them
	Notes   []string   // said to people, no damage
}

// Verify reads everything that restores the points and compares it with what
// was signed: plain, that is every signature, the links between points, and
// presence, size and digest of each object, for which no identity is needed;
// deep, that is all a restore does short of receiving. Each stream is read
// once however many points need it. Damage is in the problems; the error says
// only what kept it from looking.
func (r *Repository) Verify(ctx context.Context, o VerifyOptions, report func(Progress)) (Verified, []Problem, error) {
	if o.Deep && !r.canUnseal() {
		return Verified{}, nil, fmt.Errorf("verify deep: %w", ErrNoIdentity)
	}
	v := &verify{
		repo: r, o: o, report: report, needs: map[point.ID]bool{}, bad: map[point.ID]Damage{}, read: map[point.ID]bool{},
	}
	err := v.run(ctx)
	if err != nil {
		err = fmt.Errorf("verify: %w", err)
	}
	out := v.result()
	return out, v.problems, err
}

// How many are read at once. Of a segment only its digest is kept.
const verifyStreams, verifySegments = 4, 4

type verify struct {
	repo   *Repository
	o      VerifyOptions
	report func(Progress)

	view  *View
	needs map[point.ID]bool // streams to read: points need them, directly or as a base

	mu       sync.Mutex          // of what follows, while streams are read
	bad      map[point.ID]Damage // streams with damage that was found now
	read     map[point.ID]bool   // streams of which everything was read
	checked  Checked
	problems []Problem
	progress Progress
	orphans  Orphans
}

func (v *verify) run(ctx context.Context) error {
	var err error
	// Never from the cache: what lies in the store is what is asked about.
	if v.view, err = v.repo.View(ctx, nil, Whole); err != nil {
		return err
	}
	chosen, err := v.chosen()
	if err != nil {
		return err
	}
	for _, p := range chosen {
		for _, s := range p.Streams {
			v.plan(s)
		}
		v.checked.Points++
	}
	if err := v.streams(ctx); err != nil {
		return err
	}
	if len(v.o.Points) > 0 {
		return nil
	}
	return v.findOrphans(ctx)
}

// chosen are the points to verify. Where some were named, what is wrong with
// the repository at large is only told when one of them is not there.
func (v *verify) chosen() ([]PointRecord, error) {
	if len(v.o.Points) == 0 {
		v.problems = append(v.problems, v.view.Problems...)
		return v.view.Points, nil
	}
	var chosen []PointRecord
	told := len(v.view.Problems) == 0
	for _, id := range v.o.Points {
		if p, ok := v.view.Point(id); ok {
			chosen = append(chosen, p)
			continue
		}
		if len(v.view.Problems) == 0 {
			return nil, fmt.Errorf("point %s: %w in the repository", id, ErrNotFound)
		}
		if !told {
			v.problems, told = append(v.problems, v.view.Problems...), true
		}
	}
	return chosen, nil
}

// plan finds all that one stream of a point is read after, down to a full one.
// Where a base is ill, what takes its place is read too.
func (v *verify) plan(s PointStream) {
	set := map[point.ID]bool{}
	if !v.view.need(set, s.Stream) {
		v.bad[s.Stream] = Damage{Stream: s.Stream, Object: v.view.objectOf(s.Stream), Problem: "what it builds on is not known down to a full stream"}
	}
	maps.Copy(v.needs, set)
}

// streams reads all that the points need. What it finds is ordered by stream.
func (v *verify) streams(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(verifyStreams)
	if v.o.Deep {
		g.SetLimit(1) // a stream that is decrypted takes memory, and all processors
	}
	unread := slices.DeleteFunc(sortedIDs(v.needs), func(id point.ID) bool {
		_, bad := v.bad[id]
		return bad
	})
	for _, id := range unread {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			m, err := v.manifest(ctx, id)
			if err != nil || m == nil {
				return err
			}
			if err := v.stream(ctx, m); err != nil {
				return err
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.checked.Streams++
			v.read[id] = true
			return nil
		})
	}
	err := g.Wait()
	slices.SortStableFunc(v.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.stream, b.stream), cmp.Compare(a.Object, b.Object))
	})
	return err
}

// manifest fetches one. What is wrong with it is damage of the stream, and gives
// none.
func (v *verify) manifest(ctx context.Context, id point.ID) (*Manifest, error) {
	ref, known := v.view.Stream(id)
	if !known || ref.Key == "" {
		v.damaged(id, v.view.objectOf(id), fmt.Errorf("stream %s: its manifest is %w", id, ErrNotFound))
		return nil, nil //nolint:nilnil // what is wrong was noted
	}
	m, err := v.repo.Manifest(ctx, ref)
	if err == nil && !ref.Digest.IsZero() && m.Digest != ref.Digest {
		err = fmt.Errorf("manifest %s: %w: it is not the one that the point names", m.Key, ErrDamaged)
	}
	if err == nil && m.Base != "" {
		// The base was planned too: compare what both say.
		if base, ok := v.view.Stream(m.Base); ok && base.Key != "" && (base.Origin != m.Origin || base.GUID != m.BaseGUID) {
			err = fmt.Errorf("manifest %s: %w: its base %s makes another snapshot than it builds on", m.Key, ErrDamaged, m.Base)
		}
	}
	if isDamage(err) {
		v.damaged(id, ref.Key, err)
		return nil, nil //nolint:nilnil // what is wrong was noted
	}
	return m, err
}

// damaged notes that a stream cannot be read whole. All points that need it
// are named at the end, when they are known.
func (v *verify) damaged(id point.ID, object string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, known := v.bad[id]; !known {
		v.bad[id] = Damage{Stream: id, Object: object, Problem: clip(err.Error(), maxProblem)}
	}
	v.problems = append(v.problems, Problem{Object: object, Problem: err.Error(), Points: []point.ID{}, stream: id})
}

// healed tells whether another stream takes the place of a damaged one.
func (v *verify) healed(id point.ID) bool { return v.bad[id].Stream != "" && v.view.replaced(id) }

func (v *verify) findOrphans(ctx context.Context) error {
	leases, problems, err := v.repo.Leases(ctx)
	if err != nil {
		return err
	}
	v.problems = append(v.problems, problems...)
	keep := map[point.ID]bool{}
	for _, l := range leases {
		keep[l.Stream] = true
	}
	return v.repo.orphans(ctx, v.view, keep, func(_ point.ID, _ bool, o Object) { v.orphans.add(o) })
}

// result works out what the damage reaches: a point that another stream
// restores in place of the damaged one is not named.
func (v *verify) result() Verified {
	out := Verified{Checked: v.checked, Orphans: v.orphans}
	if v.view == nil {
		return out
	}
	out.Notes = v.view.Notes
	noted := v.view.notedIll()
	for id := range v.view.removed {
		noted[id] = true
	}
	for _, id := range sortedIDs(v.read) {
		if _, bad := v.bad[id]; bad {
			continue
		}
		out.Sound = append(out.Sound, id)
		if noted[id] {
			out.Whole = append(out.Whole, id)
			delete(v.view.missing, id)
		}
	}
	v.view.judge(v.bad, out.Whole)
	reached := map[point.ID][]point.ID{}
	for _, d := range v.view.damage {
		reached[d.Stream] = d.Points
	}
	for _, id := range slices.Sorted(maps.Keys(v.bad)) {
		if !v.healed(id) {
			d := v.bad[id]
			d.Points = reached[id]
			out.Damage = append(out.Damage, d)
		}
	}
	left := v.problems[:0]
	for _, p := range v.problems {
		switch {
		case p.stream == "":
		case v.healed(p.stream):
			out.Notes = append(out.Notes, fmt.Sprintf("%s: %s (another stream makes the same snapshot and takes its place)", p.Object, p.Problem))
			continue
		default:
			p.Points = append(p.Points, reached[p.stream]...)
		}
		left = append(left, p)
	}
	v.problems = left
	return out
}

// stream checks the segments of one stream.
func (v *verify) stream(ctx context.Context, m *Manifest) error {
	if v.o.Deep {
		ok, err := v.deep(ctx, m)
		if err != nil || ok {
			return err
		}
		// Something is wrong: the plain look finds all of it.
	}
	clean, err := v.plain(ctx, m)
	if err == nil && clean && v.o.Deep {
		return v.deepProblem(ctx, m)
	}
	return err
}

// plain reads every object of the stream, and goes on after a bad one.
func (v *verify) plain(ctx context.Context, m *Manifest) (clean bool, err error) {
	var bad atomic.Bool
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(verifySegments)
	listed := v.repo.eachSegment(gctx, m, func(seg segment) error {
		g.Go(func() error {
			err := v.repo.checkSegment(gctx, seg)
			if err != nil && !isDamage(err) {
				return err
			}
			if err != nil {
				bad.Store(true)
				v.damaged(m.ID, seg.key, err)
			}
			v.count(seg)
			return nil
		})
		return gctx.Err()
	})
	switch err := g.Wait(); {
	case err != nil:
		return false, err
	case isDamage(listed): // a part of the manifest
		v.damaged(m.ID, m.Key, listed)
		return false, nil
	}
	return !bad.Load(), listed
}

func (v *verify) count(seg segment) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.checked.Segments++
	v.checked.Bytes += seg.Stored
	v.progress.Segments++
	v.progress.SentBytes += seg.Plain
	v.progress.StoredBytes += seg.Stored
	if v.report != nil {
		v.report(v.progress)
	}
}

// deep reads the stream as a restore does. ok tells that nothing is wrong.
func (v *verify) deep(ctx context.Context, m *Manifest) (ok bool, err error) {
	before, checked := v.progress, v.checked
	if err := v.readDeep(ctx, m); err == nil {
		return true, nil
	} else if ctx.Err() != nil || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrDenied) || errors.Is(err, ErrNoIdentity) {
		return false, err
	}
	v.progress, v.checked = before, checked
	return false, nil
}

func (v *verify) readDeep(ctx context.Context, m *Manifest) error {
	begun := v.progress
	last := Progress{}
	in, err := v.repo.Read(ctx, m, func(p Progress) {
		v.checked.Segments += p.Segments - last.Segments
		v.checked.Bytes += p.StoredBytes - last.StoredBytes
		last = p
		v.progress.Segments = begun.Segments + p.Segments
		v.progress.SentBytes = begun.SentBytes + p.SentBytes
		v.progress.StoredBytes = begun.StoredBytes + p.StoredBytes
		if v.report != nil {
			v.report(v.progress)
		}
	})
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read from; its Read says what is wrong
	if v.o.Check != nil {
		if err := v.o.Check(m.Format, in); err != nil {
			return fmt.Errorf("stream %s: %w", m.ID, err)
		}
	}
	// What a checker left unread is checked all the same.
	_, err = io.Copy(io.Discard, in)
	return err
}

// deepProblem is for a stream whose objects are what was signed, and which is
// not sound all the same.
func (v *verify) deepProblem(ctx context.Context, m *Manifest) error {
	checked := v.checked
	err := v.readDeep(ctx, m)
	v.checked = checked
	if err == nil {
		return nil // the first look met a passing fault
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	v.damaged(m.ID, m.Key, err)
	return nil
}
