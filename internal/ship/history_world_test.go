package ship_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// diet says what a history is made of. Chances are from 0 to 1.
type diet struct {
	name    string
	lies    shiptest.Lies // the most that a step's lies may be
	lie     float64       // a step is lied to at all
	keeper  bool          // only prunes are lied to
	attack  float64       // a step is an attack
	only    string        // attacks remove objects below this prefix, and do nothing else
	junk    bool          // an attacker puts objects of its own
	between float64       // something happens between two segments, or between manifest and point
	days    bool          // time passes, also in an upload
	clocks  bool          // each host's clock is wrong by years
	kill    float64       // an operation is killed at one of its requests
	clone   bool
	steps   int
}

// world is one history: a repository, the hosts that use it, and what really
// happened to it.
type world struct {
	diet   diet
	rng    *rand.Rand
	root   string
	truth  *truth
	liar   *shiptest.Liar
	mortal *shiptest.Mortal // what hosts see, if set
	signer *ship.Signer
	memory *ship.Memory
	hosts  []*host
	slow   time.Duration // what each segment takes
	nested int
	step   int
	serial int
	story  []string
}

// host is a machine with a dataset or two, or one that only prunes.
type host struct {
	name    string
	id      string
	dir     string
	skew    time.Duration // what its clock is wrong by, where a caller says the time
	ships   bool
	records *ship.Records
	snaps   map[string][]string // dataset -> guids of the snapshots that are here, oldest first
	points  []*localPoint
	agentState
}

// localPoint is what a host's record knows of a point.
type localPoint struct {
	id      point.ID
	guids   map[string]string           // dataset -> snapshot
	streams map[string]ship.PointStream // dataset -> what carries it
	full    map[string]bool             // dataset -> shipped without a base
	number  int64
}

// sliceHere is the smallest slice, so that streams of many segments are cheap.
const sliceHere = 1 << 10

func newWorld(seed uint64, d diet, root string) (*world, error) {
	w := &world{
		diet: d, rng: rand.New(rand.NewPCG(seed, 7)), root: root,
		truth: newTruth(), memory: ship.NewMemory(),
	}
	w.liar = shiptest.NewLiar(w.truth, seed)
	w.truth.words = w.liar.Words
	years := func() time.Duration {
		if !d.clocks {
			return 0
		}
		return time.Duration(w.rng.IntN(21)-10) * 365 * 24 * time.Hour
	}
	store := years()
	w.truth.Now = func() time.Time { return time.Now().Add(store) }
	var err error
	if w.signer, err = ship.NewSigner(); err != nil {
		return nil, err
	}
	if _, err := ship.Create(context.Background(), w.truth, ship.CreateOptions{
		Signer: w.signer, Encryption: ship.EncryptionNone, Now: time.Now(), SliceBytes: sliceHere,
	}); err != nil {
		return nil, err
	}
	for i, name := range []string{"shipper", "keeper"} {
		h := &host{name: name, id: fmt.Sprintf("host-%d", i), dir: fmt.Sprintf("%s/%s", root, name), skew: years(), ships: i == 0, snaps: map[string][]string{}}
		if err := w.boot(h); err != nil {
			return nil, err
		}
		w.hosts = append(w.hosts, h)
	}
	return w, nil
}

func (w *world) boot(h *host) (err error) {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return err
	}
	h.records, err = ship.OpenRecords(h.dir + "/ships")
	return err
}

func (w *world) say(format string, args ...any) {
	indent := ""
	for range w.nested {
		indent += "    "
	}
	w.heard()
	w.story = append(w.story, fmt.Sprintf("%s%3d  ", indent, w.step)+fmt.Sprintf(format, args...))
}

// heard writes down what the liar told since.
func (w *world) heard() {
	for _, lie := range w.liar.Told() {
		w.story = append(w.story, "       · "+lie)
	}
}

// streamOf is what the storage sends from one snapshot to another: the same
// bytes every time it is asked.
func streamOf(origin, base, guid string) []byte {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %s %s", origin, base, guid)
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	data := fmt.Appendf(nil, "stream of %s from %q to %s\n", origin, base, guid)
	size := r.IntN(5 * sliceHere)
	if strings.HasPrefix(guid, "long") {
		size = 2*sliceHere + 1
	}
	for len(data) < size {
		data = fmt.Appendf(data, "%x\n", r.Uint64())
	}
	return data
}

// sending is a stream in which things happen between two segments.
type sending struct {
	w    *world
	data []byte
	at   int
	stop int // byte at which the sender fails; -1: never
}

var errSender = errors.New("the sender was interrupted")

func (s *sending) Read(p []byte) (int, error) {
	if s.at == len(s.data) {
		return 0, io.EOF
	}
	if s.at > 0 && s.at%sliceHere == 0 {
		synctest.Wait() // what was read before is safe, or is lost
		time.Sleep(s.w.slow)
		s.w.meanwhile("between two segments")
	}
	if s.stop >= 0 && s.at >= s.stop {
		return 0, errSender
	}
	next := min(s.at+sliceHere-s.at%sliceHere, len(s.data))
	n := copy(p, s.data[s.at:next])
	s.at += n
	return n, nil
}

func (s *sending) Close() error { return nil }

// lieNow decides how a step is lied to.
func (w *world) lieNow() {
	var lies shiptest.Lies
	if w.rng.Float64() < w.diet.lie {
		some := func(most float64) float64 {
			if w.rng.IntN(2) == 0 {
				return 0
			}
			return most * w.rng.Float64()
		}
		d := w.diet.lies
		lies = shiptest.Lies{
			Hide: some(d.Hide), Repeat: some(d.Repeat), Reorder: some(d.Reorder), Invent: some(d.Invent), Short: some(d.Short),
			Stale: some(d.Stale), Broken: some(d.Broken), Empty: some(d.Empty), Fail: some(d.Fail), Lost: some(d.Lost),
		}
	}
	w.step++
	w.truth.lying = lies != shiptest.Lies{}
	w.liar.Tell(w.step, lies)
	time.Sleep(time.Duration(1+w.rng.IntN(50)) * time.Millisecond) // ids sort by the millisecond
}

// honest answers truthfully while f runs.
func (w *world) honest(f func() error) error {
	w.step++
	w.liar.Tell(w.step, shiptest.Lies{})
	return f()
}

// meanwhile is where another host, an attacker or time may come between two
// steps of one operation.
func (w *world) meanwhile(where string) {
	if w.nested > 0 || w.rng.Float64() >= w.diet.between {
		return
	}
	w.nested++
	defer func() { w.nested-- }()
	w.say("meanwhile, %s:", where)
	for range 1 + w.rng.IntN(2) {
		w.random()
	}
	w.lieNow()
}

// random is one step.
func (w *world) random() {
	w.lieNow()
	if w.diet.keeper {
		_ = w.honest(func() error { return nil })
	}
	r := w.rng.Float64()
	if r < w.diet.attack {
		w.assault()
		return
	}
	switch w.rng.IntN(12) {
	case 0, 1, 2, 3, 4:
		w.takeAndShip()
	case 5, 6, 7, 8:
		w.pruneSome()
	case 9:
		if w.rng.IntN(2) == 0 {
			h := w.pick()
			w.say("%s verifies", h.name)
			if err := w.verify(h); err != nil {
				w.say("the verify says: %v", err)
			}
			return
		}
		w.pass()
	case 10:
		w.loseSomething()
	default:
		w.rare()
	}
}

// store is what the hosts are given.
func (w *world) store() ship.Store {
	if w.mortal != nil {
		return w.mortal
	}
	return w.liar
}

func (w *world) pick() *host { return w.hosts[w.rng.IntN(len(w.hosts))] }

func (w *world) takeAndShip() {
	h := w.pick()
	if !h.ships || h.busy {
		return
	}
	if len(h.points) == 0 || w.rng.IntN(4) > 0 {
		w.take(h)
	}
	p := h.points[w.rng.IntN(len(h.points))]
	if i := slices.IndexFunc(h.points, func(p *localPoint) bool { return p.number == 0 }); i >= 0 {
		p = h.points[i]
	}
	stop := -1
	if w.rng.IntN(5) == 0 {
		stop = sliceHere * w.rng.IntN(4)
	}
	w.shipOne(h, p, stop)
}

func newLocalPoint(id point.ID, guids map[string]string) *localPoint {
	return &localPoint{id: id, guids: guids, streams: map[string]ship.PointStream{}, full: map[string]bool{}}
}

func (w *world) take(h *host) {
	w.serial++
	p := newLocalPoint(point.NewID(time.Now()), map[string]string{})
	for _, origin := range []string{"data", "mail"}[:1+w.rng.IntN(2)] {
		guid := fmt.Sprintf("%s-%d", origin, w.serial)
		h.snaps[origin] = append(h.snaps[origin], guid)
		p.guids[origin] = guid
		p.full[origin] = w.rng.IntN(5) == 0
	}
	h.points = append(h.points, p)
	w.say("%s takes point %s of %v", h.name, w.named(p.id), slices.Sorted(maps.Values(p.guids)))
}

// named is a point in words.
func (w *world) named(id point.ID) string {
	for _, h := range w.hosts {
		if i := slices.IndexFunc(h.points, func(p *localPoint) bool { return p.id == id }); i >= 0 {
			return fmt.Sprintf("%s#%d", h.name, i+1)
		}
	}
	return "?"
}

// shipOne ships a point, and believes no success.
func (w *world) shipOne(h *host, p *localPoint, stop int) {
	w.say("%s ships %s%s", h.name, w.named(p.id), map[bool]string{true: fmt.Sprintf(" (its sender fails at byte %d)", stop)}[stop >= 0])
	err := w.ship(h, p, stop)
	if err != nil {
		w.say("the ship of %s says: %v", w.named(p.id), err)
		return
	}
	rec := w.truth.valid(p.id)
	if rec == nil {
		w.truth.fault("the ship of %s said success, and there is no such point", w.named(p.id))
		return
	}
	w.say("%s is point %d", w.named(p.id), rec.number)
	for origin, s := range p.streams {
		if !slices.Contains(rec.streams, string(s.Stream)) {
			w.truth.fault("the ship of %s said success with a stream of %s that its record does not name", w.named(p.id), origin)
		}
	}
	w.readBack(rec, "right after its success")
}

// readBack restores a point from an honest store.
func (w *world) readBack(rec *pointFact, when string) {
	err := w.honest(func() error { return w.restore(rec) })
	if err != nil && (!w.truth.wasAttacked(rec) || w.truth.restorable(rec) && w.diet.attack == 0) {
		w.truth.fault("point %d (%s) cannot be restored %s: %v", rec.number, w.named(rec.id), when, err)
	}
}

func (w *world) pruneSome() {
	h := w.pick()
	kept := w.truth.kept()
	var drop []point.ID
	for _, p := range kept {
		if w.rng.IntN(3) == 0 {
			drop = append(drop, p.id)
		}
	}
	now := time.Now().Add(h.skew)
	if w.diet.days && w.rng.IntN(2) == 0 {
		now = now.Add(time.Duration(w.rng.IntN(100)) * time.Hour)
	}
	var words []string
	for _, id := range drop {
		words = append(words, w.named(id))
	}
	dry := w.rng.IntN(10) == 0
	w.say("%s prunes%s, to drop %v", h.name, map[bool]string{true: " (a dry run)"}[dry], words)
	if w.diet.keeper {
		w.lieNow()
	}
	before := len(w.truth.Keys(""))
	said, err := w.prune(h, drop, now, dry, w.rng.IntN(4) == 0)
	w.say("the prune says: %s: %v", said, err)
	if dry && len(w.truth.Keys("")) != before {
		w.truth.fault("a dry run changed the repository")
	}
}

func (w *world) pass() {
	d := time.Duration(w.rng.IntN(3600)) * time.Second
	if w.diet.days {
		d = time.Duration(w.rng.IntN(24*10)) * time.Hour
	}
	w.say("%s pass", d)
	time.Sleep(d)
}

func (w *world) loseSomething() {
	h := w.pick()
	switch {
	case w.rng.IntN(2) == 0 && len(h.snaps["data"]) > 1:
		origin := []string{"data", "mail"}[w.rng.IntN(2)]
		if n := len(h.snaps[origin]); n > 1 {
			i := w.rng.IntN(n - 1)
			w.say("%s removes its snapshot %s", h.name, h.snaps[origin][i])
			h.snaps[origin] = slices.Delete(h.snaps[origin], i, i+1)
		}
	case !h.busy:
		w.say("%s loses its state folder", h.name)
		w.forget(h)
	}
}

// rare is a clone, once in a history.
func (w *world) rare() {
	if !w.diet.clone || len(w.hosts) > 2 || w.nested > 0 {
		return
	}
	a := w.hosts[0]
	c := &host{name: "clone", id: a.id, dir: w.root + "/clone", skew: a.skew, ships: true, snaps: map[string][]string{}}
	for origin, snaps := range a.snaps {
		c.snaps[origin] = slices.Clone(snaps)
	}
	for _, p := range a.points {
		q := *p
		q.streams, q.full, q.guids = maps.Clone(p.streams), maps.Clone(p.full), maps.Clone(p.guids)
		c.points = append(c.points, &q)
	}
	if err := os.CopyFS(c.dir, os.DirFS(a.dir)); err != nil {
		w.truth.fault("clone: %v", err)
		return
	}
	if err := w.boot(c); err != nil {
		w.truth.fault("clone: %v", err)
		return
	}
	w.hosts = append(w.hosts, c)
	w.truth.cloned = true
	w.say("%s is cloned", a.name)
}

// assault is an attacker that can write into the bucket and has no key.
func (w *world) assault() {
	keys := w.truth.Keys(w.diet.only)
	keys = slices.DeleteFunc(keys, func(k string) bool { return k == "repository" })
	if len(keys) == 0 {
		return
	}
	key := keys[w.rng.IntN(len(keys))]
	body := w.truth.Object(key)
	if len(body) == 0 {
		return // it was cut before, down to nothing
	}
	kinds := 5
	if w.diet.junk {
		kinds = 7
	}
	if w.diet.only != "" {
		kinds = 1
	}
	switch w.rng.IntN(kinds) {
	case 0:
		w.say("an attacker removes %s", w.liar.Words(key))
		w.truth.attack(key, nil)
	case 1:
		w.say("an attacker flips a bit of %s", w.liar.Words(key))
		body[w.rng.IntN(len(body))] ^= 0x10
		w.truth.attack(key, body)
	case 2:
		w.say("an attacker cuts %s", w.liar.Words(key))
		w.truth.attack(key, body[:w.rng.IntN(len(body))])
	case 3, 4:
		other := keys[w.rng.IntN(len(keys))]
		w.say("an attacker puts %s in the place of %s", w.liar.Words(other), w.liar.Words(key))
		w.truth.attack(key, w.truth.Object(other))
	default:
		at := shiptest.Forge(key, w.rng)
		if w.truth.Object(at) != nil || ship.CheckKey(at) != nil {
			return
		}
		w.say("an attacker puts junk at %s", w.liar.Words(at))
		w.truth.attack(at, bytes.Clone(body[:w.rng.IntN(len(body)+1)]))
	}
}
