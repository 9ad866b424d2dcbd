// Package workload says what runs on this host, which groups it forms and
// which datasets it writes to. It is the only package that knows the Docker
// client. It freezes nothing by itself: Engine offers package freeze the calls
// it needs, and Resolve only reads mount tables.
package workload

import (
	"encoding/json"
	"errors"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/proc"
)

// Container is one container of this host, running or not.
type Container struct {
	ID, Name, Image     string
	Running, Paused     bool              // one that the engine starts again and again does not run in between
	Restarting          bool              // the engine is about to start it again, after it has ended by itself
	Restarts            int               // how often the engine has done so
	StartedAt           time.Time         // of its first process; zero when it never ran
	AutoRemove          bool              // --rm: it vanishes when it stops
	StopTimeout         time.Duration     // how long it may take to end before the engine kills it
	Pid                 int               // of its first process, 0 when it does not run
	Labels, ImageLabels map[string]string // of the container; of the image it was made from
	ImageGone           bool              // its image was removed, so it is not known which labels came from there
	Project, Service    string            // of Docker Compose, "" for others
	DependsOn           []string          // services of the same project that are started before it
	Mounts              []Mount
	DataDir             string          // where the database of a well-known image keeps its data, in the container; "" for others
	Cgroup              string          // absolute directory in the cgroup v2 tree, "" when there is none
	Commands            config.Commands // what is run in it for a restore point; known of members of groups only
	Definition          json.RawMessage // what inspect says: it has environments, so it belongs into encrypted parts only

	seen   proc.Table // its mounts when it was started, of one that may have ended since
	passed bool       // it was started while a Follower listened, and does not run now
	// Fault is why it cannot be looked at or frozen, nil when it can. Its other
	// fields are then what is known all the same. Groups that it belongs to are
	// refused, and those that it writes to are warned.
	Fault error
}

// ErrChanged is wrapped when a container is not what it was when it was listed,
// for example started anew since. Listing it again helps.
var ErrChanged = errors.New("changed since it was listed")

// Kinds of mounts.
const (
	Volume = "volume"
	Bind   = "bind"
	Tmpfs  = "tmpfs"
)

// Mount is one mount that a container declares.
type Mount struct {
	Kind     string // Volume, Bind, Tmpfs, or another word of the engine
	Volume   string // name of the volume, "" for others
	Driver   string // of the volume
	Source   string // path on the host; "" when there is none
	Target   string // path in the container
	Writable bool
	Subpath  string // of the volume, where only that is mounted
	FSType   string // what the volume's options or its driver name: nfs, cifs, …; "" when they say nothing
}

// String names the mount as users do.
func (m Mount) String() string {
	switch {
	case m.Volume != "":
		return "volume " + m.Volume
	case m.Source != "":
		return m.Kind + " mount " + m.Source
	}
	return m.Kind + " mount at " + m.Target
}

// Group is a group with the containers and units that belong to it here and now.
type Group struct {
	config.Group
	Members []Container // by name
	Mounts  []Use       // what of the members' mounts belongs to the group, before it is known where it lies
	LeftOut []Use       // the others

	Excluded []Use // what would, if exclude did not name it
}

// Use is one mount of one member.
type Use struct {
	Container string // ID of the member
	Mount     Mount
}

// Member returns the member with this ID.
func (g Group) Member(id string) (Container, bool) {
	for _, c := range g.Members {
		if c.ID == id {
			return c, true
		}
	}
	return Container{}, false
}

// Problem is something in labels or configuration that must be corrected. A
// group that has one is not usable: a point that silently lacks what a user
// asked for would be a lie.
type Problem struct {
	Group     string // which group cannot be used, "" when it concerns none
	Container string // the container that has the label, "" for the configuration
	Label     string // or key
	Why, Do   string
}

func (p Problem) String() string {
	s := ""
	if p.Container != "" {
		s = "container " + p.Container + ": "
	}
	if p.Label != "" {
		s += p.Label + ": "
	}
	return s + p.Why
}

// Err is the problem as an error, with what to do about it.
func (p Problem) Err() error { return advice.With(errors.New(p.String()), "%s", p.Do) }
