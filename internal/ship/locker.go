package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// LockMode says which users may end a lock before its time.
type LockMode string

// The modes, in S3's words.
const (
	Governance LockMode = "GOVERNANCE" // users with a right of their own
	Compliance LockMode = "COMPLIANCE" // no user, and not the bucket's owner
)

// Lock keeps an object from being destroyed. The zero value: nothing does.
type Lock struct {
	Mode  LockMode
	Until time.Time // UTC, by the store's clock
}

// Locker is what a Store may also be, if objects in it can be locked for a
// time. Of an object with several versions the current one is meant. Each
// method wraps errors.ErrUnsupported where the store has no locks, ErrDenied
// where this user may not, and ErrNotFound where there is no such object. All
// may be called again.
type Locker interface {
	// LockOf is the lock of an object, the zero value when it has none.
	LockOf(ctx context.Context, key string) (Lock, error)

	// ExtendLock locks an object until l.Until. A lock that lasts as long
	// already, or that is stricter, stays as it is and is no error: none is ever
	// shortened.
	ExtendLock(ctx context.Context, key string, l Lock) error
}

// Versioner is what a Store may also be, if it keeps what is deleted, as a
// bucket with versions does: the object is hidden, and its versions stay.
type Versioner interface {
	// Versions are the ids of what was put under a key, newest first, at most
	// limit. None is no error.
	Versions(ctx context.Context, key string, limit int) ([]string, error)

	// GetVersion opens one of them, as Get does.
	GetVersion(ctx context.Context, key, version string) (io.ReadCloser, error)

	// CountHidden counts the versions of objects that were deleted, looking at
	// no more than limit entries. more: there are others.
	CountHidden(ctx context.Context, prefix string, limit int) (versions int, more bool, err error)
}

func notLocker(what, key string) error {
	return fmt.Errorf("%s %s: the store has no locks: %w", what, key, errors.ErrUnsupported)
}

func notVersioner(what, key string) error {
	return fmt.Errorf("%s %s: the store keeps no versions: %w", what, key, errors.ErrUnsupported)
}

// LockOf is as Locker says.
func (r *retryStore) LockOf(ctx context.Context, key string) (l Lock, err error) {
	s, ok := r.store.(Locker)
	if !ok {
		return Lock{}, notLocker("ask for the lock of", key)
	}
	err = r.retry(ctx, func() error {
		l, err = s.LockOf(ctx, key)
		return err
	})
	return l, err
}

// ExtendLock is as Locker says.
func (r *retryStore) ExtendLock(ctx context.Context, key string, l Lock) error {
	s, ok := r.store.(Locker)
	if !ok {
		return notLocker("extend the lock of", key)
	}
	return r.retry(ctx, func() error { return s.ExtendLock(ctx, key, l) })
}

// Versions is as Versioner says.
func (r *retryStore) Versions(ctx context.Context, key string, limit int) (ids []string, err error) {
	s, ok := r.store.(Versioner)
	if !ok {
		return nil, notVersioner("list the versions of", key)
	}
	err = r.retry(ctx, func() error {
		ids, err = s.Versions(ctx, key, limit)
		return err
	})
	return ids, err
}

// GetVersion is as Versioner says.
func (r *retryStore) GetVersion(ctx context.Context, key, version string) (body io.ReadCloser, err error) {
	s, ok := r.store.(Versioner)
	if !ok {
		return nil, notVersioner("get a version of", key)
	}
	err = r.retry(ctx, func() error {
		body, err = s.GetVersion(ctx, key, version)
		return err
	})
	return body, err
}

// CountHidden is as Versioner says.
func (r *retryStore) CountHidden(ctx context.Context, prefix string, limit int) (versions int, more bool, err error) {
	s, ok := r.store.(Versioner)
	if !ok {
		return 0, false, notVersioner("count what is hidden below", prefix)
	}
	err = r.retry(ctx, func() error {
		versions, more, err = s.CountHidden(ctx, prefix, limit)
		return err
	})
	return versions, more, err
}
