package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

// ErrOtherHost says that points lie in a repository that this host ships to and
// that it does not know: another host puts some there, or what this one remembers
// was put back to an older time. Two machines that were one would remove each
// other's points.
var ErrOtherHost = errors.New("points lie there that this host does not know")

// checkWriters compares which host put the newest points with what this host
// knows of itself. Between what it put last and what it puts next there is nothing
// that it did not put.
func (a *Agent) checkWriters(o *opened) error {
	since := o.cache.Seen().Put
	if since == 0 {
		return a.firstContact(o)
	}
	for _, w := range o.view.Writers(since) {
		if _, err := a.record.Get(w.ID); err != nil {
			return otherHost(o.name, w, HostID(o.repo.ID))
		}
	}
	return nil
}

// firstContact is for a host that does not know what it put: it goes on when the
// newest point is its own, or there is none.
func (a *Agent) firstContact(o *opened) error {
	newest := o.view.Writers(0)
	ours := HostID(o.repo.ID)
	if len(newest) > 0 && o.view.Adopted() != ours {
		w := newest[len(newest)-1]
		if _, err := a.record.Get(w.ID); err != nil && w.Host != ours {
			return otherHost(o.name, w, ours)
		}
	}
	if len(newest) == 0 {
		return nil
	}
	return o.cache.NotePut(o.view.Highest())
}

// otherHost says what the id in such a point tells. The state of a host that was put
// back, and a clone, look alike from here: both carry the id of this host.
func otherHost(name string, w *ship.PointRecord, ours string) error {
	at := fmt.Sprintf("number %d of %s in repository %s", w.Number, w.Time.UTC().Format(time.RFC3339), name)
	if w.Host == ours {
		return advice.With(fmt.Errorf("%w: %s was put by a host with the id of this one (%s): either what this host remembers was put back to an older time, or another machine is a clone of it", ErrOtherHost, at, w.Host),
			"if this machine, or its state directory, was put back from a backup and no other one ships there, run: snapd adopt %s; if there is a clone, give one of the two a signing key and a prefix of its own", name)
	}
	return advice.With(fmt.Errorf("%w: %s was put by another host (%s)", ErrOtherHost, at, w.Host),
		"if this is the host that goes on, because that one was renewed, moved or given up, run: snapd adopt %s; otherwise give this machine a signing key and a prefix of its own", name)
}

// Adopted is a repository that this host goes on with.
type Adopted struct {
	Repository string `json:"repository"`
	Host       string `json:"host"`   // opaque id of this host
	Number     int64  `json:"number"` // of the newest point there
}

// Adopt writes down, there and here, that this host is the one that goes on with
// a repository; "" means all that are configured. It is what a person says after
// a machine was cloned, renewed, or put back from a backup.
func (a *Agent) Adopt(ctx context.Context, repository string) ([]Adopted, error) {
	names := a.repositoryNames(repository)
	if len(names) == 0 {
		if repository != "" {
			return nil, a.noRepository(repository)
		}
		return nil, advice.In(NoRepository, advice.Usagef("no repository is configured, so there is nothing to adopt"))
	}
	var out []Adopted
	var faults []error
	for _, name := range names {
		one, err := a.adopt(ctx, name)
		if err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", name, err))
			continue
		}
		out = append(out, one)
	}
	return out, errors.Join(faults...)
}

func (a *Agent) adopt(ctx context.Context, name string) (_ Adopted, err error) {
	o, err := a.openFor(ctx, name, ship.Whole)
	if err != nil {
		return Adopted{}, err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	held, err := a.waitLock(ctx, pointsLock(o.repo), "the list of points in "+name, commitPatience)
	if err != nil {
		return Adopted{}, err
	}
	defer func() { err = errors.Join(err, held.release()) }()
	host := HostID(o.repo.ID)
	if err := o.repo.Adopt(ctx, o.view, host); err != nil {
		return Adopted{}, err
	}
	return Adopted{Repository: name, Host: host, Number: o.view.Highest()}, o.cache.NotePut(o.view.Highest())
}
