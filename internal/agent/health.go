package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// Limits of asking storages how they are. Status does not wait for one that needs
// longer: what it said last serves.
const (
	healthPatience = time.Second      // of status
	healthLimit    = 10 * time.Second // from which on a storage does not answer
)

// Ailment is something that is wrong with the storage of some groups.
type Ailment struct {
	fs.Finding
	Groups []string // whose data lies there
}

// String is for people.
func (f Ailment) String() string {
	text := f.On + ": " + f.What
	if len(f.Groups) > 0 {
		text += fmt.Sprintf(" (of %s)", fewGroups(f.Groups))
	}
	if f.Do != "" {
		text += "; " + f.Do
	}
	return text
}

// fewGroups names some groups, and says how many more there are.
func fewGroups(names []string) string {
	const most = 5
	text := "group "
	if len(names) > 1 {
		text = "groups "
	}
	if len(names) <= most {
		return text + strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s%s and %d more", text, strings.Join(names[:most], ", "), len(names)-most)
}

// whereGroupsLie are the datasets of groups.
type whereGroupsLie map[string][]fs.Dataset

// byPoints are those of each group's newest point: to find out where a group lies
// now costs more than status may, and cannot be done when its disk is away.
func byPoints(points []point.Point, now time.Time) whereGroupsLie {
	out := whereGroupsLie{}
	for _, p := range points { // oldest first
		if isFuture(p.Time, now) {
			continue
		}
		out[p.Group] = nil
		for _, d := range p.Datasets {
			out[p.Group] = append(out[p.Group], datasetOf(d))
		}
	}
	return out
}

// health is what is wrong with the storages that groups lie on, the gravest
// first, as far as they say so within patience. An error is of what is not known.
func (a *Agent) health(ctx context.Context, where whereGroupsLie, patience time.Duration) ([]Ailment, error) {
	byDriver := map[string][]fs.Dataset{}
	for _, group := range slices.Sorted(maps.Keys(where)) {
		for _, d := range where[group] {
			if !slices.ContainsFunc(byDriver[d.Driver], func(o fs.Dataset) bool { return o.GUID == d.GUID && o.Domain == d.Domain }) {
				byDriver[d.Driver] = append(byDriver[d.Driver], d)
			}
		}
	}
	var looks []*healthLook
	for _, name := range slices.Sorted(maps.Keys(byDriver)) {
		if teller, ok := a.Drivers[name].(fs.HealthTeller); ok {
			looks = append(looks, a.looks.begin(ctx, name, teller, byDriver[name]))
		}
	}
	enough, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out []Ailment
	var unknown error
	for _, l := range looks {
		found, err := a.looks.wait(enough, l)
		unknown = errors.Join(unknown, err)
		for _, f := range found {
			out = append(out, Ailment{Finding: f, Groups: where.on(l.storage, f.Datasets)})
		}
	}
	slices.SortStableFunc(out, func(a, b Ailment) int {
		switch {
		case a.Grave == b.Grave:
			return 0
		case a.Grave:
			return -1
		}
		return 1
	})
	return out, unknown
}

// on are the groups with one of these datasets.
func (w whereGroupsLie) on(storage string, names []string) []string {
	var out []string
	for _, group := range slices.Sorted(maps.Keys(w)) {
		if slices.ContainsFunc(w[group], func(d fs.Dataset) bool { return d.Driver == storage && slices.Contains(names, d.Name) }) {
			out = append(out, group)
		}
	}
	return out
}

// tellHealth adds it to a status.
func (a *Agent) tellHealth(ctx context.Context, out *Status, points []point.Point) {
	found, err := a.health(ctx, byPoints(points, a.Now()), healthPatience)
	for _, f := range found {
		out.Attention = append(out.Attention, f.String())
	}
	if err != nil {
		out.Attention = append(out.Attention, inOneLine(err))
	}
}

// healthLooks are the questions to storages of one Agent: of each storage one at a
// time, so that a device that hangs keeps one goroutine waiting and no more.
type healthLooks struct {
	mu      sync.Mutex
	pending map[string]*healthLook // by storage
	last    map[string]*healthLook // that ended
}

type healthLook struct {
	storage string
	overdue context.Context //nolint:containedctx // of this one question: ended, it should have an answer
	done    chan struct{}
	found   []fs.Finding // after done
	err     error
}

// begin asks a storage, or takes the question that waits for its answer.
func (h *healthLooks) begin(ctx context.Context, storage string, teller fs.HealthTeller, datasets []fs.Dataset) *healthLook {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.pending[storage]; l != nil {
		return l
	}
	// What one caller does not wait for, the next one hears.
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthLimit)
	l := &healthLook{storage: storage, overdue: limited, done: make(chan struct{})}
	if h.pending == nil {
		h.pending, h.last = map[string]*healthLook{}, map[string]*healthLook{}
	}
	h.pending[storage] = l
	go func() {
		defer cancel()
		l.found, l.err = teller.Health(limited, datasets)
		if l.err != nil {
			l.err = fmt.Errorf("ask %s for the health of its devices: %w", storage, l.err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.pending, storage)
		h.last[storage] = l
		close(l.done)
	}()
	return l
}

// wait returns the answer, or the one before it when this one takes too long.
func (h *healthLooks) wait(enough context.Context, l *healthLook) ([]fs.Finding, error) {
	select {
	case <-l.done:
		return l.found, l.err
	case <-enough.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-l.done: // just now
		return l.found, l.err
	default:
	}
	var hangs error
	if l.overdue.Err() != nil {
		hangs = advice.With(fmt.Errorf("%s does not answer when it is asked for the health of its devices: one of them may hang", l.storage), "look at the kernel's log (journalctl -k)")
	}
	before := h.last[l.storage]
	if before == nil {
		return nil, hangs
	}
	return before.found, errors.Join(before.err, hangs)
}
