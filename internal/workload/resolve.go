package workload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Host is what Resolve looks at besides the group.
type Host struct {
	Containers []Container // all of this host, to find writers outside the group
	Looks      *Looks      // how it looks at paths; nil means in a way of its own
	Swaps      []proc.Swap // what the kernel swaps to; a subvolume with such a file has no snapshot
}

// Resolved says where everything of a group lies.
type Resolved struct {
	Places   []ResolvedPlace // one for each dataset, by driver and name
	Items    []Item          // the mounts and paths of the group, in its own order
	Writers  []Writer        // running containers outside the group that write to these datasets
	Warnings []string        // what a point of this group does not cover, and why
	Notes    []string        // what users should know of paths, such as what is left out because it need not be covered
	Reach    *Reach          // finds who else writes to the group's files
	Ended    []string        // IDs of members that have ended since they were listed
}

// ResolvedPlace is one dataset of the group. Path is of the first of Paths.
type ResolvedPlace struct {
	fs.Place
	Paths []string // of the host, that made the dataset part of the group
	Users []string // names of the members that write there; none for a plain path
}

// Writer is a running container outside the group that has one of the group's
// datasets mounted for writing.
type Writer struct {
	Container Container
	Datasets  []fs.Dataset
	Paths     []string // of the host
	Overlaps  bool     // it writes to the group's own files, not merely to others in the same dataset
	Refuses   bool     // its labels say snapd.freeze=none or snapd.enable=false
}

// Resolve finds the dataset of every writable mount and path of the group.
// For running containers it believes the mount table of their process, for
// everything else that of the host. What no driver can snapshot is refused;
// the error says which one, why, and what to do.
func (h Host) Resolve(ctx context.Context, g Group, drivers []fs.Driver) (Resolved, error) {
	if err := g.Faults(); err != nil {
		return Resolved{}, err
	}
	n, err := readNamespaces(h.Looks)
	if err != nil {
		return Resolved{}, err
	}
	r := resolver{group: g, drivers: drivers, names: n, tables: map[int]proc.Table{}, located: map[spot]location{}}
	r.resting()
	for _, u := range g.Mounts {
		c, ok := r.group.Member(u.Container)
		if !ok {
			continue
		}
		r.item = itemOf(c, u.Mount)
		if err := r.mount(ctx, c, u.Mount); err != nil {
			return Resolved{}, err
		}
	}
	for _, u := range g.Excluded {
		if c, ok := g.Member(u.Container); ok {
			r.note("%s of container %s is left out, as exclude says", u.Mount, c.Name)
		}
	}
	for _, p := range g.Paths {
		r.item = &Item{Target: p}
		if err := r.plainPath(ctx, p); err != nil {
			return Resolved{}, err
		}
	}
	if len(r.out.Places) == 0 {
		return r.out, r.nothing()
	}
	if err := r.swapFiles(ctx, h.Swaps); err != nil {
		return Resolved{}, err
	}
	r.nestedDatasets(ctx)
	if err := r.leftOut(ctx); err != nil {
		return Resolved{}, err
	}
	if err := r.writers(ctx, h.Containers); err != nil {
		return Resolved{}, err
	}
	r.exposed(ctx, h.Containers)
	slices.SortFunc(r.out.Places, func(a, b ResolvedPlace) int {
		return cmp.Or(cmp.Compare(a.Dataset.Driver, b.Dataset.Driver), cmp.Compare(a.Dataset.Name, b.Dataset.Name))
	})
	r.out.Reach = &Reach{resolver: r}
	return r.out, nil
}

// resolver is the state of one call of Resolve.
type resolver struct {
	group   Group
	drivers []fs.Driver
	names   namespaces
	tables  map[int]proc.Table // of containers, by process
	located map[spot]location  // what was looked up of other containers' mounts
	spots   []owned            // of everything that belongs to the group
	item    *Item              // that is being looked at
	out     Resolved
}

// owned is a spot of the group and the dataset it is in.
type owned struct {
	spot
	dataset fs.Dataset
	path    string      // of the host, that leads there
	inodes  proc.Device // what stat says of the dataset's files: Btrfs has a number for each subvolume
}

// own adds a spot of the group, which the path leads to.
func (r *resolver) own(at thing, d fs.Dataset, path string) {
	r.spots = append(r.spots, owned{spot: at.spot, dataset: d, path: path, inodes: at.inodes})
}

func (r *resolver) warn(format string, args ...any) {
	r.out.Warnings = append(r.out.Warnings, fmt.Sprintf(format, args...))
}

func (r *resolver) note(format string, args ...any) {
	r.out.Notes = append(r.out.Notes, fmt.Sprintf(format, args...))
}

func (r *resolver) nothing() error {
	err := fmt.Errorf("group %s has nothing to snapshot: it has no writable volume, bind mount or path", r.group.Name)
	if len(r.out.Notes) > 0 {
		err = fmt.Errorf("%w (%s)", err, strings.Join(r.out.Notes, "; "))
	}
	return advice.With(err, "give it a volume, a bind mount or a path that is written to")
}

// item is one thing of a group, as messages name it.
type item struct {
	text    string
	exclude string // by what the key exclude would name it, "" for a path of the configuration
	source  string // of a bind mount
}

func (i item) String() string { return i.text }

// mount finds where one mount of one member lies and adds it.
func (r *resolver) mount(ctx context.Context, c Container, m Mount) error {
	who := item{text: fmt.Sprintf("%s of container %s", m, c.Name), exclude: m.nameFor()}
	if m.Kind == Bind {
		who.source = m.Source
	}
	switch {
	case m.Kind == Tmpfs || m.FSType == "tmpfs":
		r.note("%s is memory and not kept", who)
		return nil
	case !m.Writable:
		r.note("%s is read-only there", who)
		return nil
	case ofTheHost(who.source):
		r.note("%s belongs to this host and is left out", who)
		return nil
	case network(m.FSType):
		return r.refuse(who, m.FSType)
	case m.Kind != Volume && m.Kind != Bind:
		return advice.With(fmt.Errorf("%s: snapd does not know how to find mounts of this kind", who), "%s", r.leaveOut(who))
	}
	var t proc.Table
	if c.Running && c.Pid > 0 {
		var err error
		if t, err = r.table(c); gone(err) {
			r.hasEnded(c)
		} else if err != nil {
			return err
		}
	}
	if t == nil {
		if m.FSType != "" {
			return advice.With(fmt.Errorf("%s: it is mounted only while a container uses it", who), "start the container, or %s", r.leaveOut(who))
		}
		return r.hostPath(ctx, who, m.Source, c.Name)
	}
	target := filepath.Clean(m.Target)
	entry, found := t.At(target)
	if !found {
		// Docker follows symbolic links of the image, such as /var/run.
		if entry, found = r.bySource(ctx, t, m.Source); !found {
			return advice.With(fmt.Errorf("%s: the container's process does not have it mounted at %s; a runtime that hides its mounts (gVisor, Kata) is not supported", who, target), "%s", r.leaveOut(who))
		}
		target = entry.Point
	}
	switch {
	case kernelMade(entry.Type):
		r.note("%s belongs to the kernel (%s)", who, entry.Type)
		return nil
	case reason(entry.Type) != "": // known without a look at it, which may hang
		return r.refuse(who, entry.Type)
	case r.replaced(ctx, c, target, entry, m.Source):
		r.warn("%s: the file was replaced after the container was started: the container still has the old one, and the snapshot has the new one; start the container anew", who)
		return r.hostPath(ctx, who, m.Source, c.Name)
	}
	path, err := r.names.path(ctx, spotOf(entry), m.Source)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := r.add(ctx, who, path, c.Name); err != nil {
		return err
	}
	r.nestedMounts(ctx, t, target, who.text, c.Name, func(mountpoint string) bool {
		return slices.ContainsFunc(c.Mounts, func(o Mount) bool { return filepath.Clean(o.Target) == mountpoint })
	})
	return nil
}

// bySource finds the mount of a container that is of the host's path source.
func (r *resolver) bySource(ctx context.Context, t proc.Table, source string) (proc.Mount, bool) {
	real, err := r.names.real(ctx, source)
	if err != nil {
		return proc.Mount{}, false
	}
	want, err := r.names.look(ctx, real)
	if err != nil {
		return proc.Mount{}, false
	}
	for _, v := range slices.Backward(t) {
		if spotOf(v) == want.spot {
			return v, true
		}
	}
	return proc.Mount{}, false
}

func (r *resolver) plainPath(ctx context.Context, path string) error {
	return r.hostPath(ctx, item{text: "path " + path}, path, "")
}

// hostPath adds a path of the host and what is mounted below it.
func (r *resolver) hostPath(ctx context.Context, who item, path, user string) error {
	if path == "" {
		return advice.With(fmt.Errorf("%s: the engine does not say where it lies on this host", who), "%s", r.leaveOut(who))
	}
	real, err := r.names.real(ctx, path)
	if errors.Is(err, os.ErrNotExist) && noData(who.source) {
		r.note("%s belongs to this host and is left out", who)
		return nil
	}
	if errors.Is(err, os.ErrNotExist) {
		if user == "" {
			return advice.With(fmt.Errorf("%s does not exist", who), "make it, mount what it lies on (a pool of ZFS may only want zpool import), or %s", r.leaveOut(who))
		}
		return advice.With(fmt.Errorf("%s: %s does not exist", who, path), "make it, mount what it lies on, or %s", r.leaveOut(who))
	}
	if remote, yes := errors.AsType[*errRemote](err); yes {
		return r.refuse(who, remote.mount.Type)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := r.add(ctx, who, real, user); err != nil {
		return err
	}
	r.nestedMounts(ctx, r.names.host, real, who.text, user, func(string) bool { return false })
	return nil
}

// add finds the dataset of a path without symbolic links.
func (r *resolver) add(ctx context.Context, who item, path, user string) error {
	at, err := r.names.look(ctx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if at.mode == unix.S_IFBLK && who.exclude == "" {
		return r.device(ctx, who, path, at.mount)
	}
	if at.mode != unix.S_IFDIR && at.mode != unix.S_IFREG {
		r.note("%s is a socket, a device or a pipe", who)
		return nil
	}
	if kernelMade(at.mount.Type) {
		r.note("%s belongs to the kernel (%s)", who, at.mount.Type)
		return nil
	}
	place, err := r.locate(ctx, path)
	if errors.Is(err, fs.ErrNotMine) {
		return r.refuse(who, at.mount.Type)
	}
	if err != nil {
		return fmt.Errorf("%s: find the dataset of %s: %w", who, path, err)
	}
	if place.Path != "." && place.Path != "" {
		r.note("%s is only a part of %s %s, and the snapshot has the whole of it", who, place.Dataset.Driver, place.Dataset.Name)
	}
	r.own(at, place.Dataset, path)
	r.keep(place, path, user)
	r.lies(place, path)
	return nil
}

// device adds a block device that the configuration names by its node, such as
// the disk of a virtual machine. It must lie where the kernel makes nodes: of
// one elsewhere a driver could take the filesystem that the node lies on.
func (r *resolver) device(ctx context.Context, who item, path string, m proc.Mount) error {
	var place fs.Place
	err := fs.ErrNotMine
	if m.Type == "devtmpfs" {
		place, err = r.locate(ctx, path)
	}
	if errors.Is(err, fs.ErrNotMine) {
		return advice.With(fmt.Errorf("%s %w: it is a block device, and of those snapd takes logical volumes of LVM only", who, ErrNoStorage),
			"name a path on the filesystem that it has, or %s", r.leaveOut(who))
	}
	if err != nil {
		return fmt.Errorf("%s: find the dataset of %s: %w", who, path, err)
	}
	r.keep(place, path, "")
	r.lies(place, path)
	return nil
}

// locate asks every driver whether the path, which has no symbolic links, is on
// its storage.
func (r *resolver) locate(ctx context.Context, path string) (fs.Place, error) {
	m, err := r.names.near(path)
	if err != nil {
		return fs.Place{}, fmt.Errorf("%w: %w", fs.ErrNotMine, err)
	}
	ctx, cancel := context.WithTimeout(ctx, locateLimit)
	defer cancel()
	return look(ctx, r.names.looks, locateLimit, m.Device, path, func() (fs.Place, error) { return r.ask(ctx, path) })
}

func (r *resolver) ask(ctx context.Context, path string) (fs.Place, error) {
	for _, d := range r.drivers {
		place, err := d.Locate(ctx, path)
		if err == nil || !errors.Is(err, fs.ErrNotMine) {
			return place, err
		}
	}
	return fs.Place{}, fs.ErrNotMine
}

// keep adds a place, or adds path and user to the one of the same dataset.
func (r *resolver) keep(place fs.Place, path, user string) {
	i := slices.IndexFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, place.Dataset) })
	if i < 0 {
		r.out.Places = append(r.out.Places, ResolvedPlace{Place: place})
		i = len(r.out.Places) - 1
	}
	p := &r.out.Places[i]
	p.Paths, p.Nested, p.Foreign = addNew(p.Paths, path), addNew(p.Nested, place.Nested...), addNew(p.Foreign, place.Foreign...)
	if user != "" {
		p.Users = addNew(p.Users, user)
	}
}

func addNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

func sameDataset(a, b fs.Dataset) bool {
	if a.GUID != "" || b.GUID != "" {
		return a.Driver == b.Driver && a.GUID == b.GUID
	}
	return a.Driver == b.Driver && a.Name == b.Name
}
