package point

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Consistency says how the datasets of a point fit together, weakest first.
type Consistency string

// The degrees of consistency.
const (
	Separate Consistency = "separate" // each dataset crash-consistent by itself, not among each other
	Crash    Consistency = "crash"    // one instant over all datasets, as after a power cut
	Frozen   Consistency = "frozen"   // the members were frozen as well
	Quiesced Consistency = "quiesced" // the application agreed
	Stopped  Consistency = "stopped"  // the members were shut down in order
)

// Point is one group at one instant.
type Point struct {
	ID          ID          `json:"id"`
	Group       string      `json:"group"`
	Host        string      `json:"host"`
	Time        time.Time   `json:"time"`
	Consistency Consistency `json:"consistency"`
	WindowUS    int64       `json:"window_us"`               // first member frozen to last one thawed
	MaxWindowUS int64       `json:"max_window_us,omitempty"` // what WindowUS was asked to stay below
	HeldUS      int64       `json:"held_us"`                 // first database lock taken to last released
	Timings     Timings     `json:"timings_us"`
	Datasets    []Dataset   `json:"datasets"`
	Shipped     []Shipped   `json:"shipped"`

	Freeze   string   `json:"freeze,omitempty"`   // what was asked for: auto, none, freeze, …
	Why      string   `json:"why,omitempty"`      // why this consistency and no other
	Members  []Member `json:"members,omitempty"`  // what was frozen
	Warnings []string `json:"warnings,omitempty"` // what this point does not cover, and why
	Quiesced []Quiet  `json:"quiesced,omitempty"` // which applications agreed, and how
	Hooks    []Hook   `json:"hooks,omitempty"`    // what ran in the containers before and after

	// Containers are the definitions of the members, so that a user can make
	// them again. They may hold passwords: a repository has them encrypted, and
	// no command shows them.
	Containers json.RawMessage `json:"containers,omitempty"`

	// Properties are what was set on the datasets, by their guids (origin).
	Properties json.RawMessage `json:"properties,omitempty"`

	Items   []Item   `json:"items,omitempty"`   // what it is made of, as people name it
	Changed []Change `json:"changed,omitempty"` // what it does not have as the points before had it, until that is accepted

	Numbers  map[string]int64 `json:"numbers,omitempty"`  // repository to number of the point there, once it is whole
	Dropped  []string         `json:"dropped,omitempty"`  // repositories that retention removed it from
	Verified *time.Time       `json:"verified,omitempty"` // when every byte of it was last checked

	// Hidden says that something was left out of this copy, and who may see it. It is
	// never recorded.
	Hidden string `json:"hidden,omitempty"`

	// States is what a look at the repositories says of it; none when it is
	// well. It is never recorded.
	States []State `json:"states,omitempty"`
}

// State is something to know of a point, at a place.
type State struct {
	State      string `json:"state"`                // one of those below
	Repository string `json:"repository,omitempty"` // "" when it concerns none, or all
}

// What a State says.
const (
	Damaged  = "damaged"   // it cannot be restored from there
	Lost     = "lost"      // it was there, and neither a signed record nor this host removed it
	Pinned   = "pinned"    // nothing removes it there until it is unpinned
	Future   = "future"    // its time lies in the future: a clock was wrong
	OnlyHere = "only here" // no repository has it, or ever had
	Removed  = "dropped"   // removed there on purpose; its snapshot is still here
	Changed  = "changed"   // it lacks, or has otherwise, what the points before it had
)

// Timings are the parts of a window in microseconds.
type Timings struct {
	Hold     int64 `json:"hold"`
	Freeze   int64 `json:"freeze"`
	Snapshot int64 `json:"snapshot"`
	Thaw     int64 `json:"thaw"`
}

// Member is what was frozen for a point.
type Member struct {
	Kind string `json:"kind"` // container, unit
	Name string `json:"name"`
	How  string `json:"how"` // cgroup, pause, …
}

// Quiet is how one application put its data in order for a point.
type Quiet struct {
	Container string `json:"container"`
	By        string `json:"by"`                // mariadb, postgres, command
	Said      string `json:"said,omitempty"`    // the line by which a command acknowledged
	Tries     int    `json:"tries,omitempty"`   // how often its lock was asked for
	HeldUS    int64  `json:"held_us,omitempty"` // how long; none for a checkpoint
}

// Hook is what became of a hook.
type Hook struct {
	When      string   `json:"when"` // before, after
	Container string   `json:"container"`
	Command   []string `json:"command"`
	Exit      int      `json:"exit"` // -1 when it did not end by itself
	Seconds   float64  `json:"seconds"`
	Output    string   `json:"output"`          // the end of what it printed
	Error     string   `json:"error,omitempty"` // why it did not end by itself
}

// Dataset is one dataset of a point and the snapshot that holds it.
type Dataset struct {
	Driver   string   `json:"driver"`
	Dataset  string   `json:"dataset"`
	Snapshot string   `json:"snapshot"`
	GUID     string   `json:"guid"`            // of the snapshot
	Origin   string   `json:"origin"`          // guid of the dataset
	Domain   string   `json:"domain"`          // which datasets share an instant
	Paths    []string `json:"paths,omitempty"` // which paths of the host made it part of the group
}

// Shipped says which stream carries a dataset of the point in a repository.
type Shipped struct {
	Repository  string `json:"repository"`
	Dataset     string `json:"dataset"`
	Stream      ID     `json:"stream"`
	Base        *ID    `json:"base"` // the stream it builds on, null for a full one
	SentBytes   int64  `json:"sent_bytes"`
	StoredBytes int64  `json:"stored_bytes"`
	Segments    int    `json:"segments"`
	Why         string `json:"why,omitempty"`     // why this base
	Resumed     string `json:"resumed,omitempty"` // how an interrupted ship went on
	Digest      string `json:"digest,omitempty"`  // SHA-256 of the stream's manifest
}

// clone is a copy of which all may be changed but what Containers and Properties
// hold.
func (p *Point) clone() Point {
	c := *p
	c.Datasets, c.Shipped, c.Members = slices.Clone(p.Datasets), slices.Clone(p.Shipped), slices.Clone(p.Members)
	for i := range c.Datasets {
		c.Datasets[i].Paths = slices.Clone(c.Datasets[i].Paths)
	}
	c.Warnings, c.Quiesced, c.Hooks = slices.Clone(p.Warnings), slices.Clone(p.Quiesced), slices.Clone(p.Hooks)
	c.Items, c.Changed = slices.Clone(p.Items), slices.Clone(p.Changed)
	c.Dropped, c.States, c.Numbers = slices.Clone(p.Dropped), slices.Clone(p.States), maps.Clone(p.Numbers)
	return c
}

// InRepository tells whether the whole point lies in the repository.
func (p *Point) InRepository(name string) bool { return p.Numbers[name] > 0 }

// Leave forgets that the point lies in a repository. dropped: because
// retention removed it, so that it is not shipped there again.
func (p *Point) Leave(name string, dropped bool) {
	delete(p.Numbers, name)
	p.Shipped = slices.DeleteFunc(p.Shipped, func(s Shipped) bool { return s.Repository == name })
	if dropped && !slices.Contains(p.Dropped, name) {
		p.Dropped = append(p.Dropped, name)
	}
}

// Arrive writes down that a dataset was shipped; it may be said twice.
func (p *Point) Arrive(s Shipped) {
	p.Shipped = slices.DeleteFunc(p.Shipped, func(o Shipped) bool { return o.Repository == s.Repository && o.Dataset == s.Dataset })
	p.Shipped = append(p.Shipped, s)
}

// Awaits tells whether the point has yet to be shipped to the repository: it
// is not there, and retention did not remove it from there either.
func (p *Point) Awaits(name string) bool {
	return !p.InRepository(name) && !slices.Contains(p.Dropped, name)
}

// ShippedTo finds the stream that carries a dataset in a repository, or nil.
func (p *Point) ShippedTo(name, dataset string) *Shipped {
	for i, s := range p.Shipped {
		if s.Repository == name && s.Dataset == dataset {
			return &p.Shipped[i]
		}
	}
	return nil
}
