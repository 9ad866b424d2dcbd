package fstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"snapd/internal/fs"
)

// Marks is fs.Bookmarker of a Memory.
type Marks struct{ m *Memory }

// NewMarks returns the bookmarks and holds of a driver.
func NewMarks(m *Memory) *Marks { return &Marks{m} }

var (
	_ fs.Bookmarker        = (*Marks)(nil)
	_ fs.Resumer           = (*Resuming)(nil)
	_ fs.Estimator         = (*Estimating)(nil)
	_ fs.Describer         = Describing(nil)
	_ fs.Sweeper           = Sweeping(nil)
	_ fs.Tender            = (*Tending)(nil)
	_ fs.Unsuspender       = Unsuspending(nil)
	_ fs.FilesystemLister  = Listing(nil)
	_ fs.InterruptedLister = (*Interrupting)(nil)
	_ fs.OwnLister         = (*Owning)(nil)
	_ fs.Checker           = Checking(nil)
	_ fs.HealthTeller      = Ailing(nil)
)

// All are the bookmarks, oldest first.
func (k *Marks) All() []fs.Snapshot {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	return listed(k.of(""))
}

// of are the bookmarks of a dataset, "" for all.
func (k *Marks) of(dataset string) []*memorySnapshot {
	var out []*memorySnapshot
	for _, s := range k.m.marks {
		if dataset == "" || s.Dataset.GUID == dataset {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *memorySnapshot) int { return cmp.Compare(a.Order, b.Order) })
	return out
}

// Destroy removes bookmarks as a user does by hand: those for which keep says
// no, counted from the oldest.
func (k *Marks) Destroy(keep func(i int) bool) {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	for i, s := range k.of("") {
		if !keep(i) {
			delete(k.m.marks, s.GUID)
		}
	}
}

// Held are the holds, each as a purpose and a guid.
func (k *Marks) Held() []string {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	var out []string
	for _, h := range k.m.holds {
		out = append(out, h.purpose+" "+h.guid)
	}
	return out
}

// Hold holds something by hand.
func (k *Marks) Hold(purpose, guid string) {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	h := memoryHold{purpose, guid}
	if !slices.Contains(k.m.holds, h) {
		k.m.holds = append(k.m.holds, h)
	}
}

// Bases implements fs.Bookmarker.
func (k *Marks) Bases(ctx context.Context, dataset fs.Dataset) ([]fs.Snapshot, error) {
	snaps, err := k.m.Snapshots(ctx, dataset)
	if err != nil && !errors.Is(err, fs.ErrNotFound) {
		return nil, err
	}
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	for _, s := range k.of(dataset.GUID) {
		if !slices.ContainsFunc(snaps, func(o fs.Snapshot) bool { return o.GUID == s.GUID }) {
			snaps = append(snaps, s.Snapshot)
		}
	}
	slices.SortFunc(snaps, func(a, b fs.Snapshot) int { return cmp.Compare(a.Order, b.Order) })
	return snaps, nil
}

// Bookmarks implements fs.Bookmarker.
func (k *Marks) Bookmarks(ctx context.Context, dataset fs.Dataset) (map[string]bool, error) {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	out := map[string]bool{}
	for _, s := range k.of(dataset.GUID) {
		out[s.GUID] = true
	}
	return out, ctx.Err()
}

// Protect implements fs.Bookmarker.
func (k *Marks) Protect(ctx context.Context, purpose string, s fs.Snapshot, base *fs.Snapshot) error {
	k.m.mu.Lock()
	_, err := k.m.find(s)
	k.m.mu.Unlock()
	if err := firstOf(err, ctx.Err()); err != nil {
		return err
	}
	k.Hold(purpose, s.GUID)
	if base != nil {
		k.Hold(purpose, base.GUID)
	}
	return nil
}

// Shipped implements fs.Bookmarker.
func (k *Marks) Shipped(ctx context.Context, purpose string, s fs.Snapshot) error {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	snap, err := k.m.find(s)
	if err := firstOf(err, ctx.Err()); err != nil {
		return err
	}
	if k.m.marks == nil {
		k.m.marks = map[string]*memorySnapshot{}
	}
	k.m.marks[s.GUID] = snap
	k.m.holds = slices.DeleteFunc(k.m.holds, func(h memoryHold) bool { return h.purpose == purpose && k.isOf(h, s.Dataset.GUID) })
	return nil
}

// isOf tells whether a hold is on something of a dataset, or on nothing.
func (k *Marks) isOf(h memoryHold, dataset string) bool {
	if s := k.m.marks[h.guid]; s != nil {
		return s.Dataset.GUID == dataset
	}
	all := k.m.all()
	i := slices.IndexFunc(all, func(s *memorySnapshot) bool { return s.GUID == h.guid })
	return i < 0 || all[i].Dataset.GUID == dataset
}

// Tidy implements fs.Bookmarker.
func (k *Marks) Tidy(ctx context.Context, dataset fs.Dataset, needed func(string) bool, held func(purpose, guid string) bool) ([]string, error) {
	k.m.mu.Lock()
	defer k.m.mu.Unlock()
	var removed []string
	for _, s := range k.of(dataset.GUID) {
		if !needed(s.GUID) {
			delete(k.m.marks, s.GUID)
			removed = append(removed, "bookmark "+s.Name)
		}
	}
	k.m.holds = slices.DeleteFunc(k.m.holds, func(h memoryHold) bool {
		gone := k.isOf(h, dataset.GUID) && !held(h.purpose, h.guid)
		if gone {
			removed = append(removed, "hold of "+h.purpose+" on "+h.guid)
		}
		return gone
	})
	return removed, ctx.Err()
}

// Resuming is fs.Resumer of a Memory, whose Resumes is to be set too.
type Resuming struct{ m *Memory }

// NewResuming returns it.
func NewResuming(m *Memory) *Resuming { return &Resuming{m} }

// Resume implements fs.Resumer.
func (r *Resuming) Resume(ctx context.Context, s fs.Snapshot, base *fs.Snapshot, at int64, state string) (io.ReadCloser, error) {
	if err := r.m.enter(ctx, "Resume"); err != nil {
		return nil, err
	}
	stream, err := r.m.open(ctx, s, base)
	if err != nil {
		return nil, err
	}
	if want := stateAt(stream.head, at); state != want {
		return nil, fmt.Errorf("the stream is at %q and is to go on at %q", state, want)
	}
	if _, err := io.CopyN(io.Discard, stream, at); err != nil {
		return nil, err
	}
	return r.m.dress(stream), nil
}

// Estimating is fs.Estimator of a Memory: it is always right.
type Estimating struct{ m *Memory }

// NewEstimating returns it.
func NewEstimating(m *Memory) *Estimating { return &Estimating{m} }

// Estimate implements fs.Estimator.
func (e *Estimating) Estimate(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (int64, error) {
	stream, err := e.m.open(ctx, s, base)
	if err != nil {
		return 0, err
	}
	return io.Copy(io.Discard, stream)
}

// Describing is fs.Describer: all datasets have these properties.
type Describing map[string]string

// Properties implements fs.Describer.
func (d Describing) Properties(ctx context.Context, datasets []fs.Dataset) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, dataset := range datasets {
		out[dataset.GUID] = d
	}
	return out, ctx.Err()
}

// Sweeping is fs.Sweeper.
type Sweeping func() ([]string, error)

// Sweep implements fs.Sweeper.
func (s Sweeping) Sweep(context.Context) ([]string, error) { return s() }

// Tending is fs.Tender with something to tell.
type Tending struct {
	Tell  []string
	Alive bool
}

// Tend implements fs.Tender.
func (s *Tending) Tend(ctx context.Context) ([]string, error) { return s.Tell, ctx.Err() }

// Watch implements fs.Tender.
func (s *Tending) Watch(ctx context.Context) (told []string, live bool, err error) {
	return s.Tell, s.Alive, ctx.Err()
}

// Live implements fs.Tender.
func (s *Tending) Live() bool { return s.Alive }

// Unsuspending is fs.Unsuspender.
type Unsuspending func(datasets []fs.Dataset) ([]string, error)

// Unsuspend implements fs.Unsuspender.
func (s Unsuspending) Unsuspend(_ context.Context, datasets []fs.Dataset) ([]string, error) {
	return s(datasets)
}

// Listing is fs.FilesystemLister.
type Listing func(datasets []fs.Dataset) ([]fs.Filesystem, error)

// Filesystems implements fs.FilesystemLister.
func (s Listing) Filesystems(_ context.Context, datasets []fs.Dataset) ([]fs.Filesystem, error) {
	return s(datasets)
}

// Interrupting is fs.InterruptedLister of a Memory, whose Continues is to be set
// too.
type Interrupting struct{ m *Memory }

// NewInterrupting returns it.
func NewInterrupting(m *Memory) *Interrupting { return &Interrupting{m} }

// Interrupted implements fs.InterruptedLister.
func (s *Interrupting) Interrupted(ctx context.Context) ([]string, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	var out []string
	for target, k := range s.m.kept {
		out = append(out, fmt.Sprintf("an interrupted restore to %s waits: %d streams and %d bytes", target, len(k.applied), len(k.part)))
	}
	slices.Sort(out)
	return out, ctx.Err()
}

// Checking is fs.Checker.
type Checking func(dataset fs.Dataset) (said string, err error)

// CheckFilesystem implements fs.Checker.
func (s Checking) CheckFilesystem(_ context.Context, dataset fs.Dataset) (string, error) {
	return s(dataset)
}

// Ailing is fs.HealthTeller: what it returns is wrong. It may hang.
type Ailing func(ctx context.Context, datasets []fs.Dataset) ([]fs.Finding, error)

// Health implements fs.HealthTeller.
func (s Ailing) Health(ctx context.Context, datasets []fs.Dataset) ([]fs.Finding, error) {
	return s(ctx, datasets)
}

// Owning is fs.OwnLister of a Memory.
type Owning struct{ m *Memory }

// NewOwning returns it.
func NewOwning(m *Memory) *Owning { return &Owning{m} }

// Ours implements fs.OwnLister.
func (o *Owning) Ours(ctx context.Context) ([]fs.Snapshot, error) {
	if err := o.m.enter(ctx, "Ours"); err != nil {
		return nil, err
	}
	all := o.m.All()
	slices.SortStableFunc(all, func(a, b fs.Snapshot) int { return cmp.Compare(a.Dataset.Name, b.Dataset.Name) })
	return all, nil
}
