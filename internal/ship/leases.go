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
	newest := map[point.ID]Lease{}
	err := r.store.List(ctx, prefixLeases, func(o Object) error {
		if id, count, ok := parseLeaseKey(o.Key); ok && count > newest[id].Count {
			newest[id] = Lease{Stream: id, Count: count, Key: o.Key, PutTime: o.Time}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the leases: %w", err)
	}
	var leases []Lease
	var problems []Problem
	for _, l := range newest {
		got, err := r.lease(ctx, l)
		switch {
		case errors.Is(err, ErrNotFound): // the upload ended meanwhile
		case isDamage(err):
			problems = append(problems, Problem{Object: l.Key, Problem: err.Error(), Points: []point.ID{}, Kind: KindLease})
		case err != nil:
			return nil, nil, fmt.Errorf("read the leases: %w", err)
		default:
			leases = append(leases, got)
		}
	}
	slices.SortFunc(leases, func(a, b Lease) int { return cmp.Compare(a.Stream, b.Stream) })
	return leases, problems, nil
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
