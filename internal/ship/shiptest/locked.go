package shiptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/ship"
)

var (
	_ ship.Locker    = (*Locked)(nil)
	_ ship.Versioner = (*Locked)(nil)
)

// Locked is a Memory that locks what is put, as a bucket with a default
// retention does: what is deleted or put again stays as a version.
type Locked struct {
	*Memory
	Period time.Duration // of the lock of each new object; 0: none
	Mode   ship.LockMode
	Refuse error // of ExtendLock, if set

	mu       sync.Mutex
	versions map[string][]version // by key, oldest first
	extended []string             // keys, one for each ExtendLock
	asked    int                  // calls of LockOf
}

type version struct {
	body   []byte
	marker bool
	lock   ship.Lock
}

// NewLocked makes an empty store that locks for a time.
func NewLocked(period time.Duration, now func() time.Time) *Locked {
	m := NewMemory()
	m.Now = now
	return &Locked{Memory: m, Period: period, Mode: ship.Compliance, versions: map[string][]version{}}
}

func (l *Locked) add(key string, v version) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Period > 0 && !v.marker {
		v.lock = ship.Lock{Mode: l.Mode, Until: l.Now().Add(l.Period)}
	}
	l.versions[key] = append(l.versions[key], v)
}

// Put is as ship.Store says.
func (l *Locked) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	_, err := l.PutDigest(ctx, key, body, ifAbsent, sha256.Sum256(body))
	return err
}

// PutDigest is as ship.DigestPutter says.
func (l *Locked) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (etag string, err error) {
	etag, err = l.Memory.PutDigest(ctx, key, body, ifAbsent, sum)
	if err == nil {
		l.add(key, version{body: bytes.Clone(body)})
	}
	return etag, err
}

// Delete hides an object.
func (l *Locked) Delete(ctx context.Context, key string) error {
	err := l.Memory.Delete(ctx, key)
	if err == nil {
		l.add(key, version{marker: true})
	}
	return err
}

// Get is as ship.Store says.
func (l *Locked) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	body, err := l.Memory.Get(ctx, key)
	return body, l.deleted(key, err)
}

// Stat is as ship.ObjectStater says.
func (l *Locked) Stat(ctx context.Context, key string) (ship.Object, error) {
	o, err := l.Memory.Stat(ctx, key)
	return o, l.deleted(key, err)
}

func (l *Locked) deleted(key string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if all := l.versions[key]; err != nil && len(all) > 0 && all[len(all)-1].marker {
		return fmt.Errorf("%w: %w", err, ship.ErrDeleted)
	}
	return err
}

// LockOf is as ship.Locker says.
func (l *Locked) LockOf(_ context.Context, key string) (ship.Lock, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	v, err := l.current(key)
	if err != nil {
		return ship.Lock{}, err
	}
	return v.lock, nil
}

func (l *Locked) current(key string) (*version, error) {
	all := l.versions[key]
	if len(all) == 0 || all[len(all)-1].marker {
		return nil, fmt.Errorf("lock of %s: %w", key, ship.ErrNotFound)
	}
	return &all[len(all)-1], nil
}

// ExtendLock is as ship.Locker says.
func (l *Locked) ExtendLock(_ context.Context, key string, lock ship.Lock) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, err := l.current(key)
	if err != nil {
		return err
	}
	if l.Refuse != nil {
		return fmt.Errorf("extend the lock of %s: %w", key, l.Refuse)
	}
	l.extended = append(l.extended, key)
	if v.lock.Until.Before(lock.Until) {
		v.lock = lock
	}
	return nil
}

// Extended are the keys whose locks were extended since it was last called,
// ascending, and how many locks were asked for.
func (l *Locked) Extended() (keys []string, asked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys, asked = l.extended, l.asked
	l.extended, l.asked = nil, 0
	slices.Sort(keys)
	return keys, asked
}

// Versions is as ship.Versioner says.
func (l *Locked) Versions(_ context.Context, key string, limit int) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for i, v := range slices.Backward(l.versions[key]) {
		if !v.marker && len(ids) < limit {
			ids = append(ids, fmt.Sprint(i))
		}
	}
	return ids, nil
}

// GetVersion is as ship.Versioner says.
func (l *Locked) GetVersion(_ context.Context, key, id string) (io.ReadCloser, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, v := range l.versions[key] {
		if fmt.Sprint(i) == id && !v.marker {
			return io.NopCloser(bytes.NewReader(v.body)), nil
		}
	}
	return nil, fmt.Errorf("get version %s of %s: %w", id, key, ship.ErrNotFound)
}

// CountHidden is as ship.Versioner says.
func (l *Locked) CountHidden(_ context.Context, prefix string, limit int) (versions int, more bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, all := range l.versions {
		if !strings.HasPrefix(key, prefix) || !all[len(all)-1].marker {
			continue
		}
		for _, v := range all {
			if !v.marker {
				versions++
			}
		}
	}
	return min(versions, limit), versions > limit, nil
}
