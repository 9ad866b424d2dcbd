package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
func (r *retryStore) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum Digest) error {
	return r.retry(ctx, func() error { return putDigest(ctx, r.store, key, body, ifAbsent, sum) })
}

// Get repeats only the opening; fetch repeats the reading too.
func (r *retryStore) Get(ctx context.Context, key string) (body io.ReadCloser, err error) {
	err = r.retry(ctx, func() error {
		body, err = r.store.Get(ctx, key)
		return err
	})
	return body, err
}

func (r *retryStore) List(ctx context.Context, prefix string, each func(Object) error) error {
	last := ""
	return r.retry(ctx, func() error {
		return r.store.List(ctx, prefix, func(o Object) error {
			if o.Key <= last { // told before the listing broke
				return nil
			}
			if err := each(o); err != nil {
				// each may have failed with ErrUnavailable of its own: that
				// is its caller's, and must not list again.
				return permanent{err}
			}
			last = o.Key
			return nil
		})
	})
}

// permanent hides what an error wraps from the question whether to retry, and
// from nobody else.
type permanent struct{ err error }

func (p permanent) Error() string { return p.err.Error() }
func (p permanent) Is(target error) bool {
	return target != ErrUnavailable && errors.Is(p.err, target)
}
func (p permanent) As(target any) bool { return errors.As(p.err, target) }

func (r *retryStore) Delete(ctx context.Context, key string) error {
	return r.retry(ctx, func() error { return r.store.Delete(ctx, key) })
}
