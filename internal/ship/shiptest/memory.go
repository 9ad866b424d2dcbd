// Package shiptest helps to test what ships: the contract suite that every
// ship.Store passes, a strict store in memory, one that fails as scripted, and
// a real MinIO server. It is for tests only.
package shiptest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/ship"
)

// Memory is the strictest ship.Store: it keeps account of what a polite user
// would not do.
type Memory struct {
	// Now is the store's clock; time.Now if nil.
	Now func() time.Time

	// ETags makes it tell of each object what changes with its bytes, as S3
	// does and a directory does not.
	ETags bool

	// Fold makes names that differ only in their case one object, under the
	// name that was put first, as some filesystems do.
	Fold bool

	mu       sync.Mutex
	objects  map[string]object
	rewrites []string
	open     int
	requests map[string]int
}

type object struct {
	name string // as it was put
	body []byte
	time time.Time
}

// NewMemory makes an empty store.
func NewMemory() *Memory {
	return &Memory{objects: map[string]object{}, requests: map[string]int{}}
}

func (m *Memory) begin(ctx context.Context, op, key string) error {
	m.requests[op]++
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", op, key, err)
	}
	return nil
}

// Put is as ship.Store says.
func (m *Memory) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	_, err := m.PutDigest(ctx, key, body, ifAbsent, sha256.Sum256(body))
	return err
}

// PutDigest is as ship.DigestPutter says.
func (m *Memory) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (etag string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "put", key); err != nil {
		return "", err
	}
	if err := ship.CheckKey(key); err != nil {
		return "", err
	}
	if sum != sha256.Sum256(body) {
		return "", fmt.Errorf("put %s: the digest is not that of the body", key)
	}
	old, there := m.objects[m.at(key)]
	if there && ifAbsent {
		return "", fmt.Errorf("put %s: %w", key, ship.ErrExists)
	}
	if there && !bytes.Equal(old.body, body) {
		m.rewrites = append(m.rewrites, key)
	}
	now := time.Now
	if m.Now != nil {
		now = m.Now
	}
	o := object{name: key, body: bytes.Clone(body), time: now().UTC()}
	if there {
		o.name = old.name
	}
	m.objects[m.at(key)] = o
	return m.entry(key, o).ETag, nil
}

// at is where an object lies.
func (m *Memory) at(key string) string {
	if m.Fold {
		return strings.ToLower(key)
	}
	return key
}

// entry is what a listing tells of an object.
func (m *Memory) entry(key string, o object) ship.Object {
	e := ship.Object{Key: key, Size: int64(len(o.body)), Time: o.time}
	if m.ETags {
		sum := sha256.Sum256(o.body)
		e.ETag = hex.EncodeToString(sum[:16])
	}
	return e
}

// Stat is as ship.ObjectStater says.
func (m *Memory) Stat(ctx context.Context, key string) (ship.Object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "stat", key); err != nil {
		return ship.Object{}, err
	}
	o, ok := m.objects[m.at(key)]
	if !ok {
		return ship.Object{}, fmt.Errorf("stat %s: %w", key, ship.ErrNotFound)
	}
	return m.entry(key, o), nil
}

// Get is as ship.Store says.
func (m *Memory) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "get", key); err != nil {
		return nil, err
	}
	if err := ship.CheckKey(key); err != nil {
		return nil, err
	}
	o, ok := m.objects[m.at(key)]
	if !ok {
		return nil, fmt.Errorf("get %s: %w", key, ship.ErrNotFound)
	}
	m.open++
	return &memoryReader{Reader: bytes.NewReader(o.body), m: m}, nil
}

type memoryReader struct {
	*bytes.Reader
	m    *Memory
	once sync.Once
}

// WriteTo is hidden, so that readers are met as a network gives them.
func (r *memoryReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r.Reader})
}

func (r *memoryReader) Close() error {
	r.once.Do(func() {
		r.m.mu.Lock()
		defer r.m.mu.Unlock()
		r.m.open--
	})
	return nil
}

// List is as ship.Store says.
func (m *Memory) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	m.mu.Lock()
	err := m.begin(ctx, "list", prefix)
	var found []ship.Object
	for _, o := range m.objects {
		if strings.HasPrefix(o.name, prefix) {
			found = append(found, m.entry(o.name, o))
		}
	}
	m.mu.Unlock()
	slices.SortFunc(found, func(a, b ship.Object) int { return strings.Compare(a.Key, b.Key) })
	for _, o := range found {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = each(o)
		}
	}
	return err
}

// Delete is as ship.Store says.
func (m *Memory) Delete(ctx context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.begin(ctx, "delete", key); err != nil {
		return err
	}
	delete(m.objects, m.at(key))
	return nil
}

// Rewrites are the keys under which something else was put a second time.
func (m *Memory) Rewrites() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rewrites)
}

// OpenReaders counts what Get gave and no caller closed.
func (m *Memory) OpenReaders() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Requests counts the calls of "put", "get", "stat", "list" or "delete".
func (m *Memory) Requests(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.requests[op]
}

// Keys are all keys with a prefix, ascending.
func (m *Memory) Keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for _, o := range m.objects {
		if strings.HasPrefix(o.name, prefix) {
			keys = append(keys, o.name)
		}
	}
	slices.Sort(keys)
	return keys
}

// Object is what lies under a key.
func (m *Memory) Object(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.objects[m.at(key)].body)
}

// Tamper puts something under a key behind everyone's back; nil removes it.
func (m *Memory) Tamper(key string, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if body == nil {
		delete(m.objects, m.at(key))
		return
	}
	m.objects[m.at(key)] = object{name: key, body: bytes.Clone(body), time: m.objects[m.at(key)].time}
}
