package ship

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"
)

// RetryPolicy says how long to go on when a store does not answer. The zero
// value is a good one.
type RetryPolicy struct {
	Total time.Duration // one call gives up when this has passed since it began; 10 minutes if 0
	First time.Duration // the first wait is up to this; 500 ms if 0
	Max   time.Duration // no wait is longer than this; 30 s if 0

	// Notify, if set, is told of each failure that will be tried again and
	// how long it waits, so that people see why nothing moves. It may be
	// called from several goroutines at once.
	Notify func(err error, wait time.Duration)
}

// Retry makes a store that tries again what failed with ErrUnavailable, with
// exponentially growing waits of random length. Everything else is permanent
// and returned at once. After cancellation nothing new is begun.
func Retry(s Store, p RetryPolicy) Store {
	if p.Total == 0 {
		p.Total = 10 * time.Minute
	}
	if p.First == 0 {
		p.First = 500 * time.Millisecond
	}
	if p.Max == 0 {
		p.Max = 30 * time.Second
	}
	return &retryStore{store: s, policy: p}
}

type retryStore struct {
	store  Store
	policy RetryPolicy
}

// retry repeats op, which may be more than one call of the store, such as
// opening an object and reading all of it.
func (r *retryStore) retry(ctx context.Context, op func() error) error {
	began := time.Now()
	limit := r.policy.First
	for {
		err := op()
		if err == nil || !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		// Half of the wait is chance, so that hosts which lost the same
		// server do not come back all at once.
		wait := limit/2 + rand.N(limit/2+1) //nolint:gosec // jitter, not a secret
		if left := r.policy.Total - time.Since(began); wait > left {
			return fmt.Errorf("gave up after %s: %w", time.Since(began).Round(time.Second), err)
		}
		if r.policy.Notify != nil {
			r.policy.Notify(err, wait)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (while waiting after: %w)", ctx.Err(), err)
		case <-timer.C:
		}
		limit = min(2*limit, r.policy.Max)
	}
}

func (r *retryStore) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	return r.retry(ctx, func() error { return r.store.Put(ctx, key, body, ifAbsent) })
}

// PutDigest is Put for a store that is a DigestPutter, and for others too.
func (r *retryStore) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum Digest) (etag string, err error) {
	err = r.retry(ctx, func() error {
		etag, err = putDigest(ctx, r.store, key, body, ifAbsent, sum)
		return err
	})
	return etag, err
}

// Stat is as ObjectStater says; errors.ErrUnsupported when the store is none.
func (r *retryStore) Stat(ctx context.Context, key string) (o Object, err error) {
	s, ok := r.store.(ObjectStater)
	if !ok {
		return Object{}, fmt.Errorf("stat %s: %w", key, errors.ErrUnsupported)
	}
	err = r.retry(ctx, func() error {
		o, err = s.Stat(ctx, key)
		return err
	})
	return o, err
}

// Space is as Spacer says.
func (r *retryStore) Space(ctx context.Context) (free, total int64, err error) {
	err = r.retry(ctx, func() error {
		free, total, err = Space(ctx, r.store)
		return err
	})
	return free, total, err
}

// Get repeats only the opening; fetch repeats the reading too.
func (r *retryStore) Get(ctx context.Context, key string) (body io.ReadCloser, err error) {
	err = r.retry(ctx, func() error {
		body, err = r.store.Get(ctx, key)
		return err
	})
	return body, err
}

// List collects the whole listing before it hands out anything of it, and
// begins anew when it breaks: what a server says after a fault need not go on
// where it stopped. It sorts, and drops what comes twice.
func (r *retryStore) List(ctx context.Context, prefix string, each func(Object) error) error {
	var all []Object
	err := r.retry(ctx, func() (err error) {
		if prefix == prefixMeta {
			all, err = listMeta(ctx, r.store)
		} else {
			all, err = listAll(ctx, r.store, prefix)
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, byKey)
	all = slices.CompactFunc(all, func(a, b Object) bool { return a.Key == b.Key })
	for _, o := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(o); err != nil {
			return err
		}
	}
	return nil
}

// ListAnew is as AnewLister says. What each fails with is not tried again.
func (r *retryStore) ListAnew(ctx context.Context, prefix string, begin func(), each func(Object) error) error {
	var own error
	err := r.retry(ctx, func() error {
		begin()
		listed := r.store.List(ctx, prefix, func(o Object) error {
			own = each(o)
			return own
		})
		if own == nil {
			return listed
		}
		return nil
	})
	return cmp.Or(own, err)
}

func (r *retryStore) Delete(ctx context.Context, key string) error {
	return r.retry(ctx, func() error { return r.store.Delete(ctx, key) })
}
