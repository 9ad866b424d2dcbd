package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/durable"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// found is what the last looks at one repository found, for status, which asks
// no repository. It lies beside the cache of that repository, and may be
// lost.
type found struct {
	Format     int          `json:"format"`
	Repository string       `json:"repository"` // its name in the configuration
	Address    string       `json:"address"`    // where it lay then
	Newest     int64        `json:"newest"`     // the highest number of a point that was seen there
	Looked     time.Time    `json:"looked"`
	Problems   []string     `json:"problems"` // what is unexplained there
	Damaged    []foundPoint `json:"damaged"`
	Lost       []foundPoint `json:"lost"`
	Future     []foundPoint `json:"future"`   // were in the future when they were looked at
	Verified   *time.Time   `json:"verified"` // when all of it was last read
	Orphans    *Orphans     `json:"orphans"`  // as that found them
	Leases     []string     `json:"leases"`   // what is wrong with some, as a verify, repair or prune found last
	Room       *Room        `json:"room"`     // null: it cannot tell
}

// foundPoint is a point that something is to be said of.
type foundPoint struct {
	ID    point.ID  `json:"id"`
	Group string    `json:"group"` // "" when it is encrypted and not known here
	Time  time.Time `json:"time"`
	// Number is that of its record, 0 where an older version wrote this down.
	Number int64 `json:"number,omitempty"`
}

const (
	foundFormat = 1
	foundFile   = "found.json"
)

func (a *Agent) foundIn(repositoryID string) string {
	return filepath.Join(a.State, "repositories", repositoryID)
}

// noteLook writes down what a look found, so that it stays visible until
// another one finds it gone. A look from the cache does not find everything,
// so that what a whole one found stays. What cannot be written costs nothing
// but that.
func (a *Agent) noteLook(name string, repo *ship.Repository, view *ship.View, cache *ship.Cache, look ship.Look) {
	if a.OnlyRepositories {
		return
	}
	a.changeFound(name, repo.ID, func(f *found) { a.fillFound(f, name, repo, view, look) })
	// Damage that this look met counts for those that come, until the stream
	// is read and found whole.
	known := cache.Seen().Damage
	damage := slices.DeleteFunc(slices.Clone(view.Damage()), func(d ship.Damage) bool {
		return slices.ContainsFunc(known, func(k ship.Damage) bool { return k.Stream == d.Stream }) || view.NotedDamaged(d.Stream)
	})
	if len(damage) > 0 {
		if err := cache.NoteDamage(damage); err != nil {
			a.warnOfError("", err)
		}
	}
}

func (a *Agent) fillFound(f *found, name string, repo *ship.Repository, view *ship.View, look ship.Look) {
	tags := map[string]string{}
	if len(view.Damage())+len(view.Lost()) > 0 || anyFuture(view, a.Now()) {
		tags = a.tags(repo, a.points(), nil)
	}
	tell := func(r ship.PointRecord) foundPoint {
		group := r.Secret.Group
		if group == "" {
			group = tags[r.GroupTag]
		}
		return foundPoint{ID: r.ID, Group: group, Time: r.Time, Number: r.Number}
	}
	problems, lost := slices.DeleteFunc(f.Problems, func(p string) bool {
		object, _, _ := strings.Cut(p, ": ")
		return view.Explains(object)
	}), f.Lost
	f.Address, f.Newest = addressOf(a.Config.Repositories[name]), max(f.Newest, view.Highest())
	f.Looked, f.Problems, f.Damaged, f.Lost, f.Future = a.Now().UTC(), []string{}, []foundPoint{}, []foundPoint{}, []foundPoint{}
	for _, p := range view.Problems {
		f.Problems = append(f.Problems, p.Object+": "+p.Problem)
	}
	reached := damagedPoints(view)
	for _, r := range view.Points {
		if len(reached[r.ID]) > 0 {
			f.Damaged = append(f.Damaged, tell(r))
		}
		if isFuture(r.Time, a.Now()) {
			f.Future = append(f.Future, tell(r))
		}
	}
	for _, r := range lostPoints(view) {
		f.Lost = append(f.Lost, tell(r))
	}
	if look == ship.Whole {
		return
	}
	for _, p := range problems {
		if !slices.Contains(f.Problems, p) {
			f.Problems = append(f.Problems, p)
		}
	}
	for _, l := range lost {
		same := func(o foundPoint) bool { return o.ID == l.ID }
		again, kept := view.Point(l.ID)
		kept = kept && again.Number > l.Number
		if !kept && !view.Dropped(l.ID) && !slices.ContainsFunc(f.Lost, same) {
			f.Lost = append(f.Lost, l)
		}
	}
}

// wasUnexplained tells whether the last look that saw everything found something
// that nothing explains. What such a look saw, one from the cache would take for
// whole again.
func (a *Agent) wasUnexplained(repositoryID string) bool {
	if a.OnlyRepositories {
		return false
	}
	return slices.ContainsFunc(readFound(a.foundIn(repositoryID)).Problems, func(p string) bool {
		object, _, _ := strings.Cut(p, ": ")
		return !strings.HasSuffix(object, "/") // gaps of version 1 are no news
	})
}

// noteLeases remembers which leases do not verify: they stop a prune, and only
// what reads them sees it.
func (a *Agent) noteLeases(name, id string, problems []ship.Problem) {
	var texts []string
	for _, p := range problems {
		if p.Kind == ship.KindLease {
			texts = append(texts, p.Object+": "+p.Problem)
		}
	}
	if a.OnlyRepositories || slices.Equal(texts, readFound(a.foundIn(id)).Leases) {
		return
	}
	a.changeFound(name, id, func(f *found) { f.Leases = texts })
}

// lostPoints are those that are gone and that no other record restores.
func lostPoints(view *ship.View) []ship.PointRecord {
	return slices.DeleteFunc(slices.Clone(view.Lost()), func(r ship.PointRecord) bool {
		_, again := view.Point(r.ID)
		return again
	})
}

// damagedPoints are the kept points that damage reaches, with the streams that
// are damaged.
func damagedPoints(view *ship.View) map[point.ID][]ship.Damage {
	out := map[point.ID][]ship.Damage{}
	for _, d := range view.Damage() {
		for _, id := range d.Points {
			out[id] = append(out[id], d)
		}
	}
	return out
}

// isFuture is InFuture for a time.
func isFuture(t, now time.Time) bool { return InFuture(point.Point{Time: t}, now) }

func anyFuture(view *ship.View, now time.Time) bool {
	return slices.ContainsFunc(view.Points, func(r ship.PointRecord) bool { return isFuture(r.Time, now) })
}

// changeFound changes what is remembered of a repository.
func (a *Agent) changeFound(name, id string, change func(*found)) {
	dir := a.foundIn(id)
	f := readFound(dir)
	f.Format, f.Repository = foundFormat, name
	change(&f)
	text, err := json.Marshal(f)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = durable.Write(filepath.Join(dir, foundFile), append(text, '\n'), 0o600)
	}
	if err != nil {
		a.warnOfError("", fmt.Errorf("remember what was found in repository %s: %w", name, err))
	}
}

// readFound gives what is remembered. What cannot be read was lost.
func readFound(dir string) found {
	text, err := os.ReadFile(filepath.Join(dir, foundFile))
	var f found
	if err != nil || json.Unmarshal(text, &f) != nil || f.Format != foundFormat {
		return found{}
	}
	return f
}

// lastFound is what is remembered of each repository that is configured, by
// its name. A repository that was made anew has another id: the last one
// counts.
func (a *Agent) lastFound() map[string]found {
	out := map[string]found{}
	if a.OnlyRepositories {
		return out
	}
	entries, err := os.ReadDir(filepath.Join(a.State, "repositories"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		a.warnOfError("", fmt.Errorf("read what was found in the repositories: %w", err))
	}
	for _, e := range entries {
		f := readFound(a.foundIn(e.Name()))
		_, configured := a.Config.Repositories[f.Repository]
		if before, there := out[f.Repository]; configured && (!there || f.Looked.After(before.Looked)) {
			out[f.Repository] = f
		}
	}
	return out
}
