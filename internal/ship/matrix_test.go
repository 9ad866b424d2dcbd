package ship_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// kindOf is what an object of the scripted repository is.
func (w *world) kindOf(key string) string {
	words := w.liar.Words(key)
	switch {
	case words == "repository":
		return "repository"
	case strings.HasPrefix(words, "meta/ledger/"):
		return "event"
	case strings.HasPrefix(words, "meta/leases/"):
		return "lease"
	case words == "meta/points/0000000004":
		return "newest point"
	case strings.HasPrefix(words, "meta/points/"):
		return "older point"
	}
	of := "interrupted upload"
	for _, s := range w.truth.streams {
		if strings.Contains(key, s.ID+".") && strings.HasPrefix(key, "meta/streams/"+s.ID) || strings.HasPrefix(key, "data/"+s.ID+"/") {
			of = map[bool]string{true: "full stream", false: "increment"}[s.Base == ""]
		}
	}
	if strings.HasPrefix(key, "data/") {
		return "segment, " + of
	}
	return "manifest, " + of
}

// damages are what can happen to an object; nil: it does not apply.
func damages() map[string]func(w *world, key string) []byte {
	sibling := func(w *world, key string, step int) []byte {
		keys := w.truth.Keys(key[:strings.LastIndexByte(key, '/')+1])
		i := slices.Index(keys, key) + step
		if i < 0 || i >= len(keys) || keys[i] == key || !strings.Contains(key, "/") {
			return nil
		}
		return w.truth.Object(keys[i])
	}
	return map[string]func(w *world, key string) []byte{
		"flipped": func(w *world, key string) []byte {
			body := w.truth.Object(key)
			body[len(body)/2] ^= 0x10
			return body
		},
		"cut":     func(w *world, key string) []byte { body := w.truth.Object(key); return body[:len(body)/2] },
		"swapped": func(w *world, key string) []byte { return sibling(w, key, 1) },
		"older":   func(w *world, key string) []byte { return sibling(w, key, -1) },
		"removed": func(*world, string) []byte { return nil },
	}
}

// said is what each command says of the damage.
type said struct{ list, restore, prune, verify, ship, healed string }

func (s said) String() string {
	return strings.Join([]string{s.list, s.restore, s.prune, s.verify, s.ship, s.healed}, " | ")
}

// lookAt asks everything of a damaged repository, in an order in which nothing
// is told to the next.
func (w *world) lookAt() (s said) {
	ctx := context.Background()
	h := w.hosts[0]
	w.lieNow()
	repo, cache, err := w.repo(h)
	if err != nil {
		s.list = "refuses"
		return said{"refuses", "refuses", "refuses", "refuses", "refuses", "no"}
	}
	defer cache.Close() //nolint:errcheck // only read
	if v, err := repo.View(ctx, nil, ship.Whole); err != nil {
		s.list = "refuses"
	} else {
		s.list = count("problem", len(v.Problems))
	}
	s.restore = w.restorableNow()
	if _, err := w.prune(h, []point.ID{h.points[0].id}, time.Now(), true, false); err != nil {
		s.prune = "stops"
	} else {
		s.prune = "goes on"
	}
	got, problems, err := repo.Verify(ctx, ship.VerifyOptions{}, nil)
	s.verify = fmt.Sprintf("%s, %s", count("problem", len(problems)), count("stream", len(got.Damage)))
	if err != nil {
		s.verify = "refuses"
	}
	return s
}

func count(what string, n int) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// restorableNow counts the points that come back whole.
func (w *world) restorableNow() string {
	whole, all := 0, 0
	for _, i := range []int{0, 2, 3} {
		all++
		if rec := w.truth.valid(w.hosts[0].points[i].id); rec != nil && w.restore(rec) == nil {
			whole++
		}
	}
	return fmt.Sprintf("%d of %d", whole, all)
}

// TestDamageMatrix damages each object of a small repository in each way, and
// asks what everything says of it, and what one ship (after a verify) heals.
func TestDamageMatrix(t *testing.T) {
	rows := map[string][]string{}
	objects := 0
	synctest.Test(t, func(t *testing.T) { objects = len(scripted(t).truth.Keys("")) })
	for i := range objects {
		for damage := range damages() {
			synctest.Test(t, func(t *testing.T) {
				w := scripted(t)
				key := w.truth.Keys("")[i]
				body := damages()[damage](w, key)
				if body == nil && damage != "removed" || bytes.Equal(body, w.truth.Object(key)) {
					return
				}
				kind := w.kindOf(key)
				w.truth.attack(key, body)
				s := w.lookAt()
				s.ship = "ships"
				if err := w.verify(w.hosts[0]); err != nil {
					s.ship = "refuses"
				}
				for _, i := range []int{0, 2, 3, 4} {
					w.lieNow()
					if err := w.ship(w.hosts[0], w.hosts[0].points[i], -1); err != nil {
						s.ship = "refuses"
					}
				}
				s.healed = w.restorableNow()
				if len(w.truth.faults) > 0 {
					t.Errorf("%s %s: %s", kind, damage, strings.Join(w.truth.faults, "; "))
				}
				row := fmt.Sprintf("%s | %s", kind, s)
				if !slices.Contains(rows[row], damage) {
					rows[row] = append(rows[row], damage)
				}
			})
		}
	}
	compareMatrix(t, rows)
}

func compareMatrix(t *testing.T, rows map[string][]string) {
	t.Helper()
	var got []string
	for row, ways := range rows {
		slices.Sort(ways)
		kind, rest, _ := strings.Cut(row, " | ")
		got = append(got, fmt.Sprintf("| %s | %s | %s |", kind, strings.Join(ways, ", "), rest))
	}
	slices.Sort(got)
	t.Logf("the matrix:\n%s", strings.Join(got, "\n"))
}
