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
	return rand.New(rand.NewPCG(l.seed, h.Sum64())) //nolint:gosec // to be played again
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

// List lies.
func (l *Liar) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	var objects []ship.Object
	err := l.store.List(ctx, prefix, func(o ship.Object) error {
		objects = append(objects, o)
		return nil
	})
	if err != nil {
		return err
	}
	objects, broken := l.listing(prefix, objects)
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := each(o); err != nil {
			return err
		}
	}
	return broken
}

// listing is what is told instead of the truth.
func (l *Liar) listing(prefix string, objects []ship.Object) ([]ship.Object, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.chance("list", prefix)
	did := func(chance float64) bool { return chance > 0 && r.Float64() < chance }
	name := l.words(prefix)
	if did(l.lies.Empty) && len(objects) > 0 {
		l.tell("list %s: nothing there (of %d)", name, len(objects))
		return nil, nil
	}
	if did(l.lies.Stale) && len(l.past) > 0 {
		back := 1 + r.IntN(len(l.past))
		l.tell("list %s: as it was %d writes ago", name, back)
		objects = l.stale(prefix, objects, back)
	}
	if did(l.lies.Hide) {
		objects = l.hide(name, objects, r)
	}
	if did(l.lies.Invent) {
		for range 1 + r.IntN(3) {
			o := invent(prefix, objects, r)
			l.tell("list %s: invented %s", name, l.words(o.Key))
			objects = append(objects, o)
		}
		slices.SortStableFunc(objects, func(a, b ship.Object) int { return strings.Compare(a.Key, b.Key) })
	}
	if did(l.lies.Repeat) && len(objects) > 0 {
		at := r.IntN(len(objects))
		l.tell("list %s: %s comes twice", name, l.words(objects[at].Key))
		objects = slices.Insert(objects, r.IntN(len(objects)+1), objects[at])
	}
	if did(l.lies.Reorder) {
		if r.IntN(2) == 0 {
			l.tell("list %s: backwards", name)
			slices.Reverse(objects)
		} else {
			l.tell("list %s: in disorder", name)
			r.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		}
	}
	if did(l.lies.Short) && len(objects) > 0 {
		n := r.IntN(len(objects))
		l.tell("list %s: ends after %d of %d", name, n, len(objects))
		objects = objects[:n]
	}
	if did(l.lies.Broken) {
		n := r.IntN(len(objects) + 1)
		l.tell("list %s: fails after %d of %d", name, n, len(objects))
		return objects[:n], fmt.Errorf("list %s: %w", prefix, ship.ErrUnavailable)
	}
	return objects, nil
}

// hide leaves out one key, or all with a common beginning, or each with a
// chance.
func (l *Liar) hide(name string, objects []ship.Object, r *rand.Rand) []ship.Object {
	if len(objects) == 0 {
		return objects
	}
	var gone func(i int, o ship.Object) bool
	one := r.IntN(len(objects))
	switch r.IntN(4) {
	case 0, 1:
		gone = func(i int, _ ship.Object) bool { return i == one }
	case 2:
		kind := objects[one].Key[:strings.LastIndexByte(objects[one].Key, '/')+1]
		gone = func(_ int, o ship.Object) bool { return strings.HasPrefix(o.Key, kind) }
	default:
		p := r.Float64()
		gone = func(int, ship.Object) bool { return r.Float64() < p }
	}
	var left []ship.Object
	for i, o := range objects {
		if gone(i, o) {
			l.tell("list %s: hid %s", name, l.words(o.Key))
		} else {
			left = append(left, o)
		}
	}
	return left
}

func (l *Liar) stale(prefix string, objects []ship.Object, back int) []ship.Object {
	was := map[string]ship.Object{}
	for _, o := range objects {
		was[o.Key] = o
	}
	for _, c := range slices.Backward(l.past[len(l.past)-back:]) {
		if !strings.HasPrefix(c.object.Key, prefix) {
			continue
		}
		if c.deleted {
			was[c.object.Key] = c.object
		} else {
			delete(was, c.object.Key)
		}
	}
	var out []ship.Object
	for _, o := range was {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b ship.Object) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// invent makes a key that sorts and parses like one of ours, or does not
// parse at all.
func invent(prefix string, objects []ship.Object, r *rand.Rand) ship.Object {
	o := ship.Object{Key: prefix + "junk", Size: int64(r.IntN(3000))}
	if len(objects) > 0 {
		o = objects[r.IntN(len(objects))]
	}
	if key := Forge(o.Key, r); strings.HasPrefix(key, prefix) {
		o.Key = key
	} else {
		o.Key = prefix + junkName(r)
	}
	return o
}

func junkName(r *rand.Rand) string {
	names := []string{"0", "zzz", "9999999999", "junk", "0000000000", "x.y.z", "-1", "00000000000", "meta", "%2e%2e"}
	return names[r.IntN(len(names))]
}

// Forge turns a key of ours into another one that looks as good.
func Forge(key string, r *rand.Rand) string {
	dir, name := key[:strings.LastIndexByte(key, '/')+1], key[strings.LastIndexByte(key, '/')+1:]
	switch dir {
	case "meta/points/", "meta/ledger/":
		numbers := []int64{0, 1, 2, 3, int64(r.IntN(30)), 4_000_000_000, 9_999_999_998, 9_999_999_999}
		return fmt.Sprintf("%s%010d", dir, numbers[r.IntN(len(numbers))])
	case "meta/streams/":
		parts := strings.Split(name, ".")
		if len(parts) != 6 {
			return dir + junkName(r)
		}
		switch r.IntN(5) {
		case 0: // it hides the base of an incremental stream, and sorts late
			parts[3], parts[5] = "full", "0"
		case 1: // it sorts first
			parts[1] = "0"
		case 2: // it names a base that never was
			parts[3], parts[5] = "0000000000000000", "1"
		case 3:
			parts[0] = "0000000000000000"
		default:
			parts[2] = "zz"
		}
		return dir + strings.Join(parts, ".")
	case "meta/leases/":
		id, _, _ := strings.Cut(name, ".")
		return fmt.Sprintf("%s%s.%06d", dir, id, r.IntN(1000))
	}
	if n := len(name); n > 16 && strings.HasPrefix(dir, "data/") {
		return dir + name[:n-4] + "0000"
	}
	return dir + junkName(r)
}
