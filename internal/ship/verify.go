package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
)

// VerifyOptions say what is verified.
type VerifyOptions struct {
	Points []point.ID // all if empty
	Deep   bool       // also open the seals, decompress, and Check; needs an identity
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
	Damage  []Damage   // what was found damaged or missing; who has the key notes it in the ledger
	Whole   []point.ID // streams that were noted damaged and are whole now
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
	v := &verify{repo: r, o: o, report: report, needs: map[point.ID][]point.ID{}, manifests: map[point.ID]*Manifest{}, bad: map[point.ID]bool{}}
	if err := v.run(ctx); err != nil {
		return Verified{Checked: v.checked}, v.problems, fmt.Errorf("verify: %w", err)
	}
	return Verified{Checked: v.checked}, v.problems, nil
}

type verify struct {
	repo   *Repository
	o      VerifyOptions
	report func(Progress)

	index     *Index
	needs     map[point.ID][]point.ID // stream -> points that need it, directly or as a base
	manifests map[point.ID]*Manifest
	bad       map[point.ID]bool // streams with a problem that was reported

	checked  Checked
	problems []Problem
	progress Progress
}

func (v *verify) run(ctx context.Context) error {
	var err error
	if v.index, err = v.repo.Index(ctx); err != nil {
		return err
	}
	points, problems, err := v.repo.Points(ctx, v.index)
	if err != nil {
		return err
	}
	if len(v.o.Points) == 0 {
		v.links(points)
		v.problems = append(v.problems, problems...)
	}
	points, err = v.chosen(points, problems)
	if err != nil {
		return err
	}
	for _, p := range points {
		if err := v.plan(ctx, p); err != nil {
			return err
		}
		v.checked.Points++
	}
	for _, ref := range v.index.Streams {
		m := v.manifests[ref.ID]
		if m == nil {
			continue
		}
		delete(v.manifests, ref.ID) // its rows are not needed twice
		if err := v.stream(ctx, m); err != nil {
			return err
		}
		v.checked.Streams++
	}
	return nil
}

func (v *verify) chosen(points []PointRecord, problems []Problem) ([]PointRecord, error) {
	if len(v.o.Points) == 0 {
		return points, nil
	}
	var chosen []PointRecord
	for _, id := range v.o.Points {
		i := slices.IndexFunc(points, func(p PointRecord) bool { return p.ID == id })
		if i >= 0 {
			chosen = append(chosen, points[i])
			continue
		}
		// It may be one of those that cannot be read: then all of them are
		// worth knowing.
		if len(problems) == 0 {
			return nil, fmt.Errorf("point %s: %w in the repository", id, ErrNotFound)
		}
		v.problems = append(v.problems, problems...)
		problems = nil
	}
	return chosen, nil
}

func (v *verify) add(object string, err error, points []point.ID) {
	if points == nil {
		points = []point.ID{}
	}
	v.problems = append(v.problems, Problem{Object: object, Problem: err.Error(), Points: points})
}

// links checks that each point names the one before it as that now lies
// there. One that is not there was pruned.
func (v *verify) links(points []PointRecord) {
	digests := map[int64]PointRecord{}
	for _, p := range points {
		digests[p.Number] = p
	}
	for _, p := range points {
		if p.previous == nil {
			continue
		}
		if before, ok := digests[p.previous.Number]; ok && before.Digest != p.previous.Digest {
			v.add(pointKey(before.Number), fmt.Errorf("point %d: %w: it is not the one that point %d was put after", before.Number, ErrDamaged, p.Number), []point.ID{before.ID})
		}
	}
}

// plan fetches the manifests that a point needs.
func (v *verify) plan(ctx context.Context, p PointRecord) error {
	for _, s := range p.Streams {
		if v.bad[s.Stream] {
			v.blame(s.Stream, p.ID)
			continue
		}
		if err := v.planStream(ctx, p, s); err != nil {
			return err
		}
	}
	return nil
}

func (v *verify) planStream(ctx context.Context, p PointRecord, s PointStream) error {
	var above *Manifest
	for id := s.Stream; id != ""; {
		m, err := v.manifest(ctx, id)
		if err == nil && above != nil {
			err = checkBase(above, m)
		}
		if err == nil && above == nil && m.Digest != s.Digest {
			err = fmt.Errorf("manifest %s: %w: it is not the one that the point names", m.Key, ErrDamaged)
		}
		if isDamage(err) {
			v.bad[s.Stream] = true
			key := prefixStreams + string(id)
			if ref, ok := v.index.Stream(id); ok {
				key = ref.Key
			}
			v.addOnce(key, err, p.ID)
			return nil
		}
		if err != nil {
			return err
		}
		if !slices.Contains(v.needs[id], p.ID) {
			v.needs[id] = append(v.needs[id], p.ID)
		}
		above, id = m, m.Base
	}
	return nil
}

// addOnce adds a problem, or one more point to it.
func (v *verify) addOnce(object string, err error, id point.ID) {
	for i := range v.problems {
		if p := &v.problems[i]; p.Object == object && p.Problem == err.Error() {
			if !slices.Contains(p.Points, id) {
				p.Points = append(p.Points, id)
			}
			return
		}
	}
	v.add(object, err, []point.ID{id})
}

func (v *verify) blame(stream, id point.ID) {
	for i := range v.problems {
		if p := &v.problems[i]; strings.HasPrefix(p.Object, prefixStreams+string(stream)) && !slices.Contains(p.Points, id) {
			p.Points = append(p.Points, id)
		}
	}
}

func (v *verify) manifest(ctx context.Context, id point.ID) (*Manifest, error) {
	if m := v.manifests[id]; m != nil {
		return m, nil
	}
	ref, ok := v.index.Stream(id)
	if !ok {
		return nil, fmt.Errorf("stream %s: its manifest is %w", id, ErrNotFound)
	}
	m, err := v.repo.Manifest(ctx, ref)
	if err == nil {
		v.manifests[id] = m
	}
	return m, err
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
	found := len(v.problems)
	if err := v.plain(ctx, m); err != nil {
		return err
	}
	if v.o.Deep && len(v.problems) == found {
		return v.deepProblem(ctx, m)
	}
	return nil
}

// plain reads every object of the stream, and goes on after a bad one.
func (v *verify) plain(ctx context.Context, m *Manifest) error {
	type result struct {
		seg segment
		err error
	}
	results := make(chan result)
	buffers := make(chan *bytes.Buffer, readAhead)
	for range cap(buffers) {
		buffers <- &bytes.Buffer{}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		readers, ctx := errgroup.WithContext(ctx)
		defer close(results)
		err := v.repo.eachSegment(ctx, m, func(seg segment) error {
			b := <-buffers
			readers.Go(func() error {
				defer func() { buffers <- b }()
				err := v.repo.fetchSegment(ctx, seg, b)
				if err != nil && !isDamage(err) {
					return err
				}
				results <- result{seg, err}
				return nil
			})
			return ctx.Err()
		})
		return errors.Join(readers.Wait(), err)
	})
	for res := range results {
		if res.err != nil {
			v.add(res.seg.key, res.err, v.needs[m.ID])
		}
		v.count(res.seg)
	}
	err := g.Wait()
	if isDamage(err) { // a part of the manifest
		v.add(m.Key, err, v.needs[m.ID])
		return nil
	}
	return err
}

func (v *verify) count(seg segment) {
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
	v.add(m.Key, err, v.needs[m.ID])
	return nil
}
