package point

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kinds of items.
const (
	ItemVolume  = "volume"  // of a container
	ItemBind    = "bind"    // a folder or file of the host in a container
	ItemPath    = "path"    // of the configuration
	ItemDataset = "dataset" // one that no item named; it stands in changes alone
)

// Item is what a person thinks of as one thing that is backed up, and restores as
// one: a mount of a member, or a path of the configuration. The members of one
// service that mount the same are one item.
type Item struct {
	Kind    string `json:"kind"`
	Project string `json:"project,omitempty"` // of Docker Compose or of a Swarm stack
	Member  string `json:"member,omitempty"`  // the service, or the container where there is none; "" for a path
	Target  string `json:"target"`            // path in the container; of a path that on the host, of a dataset its name

	Volume       string `json:"volume,omitempty"`        // its name
	VolumeDriver string `json:"volume_driver,omitempty"` // "local", …
	Subpath      string `json:"subpath,omitempty"`       // of the volume, where only that is mounted
	Source       string `json:"source,omitempty"`        // where it lies on the host, without symbolic links

	Place

	// Empty tells whether its top folder had no entry when the point was taken.
	// Null where that could not be told, and for what is no folder.
	Empty *bool `json:"empty"`
	// Filled says that it had entries when that could last be told, in this point
	// or in one before.
	Filled bool `json:"filled,omitempty"`
	// EmptyAccepted says that a user has accepted that it is empty at times.
	EmptyAccepted bool `json:"empty_accepted,omitempty"`
}

// Place is where an item lies.
type Place struct {
	Driver  string `json:"driver"`
	Dataset string `json:"dataset"`
	Origin  string `json:"origin"` // guid of the dataset
	Path    string `json:"path"`   // in the dataset, "." for all of it
}

// ItemKey is what makes an item the same one from point to point, wherever it
// lies and whether it is a volume or a bind mount.
type ItemKey struct{ Kind, Project, Member, Target string }

// Key is the item's key.
func (i Item) Key() ItemKey {
	k := ItemKey{Kind: i.Kind, Project: i.Project, Member: i.Member, Target: i.Target}
	if k.Kind == ItemVolume || k.Kind == ItemBind {
		k.Kind = "mount"
	}
	return k
}

// String names the item as users do.
func (i Item) String() string {
	switch i.Kind {
	case ItemPath, ItemDataset:
		return i.Kind + " " + i.Target
	}
	return i.Target + " of " + i.Member
}

// anonymousLength is that of the names that Docker makes up: hexadecimal digits.
const anonymousLength = 64

// Anonymous tells whether it is a volume to which no user gave a name.
func (i Item) Anonymous() bool {
	return i.Kind == ItemVolume && len(i.Volume) == anonymousLength && strings.Trim(i.Volume, "0123456789abcdef") == ""
}

// String names the place as users do.
func (p Place) String() string {
	if p.Path == "." || p.Path == "" {
		return p.Driver + " " + p.Dataset
	}
	return p.Path + " in " + p.Driver + " " + p.Dataset
}

// Same tells whether two places are one, also after the dataset was renamed.
func (p Place) Same(o Place) bool {
	return p.Driver == o.Driver && p.Origin == o.Origin && p.Path == o.Path
}

// What a Change says.
const (
	ItemLost      = "lost"      // the group has it no more
	ItemExchanged = "exchanged" // it lies in another dataset
	ItemMoved     = "moved"     // it lies at another path of the same dataset
	ItemEmptied   = "empty"     // it had entries, and has none
)

// Change is one thing that a point does not have as the points before it had it.
type Change struct {
	Item  string `json:"item"` // for people
	What  string `json:"what"`
	Was   Item   `json:"was"`   // as it was last
	Is    *Place `json:"is"`    // null: nowhere
	Since Since  `json:"since"` // the first point that has it so
}

// Since names a point and when it was taken.
type Since struct {
	Point ID        `json:"point"`
	Time  time.Time `json:"time"`
}

// Same tells whether two points speak of one change: of the same item, away from
// the same place, since the same point.
func (c Change) Same(o Change) bool {
	return c.Was.Key() == o.Was.Key() && c.Was.Same(o.Was.Place) && c.Since.Point == o.Since.Point
}

// String says it in one line. Names come from users and containers: what could
// move a cursor is escaped.
func (c Change) String() string {
	quoted := strconv.Quote(c.line())
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

func (c Change) line() string {
	since := fmt.Sprintf("since point %s of %s", c.Since.Point, c.Since.Time.UTC().Format("2006-01-02 15:04 MST"))
	switch {
	case c.What == ItemEmptied:
		return fmt.Sprintf("%s is empty, and was not (%s), %s", c.Item, c.Was.Place, since)
	case c.Is != nil && c.Is.Dataset == c.Was.Dataset && c.Is.Path == c.Was.Path:
		return fmt.Sprintf("%s was made anew (%s), %s", c.Item, c.Was.Place, since)
	case c.Is != nil:
		return fmt.Sprintf("%s was %s and is %s, %s", c.Item, c.Was.Place, c.Is, since)
	case c.Was.Kind == ItemDataset:
		return fmt.Sprintf("%s is not in the group any more, %s", c.Item, since)
	}
	return fmt.Sprintf("%s (%s) is not in the group any more, %s", c.Item, c.Was.Place, since)
}
