package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"snapd/internal/advice"
	"snapd/internal/point"

	"aead.dev/minisign"
)

const (
	// versionsTried is how many versions of a deleted object a reader looks at.
	versionsTried = 16
	// hiddenCounted is how many entries are looked at to say how much is hidden.
	hiddenCounted = 10_000
)

// hiddenStore reads what was deleted from a bucket that keeps versions: of
// those the newest that is genuine. Only readers have one. To a writer and to
// prune, what was deleted is gone: nothing may be built on what a rule of the
// bucket may remove any day, and what prune has removed must not come back.
type hiddenStore struct {
	Store
	versions Versioner
	genuine  func(key string, object []byte) bool

	mu  sync.Mutex
	met map[string]bool // keys that were read so
}

// readingHidden puts one below the retries of a store; h is nil when the store
// keeps no versions.
func readingHidden(s Store, genuine func(key string, object []byte) bool) (_ Store, h *hiddenStore) {
	below, retries := s, false
	r, ok := s.(*retryStore)
	if ok {
		below, retries = r.store, true
	}
	v, ok := below.(Versioner)
	if !ok {
		return s, nil
	}
	h = &hiddenStore{Store: below, versions: v, genuine: genuine, met: map[string]bool{}}
	if retries {
		return &retryStore{store: h, policy: r.policy}, h
	}
	return h, h
}

// Get is as Store says, but for what was deleted.
func (h *hiddenStore) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	body, gone := h.Store.Get(ctx, key)
	if !errors.Is(gone, ErrDeleted) {
		return body, gone
	}
	ids, err := h.versions.Versions(ctx, key, versionsTried)
	if err != nil {
		return nil, orAway(gone, err)
	}
	for _, id := range ids {
		object, err := h.read(ctx, key, id)
		if err != nil {
			return nil, orAway(gone, err)
		}
		if h.genuine(key, object) {
			h.mu.Lock()
			h.met[key] = true
			h.mu.Unlock()
			return io.NopCloser(bytes.NewReader(object)), nil
		}
	}
	return nil, gone
}

// Stat is as ObjectStater says; what was deleted is not found.
func (h *hiddenStore) Stat(ctx context.Context, key string) (Object, error) {
	if s, ok := h.Store.(ObjectStater); ok {
		return s.Stat(ctx, key)
	}
	return Object{}, fmt.Errorf("stat %s: %w", key, errors.ErrUnsupported)
}

// ListAfter is as RangeLister says.
func (h *hiddenStore) ListAfter(ctx context.Context, prefix, after string, each func(Object) error) error {
	if r, ok := h.Store.(RangeLister); ok {
		return r.ListAfter(ctx, prefix, after, each)
	}
	return fmt.Errorf("list %s from the middle: %w", prefix, errors.ErrUnsupported)
}

// Space is as Spacer says.
func (h *hiddenStore) Space(ctx context.Context) (free, total int64, err error) {
	return Space(ctx, h.Store)
}

func (h *hiddenStore) read(ctx context.Context, key, id string) ([]byte, error) {
	body, err := h.versions.GetVersion(ctx, key, id)
	if err != nil {
		return nil, err
	}
	object, err := io.ReadAll(io.LimitReader(body, maxStored(maxSlice)))
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("read version %s of %s: %w", id, key, cut(ctx, err))
	}
	return object, nil
}

// orAway is why a deleted object cannot be read: what is worth trying again
// alone, anything else beside that it was deleted.
func orAway(gone, err error) error {
	if errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w; its earlier versions: %w", gone, err)
}

// keys are those that were read behind delete markers, ascending.
func (h *hiddenStore) keys() []string {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Keys(h.met))
}

// has tells whether a key was read so.
func (h *hiddenStore) has(key string) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.met[key]
}

// hidden notes that a listing lacked what is there. What lies behind a delete
// marker it has to lack.
func (l *looker) hidden(key string) {
	if l.repo.hidden.has(key) {
		return
	}
	if _, listed := l.listed[key]; l.v.look == Whole && !listed && l.v.cache != nil {
		l.v.Notes = append(l.v.Notes, fmt.Sprintf("the listing lacked %s, which is there", key))
	}
}

// isGenuine tells whether an object is one that the key's user put under that
// key. Who reads it checks the rest.
func isGenuine(trusted PublicKey, key string, object []byte) bool {
	if _, ok := streamOfData(key); ok { // it ends in the begin of the digest
		digits := key[strings.LastIndexByte(key, '-')+1:]
		return len(digits) == keyDigits && strings.HasPrefix(digestOf(object).String(), digits)
	}
	signature, body, err := split(object)
	var s minisign.Signature
	if err != nil || s.UnmarshalText(signature) != nil || !strings.HasSuffix(s.TrustedComment, " "+key) {
		return false
	}
	r := minisign.NewReader(bytes.NewReader(body))
	_, err = io.Copy(io.Discard, r)
	return err == nil && r.Verify(trusted.key, signature)
}

// tellHidden makes a problem of what was read behind delete markers: it can be
// read only as long as its versions stay.
func (v *View) tellHidden(h *hiddenStore) {
	keys := h.keys()
	if len(keys) == 0 {
		return
	}
	more := ""
	if n := len(keys) - 1; n > 0 {
		more = fmt.Sprintf(" (as are %d more)", n)
	}
	p := Problem{
		Object: keys[0], Points: []point.ID{}, Kind: KindHidden,
		Problem: fmt.Sprintf("it is hidden behind a delete marker%s, not by a signed removal: an earlier version was read, which stays only as long as the bucket keeps it", more),
	}
	v.met = append(v.met, p)
	v.Problems = append(v.Problems, p)
}

// hiddenRepository says of a repository whose description was deleted how much
// else was.
func hiddenRepository(ctx context.Context, s Store, deleted error) error {
	err := fmt.Errorf("open repository: its description is hidden: %w", deleted)
	v, ok := s.(Versioner)
	if !ok {
		return err
	}
	n, more, cerr := v.CountHidden(ctx, "", hiddenCounted)
	if cerr != nil || n == 0 {
		return err // what can be said without the right to list versions
	}
	count := fmt.Sprintf("%d versions", n)
	if n == 1 {
		count = "1 version"
	}
	if more {
		count = "more than " + count
	}
	return advice.With(fmt.Errorf("open repository: its description is hidden behind a delete marker, %s below the prefix are there: %w", count, deleted), "%s", advice.Of(deleted))
}
