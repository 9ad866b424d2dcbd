package shiptest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"snapd/internal/ship"
)

// Lies say how often a Liar does what. Each is a chance from 0 to 1: the first
// eight of one listing, the last two of one request for one object.
type Lies struct {
	Hide    float64 // keys are left out: one, some, or all of one kind
	Repeat  float64 // keys come twice
	Reorder float64 // the order is another one, perhaps the reverse
	Invent  float64 // keys are told of which there is no object
	Short   float64 // the listing ends early and calls itself complete
	Stale   float64 // the listing is that of some operations ago
	Broken  float64 // the listing fails with ErrUnavailable, perhaps in its middle
	Empty   float64 // nothing is listed, as by a login page with status 200

	Fail float64 // a get, put or delete fails with ErrUnavailable and does nothing
	Lost float64 // a put or delete is done, and fails with ErrUnavailable
}

// Liar is a store whose listings lie, while a get, put or delete of one key
// tells the truth or fails: what DESIGN.md 7.11 says a server may do. What it
// does depends only on the seed, the step and what is asked, and not on the
// order in which goroutines ask; streams are told apart by the order in which
// they were begun, since their ids hold chance. So a history can be played
// again. A new one tells the truth.
type Liar struct {
	store ship.Store
	seed  uint64

	mu      sync.Mutex
	lies    Lies
	step    int
	asked   map[string]int // of this step
	streams map[string]int // id -> ordinal
	known   map[string]ship.Object
	past    []change // the newest last
	told    []string
}

// change is one put or delete, as a stale listing takes it back.
type change struct {
	object  ship.Object // as it was listed before, or is now
	deleted bool
}

// pastKept is how far back a stale listing can lie.
const pastKept = 40

// NewLiar puts a liar before a store.
func NewLiar(s ship.Store, seed uint64) *Liar {
	return &Liar{store: s, seed: seed, asked: map[string]int{}, streams: map[string]int{}, known: map[string]ship.Object{}}
}

// Tell begins a step of a history, and says how often it is lied to from now
// on. No lies make an honest store.
func (l *Liar) Tell(step int, lies Lies) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.step, l.lies = step, lies
	clear(l.asked)
}

// Told are the lies and faults since it was last called, in words.
func (l *Liar) Told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.told
	l.told = nil
	return told
}

// Words is a key with the ids of streams and the digests replaced, so that it
// is the same in every run of a history.
func (l *Liar) Words(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.words(key)
}

func (l *Liar) words(key string) string {
	for _, prefix := range []string{"data/", "meta/streams/", "meta/leases/"} {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok || rest == "" {
			continue
		}
		end := strings.IndexAny(rest, "./")
		if end < 0 {
			end = len(rest)
		}
		id, rest := rest[:end], rest[end:]
		n, ok := l.streams[id]
		if !ok {
			n = len(l.streams) + 1
			l.streams[id] = n
		}
		if prefix == "data/" {
			if i := strings.LastIndexByte(rest, '-'); i >= 0 {
				rest = rest[:i]
			}
		} else if parts := strings.Split(rest, "."); len(parts) == 6 && parts[3] != "full" {
			if base, ok := l.streams[parts[3]]; ok {
				parts[3] = fmt.Sprintf("on-s%d", base)
			}
			rest = strings.Join(parts, ".")
		}
		return fmt.Sprintf("%ss%d%s", prefix, n, rest)
	}
	return key
}

// chance is the source of decisions about one question of this step.
func (l *Liar) chance(op, key string) *rand.Rand {
	question := op + " " + l.words(key)
	l.asked[question]++
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s %d", l.step, question, l.asked[question])
	return rand.New(rand.NewPCG(l.seed, h.Sum64()))
}

func (l *Liar) tell(format string, args ...any) {
	l.told = append(l.told, fmt.Sprintf(format, args...))
}

// fault decides what becomes of a request for one object.
func (l *Liar) fault(op, key string) (before, after error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lies.Fail == 0 && l.lies.Lost == 0 {
		l.words(key) // streams are numbered by their first request, lies or not
		return nil, nil
	}
	r := l.chance(op, key)
	if r.Float64() < l.lies.Fail {
		l.tell("%s %s: does not answer", op, l.words(key))
		return fmt.Errorf("%s %s: %w", op, key, ship.ErrUnavailable), nil
	}
	if op != "get" && r.Float64() < l.lies.Lost {
		l.tell("%s %s: done, but the answer is lost", op, l.words(key))
		return nil, fmt.Errorf("%s %s: the answer was lost: %w", op, key, ship.ErrUnavailable)
	}
	return nil, nil
}

func (l *Liar) remember(o ship.Object, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, there := l.known[o.Key]
	switch {
	case deleted && there:
		l.past = append(l.past, change{object: old, deleted: true})
		delete(l.known, o.Key)
	case !deleted:
		if !there {
			l.past = append(l.past, change{object: o})
		}
		l.known[o.Key] = o
	}
	if len(l.past) > pastKept {
		l.past = slices.Delete(l.past, 0, len(l.past)-pastKept)
	}
}

// Put is as ship.Store says, and honest.
func (l *Liar) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	_, err := l.put(key, body, func() (string, error) { return "", l.store.Put(ctx, key, body, ifAbsent) })
	return err
}

// PutDigest is as ship.DigestPutter says, and honest.
func (l *Liar) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (etag string, err error) {
	return l.put(key, body, func() (string, error) {
		if d, ok := l.store.(ship.DigestPutter); ok {
			return d.PutDigest(ctx, key, body, ifAbsent, sum)
		}
		return "", l.store.Put(ctx, key, body, ifAbsent)
	})
}

func (l *Liar) put(key string, body []byte, put func() (string, error)) (string, error) {
	before, after := l.fault("put", key)
	if before != nil {
		return "", before
	}
	etag, err := put()
	if err != nil {
		return "", err
	}
	l.remember(ship.Object{Key: key, Size: int64(len(body)), ETag: etag}, false)
	return etag, after
}

// Stat is as ship.ObjectStater says, and honest.
func (l *Liar) Stat(ctx context.Context, key string) (ship.Object, error) {
	if before, _ := l.fault("get", key); before != nil {
		return ship.Object{}, before
	}
	if s, ok := l.store.(ship.ObjectStater); ok {
		return s.Stat(ctx, key)
	}
	return ship.Object{}, fmt.Errorf("stat %s: %w", key, errors.ErrUnsupported)
}

// Get is as ship.Store says, and honest.
func (l *Liar) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if before, _ := l.fault("get", key); before != nil {
		return nil, before
	}
	return l.store.Get(ctx, key)
}

// Delete is as ship.Store says, and honest.
func (l *Liar) Delete(ctx context.Context, key string) error {
	before, after := l.fault("delete", key)
	if before != nil {
		return before
	}
	if err := l.store.Delete(ctx, key); err != nil {
		return err
	}
	l.remember(ship.Object{Key: key}, true)
	return after
}
