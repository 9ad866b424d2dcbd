package ship_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// truth is what a history's test knows of a repository: it sees every object
// that is put and deleted, keeps its own account of what needs what, and judges
// each delete before it is done. It shares no code with the package but the
// names of keys and fields in docs/FORMAT.md.
type truth struct {
	*shiptest.Memory
	words func(key string) string

	mu       sync.Mutex               // of what follows, against requests that run beside each other
	good     map[string][]byte        // what our code put
	attacked map[string]bool          // keys that an attacker touched
	streams  map[string]*streamFact   // by id
	owner    map[string][]*streamFact // object -> streams that list it
	points   map[int64]*pointFact     // by number
	asked    map[point.ID]bool        // a caller asked for it to be dropped
	alive    map[string]bool          // streams being uploaded by a process that lives
	heads    map[string]int64         // by key of an event, the newest point that it names
	cloned   bool                     // two hosts are one: what either remembers is the other's too
	lying    bool                     // about leases too: a prune that is told of none cannot spare what is under one
	events   int
	faults   []string // what was done wrong
}

type streamFact struct {
	ID, Origin, GUID, Base, BaseGUID string
	key                              string
	objects                          map[string]bool
	bad                              map[string]bool // of objects: gone or changed
}

type pointFact struct {
	number  int64
	id      point.ID
	streams []string
	group   string
	gone    bool // a signed event, or a caller of the old prune, dropped this number
}

func newTruth() *truth {
	return &truth{
		Memory: shiptest.NewMemory(), words: func(key string) string { return key }, good: map[string][]byte{},
		attacked: map[string]bool{}, streams: map[string]*streamFact{}, owner: map[string][]*streamFact{},
		points: map[int64]*pointFact{}, asked: map[point.ID]bool{}, alive: map[string]bool{}, heads: map[string]int64{},
	}
}

func (t *truth) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

// Put notes what was put.
func (t *truth) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	if err := t.Memory.Put(ctx, key, body, ifAbsent); err != nil {
		return err
	}
	t.noted(key, body)
	return nil
}

// PutDigest notes what was put.
func (t *truth) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (string, error) {
	etag, err := t.Memory.PutDigest(ctx, key, body, ifAbsent, sum)
	if err == nil {
		t.noted(key, body)
	}
	return etag, err
}

func (t *truth) noted(key string, body []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Clones that go on with one upload count its leases alike; either has removed
	// its own before.
	again := t.cloned && strings.HasPrefix(key, "meta/leases/")
	if old, ok := t.good[key]; ok && !bytes.Equal(old, body) && !t.attacked[key] && !again {
		t.fault("%s was replaced by something else", t.words(key))
	}
	t.good[key] = bytes.Clone(body)
	for _, s := range t.owner[key] {
		delete(s.bad, key)
	}
	t.learn(key, body)
}

// document is the fifth line of a signed object.
func document(body []byte, into any) error {
	lines := bytes.SplitN(body, []byte("\n"), 5)
	if len(lines) != 5 {
		return io.ErrUnexpectedEOF
	}
	return json.Unmarshal(lines[4], into)
}

func (t *truth) learn(key string, body []byte) {
	kind, _, _ := strings.Cut(strings.TrimPrefix(key, "meta/"), "/")
	var err error
	switch kind {
	case "streams":
		err = t.learnStream(key, body)
	case "points":
		err = t.learnPoint(key, body)
	case "leases":
		id, _, _ := strings.Cut(strings.TrimPrefix(key, "meta/leases/"), ".")
		t.alive[id] = true
	case "ledger":
		err = t.learnEvent(key, body)
	}
	if err != nil {
		t.fault("%s was put and cannot be decoded: %v", t.words(key), err)
	}
}

func (t *truth) learnStream(key string, body []byte) error {
	var doc struct {
		Stream   string  `json:"stream"`
		Origin   string  `json:"origin"`
		GUID     string  `json:"guid"`
		Base     *string `json:"base"`
		BaseGUID *string `json:"base_guid"`
		Rows     [][]any `json:"rows"`
	}
	if err := document(body, &doc); err != nil {
		return err
	}
	s := t.streams[doc.Stream]
	if s != nil {
		return nil // put again, the same
	}
	s = &streamFact{ID: doc.Stream, Origin: doc.Origin, GUID: doc.GUID, key: key, objects: map[string]bool{key: true}, bad: map[string]bool{}}
	if doc.Base != nil {
		s.Base, s.BaseGUID = *doc.Base, *doc.BaseGUID
	}
	for n, row := range doc.Rows {
		digest, _ := row[0].(string)
		s.objects[fmt.Sprintf("data/%s/%08d-%s", s.ID, n, digest[:16])] = true
	}
	for o := range s.objects {
		t.owner[o] = append(t.owner[o], s)
		if !t.sound(o) {
			s.bad[o] = true
		}
	}
	t.streams[s.ID] = s
	return nil
}

func (t *truth) learnPoint(key string, body []byte) error {
	var doc struct {
		Number   int64    `json:"number"`
		Point    point.ID `json:"point"`
		GroupTag string   `json:"group_tag"`
		Streams  []struct {
			Stream string `json:"stream"`
		} `json:"streams"`
	}
	if err := document(body, &doc); err != nil {
		return err
	}
	if want := fmt.Sprintf("meta/points/%010d", doc.Number); key != want {
		return fmt.Errorf("it is number %d", doc.Number)
	}
	if old := t.points[doc.Number]; old != nil && old.id == doc.Point && !t.attacked[key] {
		return nil // put again, the same
	}
	p := &pointFact{number: doc.Number, id: doc.Point, group: doc.GroupTag}
	for _, s := range doc.Streams {
		p.streams = append(p.streams, s.Stream)
	}
	t.points[doc.Number] = p
	return nil
}

// learnEvent takes a signed removal for what it says, if a caller asked for it.
func (t *truth) learnEvent(key string, body []byte) error {
	var doc struct {
		Number int64 `json:"number"`
		Drop   []struct {
			Number int64    `json:"number"`
			Point  point.ID `json:"point"`
		} `json:"drop"`
		Absent []int64 `json:"absent"`
		Points *struct {
			Number int64 `json:"number"`
		} `json:"points"`
	}
	if err := document(body, &doc); err != nil {
		return err
	}
	t.events++
	if doc.Points != nil {
		t.heads[key] = doc.Points.Number
	}
	for _, d := range doc.Drop {
		p := t.points[d.Number]
		switch {
		case p != nil && t.attacked[pointKeyOf(d.Number)]:
			p.gone = p.gone || p.id == d.Point // an attacker removed it, and another took its number
		case p == nil || p.id != d.Point:
			t.fault("%s drops number %d, which is no point %s", key, d.Number, d.Point)
		case !t.asked[p.id] && t.valid(p.id) == p:
			t.fault("%s drops point %d, for which no caller asked", key, d.Number)
		default:
			p.gone = true
		}
	}
	for _, n := range doc.Absent {
		if p := t.points[n]; p != nil && t.sound(pointKeyOf(n)) {
			t.fault("%s calls point %d absent, and it is there", key, n)
		} else if p != nil {
			p.gone = true
		}
	}
	return nil
}

func pointKeyOf(n int64) string { return fmt.Sprintf("meta/points/%010d", n) }

// valid is the record of a point that counts: of the highest number, unless it
// was dropped.
func (t *truth) valid(id point.ID) *pointFact {
	var best *pointFact
	for _, p := range t.points {
		if p.id == id && (best == nil || p.number > best.number) {
			best = p
		}
	}
	if best != nil && best.gone {
		return nil
	}
	return best
}

// kept are the valid records of all points that were not dropped, by number.
func (t *truth) kept() []*pointFact {
	highest := map[point.ID]int64{}
	for n, p := range t.points {
		highest[p.id] = max(highest[p.id], n)
	}
	var out []*pointFact
	for n, p := range t.points {
		if !p.gone && highest[p.id] == n {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pointFact) int { return int(a.number - b.number) })
	return out
}

// told tells whether anything signed that still lies there says that a number was
// given to a point. An attacker who removes the newest record leaves none, and a host
// that has never read it cannot know.
func (t *truth) told(n int64) bool {
	for m := range t.points {
		if m >= n && t.sound(pointKeyOf(m)) {
			return true
		}
	}
	for key, head := range t.heads {
		if head >= n && t.sound(key) {
			return true
		}
	}
	return false
}

// sound tells whether an object lies there as we put it.
func (t *truth) sound(key string) bool {
	good, ok := t.good[key]
	return ok && bytes.Equal(t.Object(key), good)
}

// restorable tells whether everything is there that restores a point, where
// another stream that makes the same snapshot stands for a base that is bad.
func (t *truth) restorable(p *pointFact) bool {
	for _, id := range p.streams {
		if !t.chainIsWhole(id, 0) {
			return false
		}
	}
	return true
}

func (t *truth) chainIsWhole(id string, depth int) bool {
	s := t.streams[id]
	if s == nil || len(s.bad) > 0 || depth > 100 {
		return false
	}
	return s.Base == "" || t.madeWhole(s.Base, s.Origin, s.BaseGUID, depth+1)
}

func (t *truth) madeWhole(base, origin, guid string, depth int) bool {
	if t.chainIsWhole(base, depth) {
		return true
	}
	for _, s := range t.streams {
		if s.ID != base && s.Origin == origin && s.GUID == guid && t.chainIsWhole(s.ID, depth+1) {
			return true
		}
	}
	return false
}

// Delete judges, then deletes.
func (t *truth) Delete(ctx context.Context, key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ours := t.good[key]; ours && t.Object(key) != nil {
		t.judge(key)
	}
	return t.Memory.Delete(ctx, key)
}

func (t *truth) judge(key string) {
	parts := strings.Split(key, "/")
	switch {
	case key == "repository" || strings.HasPrefix(key, "meta/ledger/"):
		t.fault("%s was deleted", key)
		return
	case strings.HasPrefix(key, "meta/points/"):
		for _, p := range t.points {
			if pointKeyOf(p.number) == key && !p.gone && t.valid(p.id) == p {
				t.fault("point %d was deleted, and no signed record says so", p.number)
			}
		}
		return
	case strings.HasPrefix(key, "data/") && t.alive[parts[1]] && !t.lying && len(t.attacked) == 0:
		t.fault("%s was deleted while its upload lives", t.words(key))
	}
	if len(t.owner[key]) == 0 {
		return
	}
	var before []*pointFact
	for _, p := range t.kept() {
		if t.restorable(p) && t.told(p.number) {
			before = append(before, p)
		}
	}
	for _, s := range t.owner[key] {
		s.bad[key] = true
	}
	for _, p := range before {
		if !t.restorable(p) {
			t.fault("%s was deleted, and the kept point %d needs it", t.words(key), p.number)
			return
		}
	}
}

// end says that no upload is alive any more.
func (t *truth) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.alive)
}

// attack changes an object behind everyone's back; nil removes it.
func (t *truth) attack(key string, body []byte) {
	t.Tamper(key, body)
	t.attacked[key] = true
	for _, s := range t.owner[key] {
		if t.sound(key) {
			delete(s.bad, key)
		} else {
			s.bad[key] = true
		}
	}
}

// wasAttacked tells whether an attacker touched something that a point could
// be restored from.
func (t *truth) wasAttacked(p *pointFact) bool {
	if t.attacked[pointKeyOf(p.number)] {
		return true
	}
	seen := map[string]bool{}
	var touched func(id string) bool
	touched = func(id string) bool {
		s := t.streams[id]
		if s == nil || seen[id] {
			return false
		}
		seen[id] = true
		for o := range s.objects {
			if t.attacked[o] {
				return true
			}
		}
		return s.Base != "" && touched(s.Base)
	}
	return slices.ContainsFunc(p.streams, touched)
}

// surplus are the keys of ours that neither a kept point nor the ledger nor a
// lease explains.
func (t *truth) surplus() []string {
	need := map[string]bool{"repository": true}
	var chain func(id string)
	chain = func(id string) {
		s := t.streams[id]
		if s == nil || need[s.key] {
			return
		}
		for o := range s.objects {
			need[o] = true
		}
		if s.Base != "" {
			chain(s.Base)
		}
	}
	for _, p := range t.kept() {
		need[pointKeyOf(p.number)] = true
		for _, id := range p.streams {
			chain(id)
		}
	}
	return slices.DeleteFunc(t.Keys(""), func(key string) bool {
		return need[key] || strings.HasPrefix(key, "meta/ledger/") || strings.HasPrefix(key, "meta/leases/")
	})
}

var _ ship.Store = (*truth)(nil)
