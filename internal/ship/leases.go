package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"snapd/internal/point"
)

// leaseSteps is how many renewals may happen between a listing and the Get of
// what it named.
const leaseSteps = 3

// Leases are those of all uploads that are alive, the newest of each stream,
// and what lies among them and does not verify.
func (r *Repository) Leases(ctx context.Context) ([]Lease, []Problem, error) {
	listed := map[point.ID][]Lease{}
	err := r.store.List(ctx, prefixLeases, func(o Object) error {
		if id, count, ok := parseLeaseKey(o.Key); ok {
			listed[id] = append(listed[id], Lease{Stream: id, Count: count, Key: o.Key, PutTime: o.Time})
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the leases: %w", err)
	}
	var leases []Lease
	var problems []Problem
	for _, each := range listed {
		got, err := r.newestLease(ctx, each)
		switch {
		case errors.Is(err, ErrNotFound): // the upload ended meanwhile
		case isDamage(err):
			problems = append(problems, Problem{Object: each[0].Key, Problem: err.Error(), Points: []point.ID{}, Kind: KindLease})
		case err != nil:
			return nil, nil, fmt.Errorf("read the leases: %w", err)
		default:
			leases = append(leases, got)
		}
	}
	slices.SortFunc(leases, func(a, b Lease) int { return cmp.Compare(a.Stream, b.Stream) })
	return leases, problems, nil
}

// newestLease reads the newest of one stream that is there: a listing may name
// a newer one that never was. It sorts listed, the newest first.
func (r *Repository) newestLease(ctx context.Context, listed []Lease) (Lease, error) {
	slices.SortFunc(listed, func(a, b Lease) int { return cmp.Compare(b.Count, a.Count) })
	for _, l := range listed[:len(listed)-1] {
		if got, err := r.lease(ctx, l); !errors.Is(err, ErrNotFound) {
			return got, err
		}
	}
	return r.lease(ctx, listed[len(listed)-1])
}

// lease reads one that was listed. It may have been renewed since: then it has
// the next count.
func (r *Repository) lease(ctx context.Context, listed Lease) (Lease, error) {
	var err error
	for count := listed.Count; count <= min(listed.Count+leaseSteps, maxLease); count++ {
		var doc leaseDoc
		key := leaseKey(listed.Stream, count)
		if _, _, err = r.signedObject(ctx, typeLease, key, &doc); errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			err = checkHeader(doc.header, typeLease, r.ID)
		}
		if err == nil {
			err = doc.check()
		}
		if err == nil && (doc.Stream != listed.Stream || doc.Count != count) {
			err = errors.New("it does not belong at this key")
		}
		if err != nil {
			if !isDamage(err) && !errors.Is(err, ErrNewer) && doc.Format != 0 {
				err = fmt.Errorf("lease %s: %w: %w", key, ErrDamaged, err)
			}
			return Lease{}, err
		}
		return Lease{Stream: doc.Stream, Base: deref(doc.Base), Host: doc.Host, Time: doc.Time, Count: count, Key: key, PutTime: listed.PutTime}, nil
	}
	return Lease{}, err
}

// RemoveLeases deletes leases that do not verify: Leases named them as problems.
// Each is read once more before. A host that is uploading puts its next lease
// all the same.
func (r *Repository) RemoveLeases(ctx context.Context, keys []string) error {
	if err := r.checkWritable(); err != nil {
		return fmt.Errorf("remove leases: %w", err)
	}
	_, problems, err := r.Leases(ctx)
	if err != nil {
		return fmt.Errorf("remove leases: %w", err)
	}
	for _, p := range problems {
		if !slices.Contains(keys, p.Object) {
			continue
		}
		if err := r.store.Delete(ctx, p.Object); err != nil {
			return fmt.Errorf("remove lease %s: %w", p.Object, err)
		}
	}
	return nil
}
