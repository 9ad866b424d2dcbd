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
}

// Resolved says where everything of a group lies.
type Resolved struct {
	Places   []ResolvedPlace // one for each dataset, by driver and name
	Items    []Item          // the mounts and paths of the group, in its own order
	Writers  []Writer        // running containers outside the group that write to these datasets
	Warnings []string        // what a point of this group does not cover, and why
	Notes    []string        // what users should know of paths, such as what is left out because it need not be covered
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
	n, err := readNamespaces()
	if err != nil {
		return Resolved{}, err
	}
	r := resolver{group: g, drivers: drivers, names: n, tables: map[int]proc.Table{}}
	for _, u := range g.Mounts {
		c, ok := g.Member(u.Container)
		if !ok {
			continue
		}
		r.item = itemOf(c, u.Mount)
		if err := r.mount(ctx, c, u.Mount); err != nil {
			return Resolved{}, err
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
	r.nestedDatasets(ctx)
	if err := r.leftOut(ctx); err != nil {
		return Resolved{}, err
	}
	if err := r.writers(ctx, h.Containers); err != nil {
		return Resolved{}, err
	}
	slices.SortFunc(r.out.Places, func(a, b ResolvedPlace) int {
		return cmp.Or(cmp.Compare(a.Dataset.Driver, b.Dataset.Driver), cmp.Compare(a.Dataset.Name, b.Dataset.Name))
	})
	return r.out, nil
}

// resolver is the state of one call of Resolve.
type resolver struct {
	group   Group
	drivers []fs.Driver
	names   namespaces
	tables  map[int]proc.Table // of containers, by process
	spots   []owned            // of everything that belongs to the group
	item    *Item              // that is being looked at
	out     Resolved
}

// owned is a spot of the group and the dataset it is in.
type owned struct {
	spot
	dataset fs.Dataset
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

// table of a container's process, checked to be still the container's.
func (r *resolver) table(c Container) (proc.Table, error) {
	if t, ok := r.tables[c.Pid]; ok {
		return t, nil
	}
	t, err := proc.Of(c.Pid)
	if err != nil {
		return nil, fmt.Errorf("read the mounts of container %s: %w", c.Name, err)
	}
	if err := c.locate(""); err != nil { // the pid may be another's by now
		return nil, err
	}
	r.tables[c.Pid] = t
	return t, nil
}

// mount finds where one mount of one member lies and adds it.
func (r *resolver) mount(ctx context.Context, c Container, m Mount) error {
	who := fmt.Sprintf("%s of container %s", m, c.Name)
	switch {
	case m.Kind == Tmpfs:
		r.note("%s is memory and not kept", who)
		return nil
	case !m.Writable:
		r.note("%s is read-only there", who)
		return nil
	case network(m.FSType):
		return r.refuse(who, m.FSType)
	case m.Kind != Volume && m.Kind != Bind:
		return advice.With(fmt.Errorf("%s: snapd does not know how to find mounts of this kind", who), "%s", r.leaveOut(who))
	}
	if !c.Running || c.Pid <= 0 {
		if m.FSType != "" {
			return advice.With(fmt.Errorf("%s: it is mounted only while a container uses it", who), "start the container, or %s", r.leaveOut(who))
		}
		return r.hostPath(ctx, who, m.Source, c.Name)
	}
	t, err := r.table(c)
	if err != nil {
		return err
	}
	target := filepath.Clean(m.Target)
	entry, found := t.At(target)
	if !found {
		// Docker follows symbolic links of the image, such as /var/run.
		if entry, found = r.bySource(t, m.Source); !found {
			return advice.With(fmt.Errorf("%s: the container's process does not have it mounted at %s; a runtime that hides its mounts (gVisor, Kata) is not supported", who, target), "%s", r.leaveOut(who))
		}
		target = entry.Point
	}
	if kernelMade(entry.Type) {
		r.note("%s belongs to the kernel (%s)", who, entry.Type)
		return nil
	}
	path, err := r.names.path(spotOf(entry), m.Source)
	if err != nil {
		if reason(entry.Type) != "" {
			return r.refuse(who, entry.Type)
		}
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := r.add(ctx, who, path, c.Name); err != nil {
		return err
	}
	r.nestedMounts(ctx, t, target, who, c.Name, func(mountpoint string) bool {
		return slices.ContainsFunc(c.Mounts, func(o Mount) bool { return filepath.Clean(o.Target) == mountpoint })
	})
	return nil
}

// bySource finds the mount of a container that is of the host's path source.
func (r *resolver) bySource(t proc.Table, source string) (proc.Mount, bool) {
	real, err := filepath.EvalSymlinks(source)
	if err != nil {
		return proc.Mount{}, false
	}
	want, _, _, err := r.names.look(real)
	if err != nil {
		return proc.Mount{}, false
	}
	for _, v := range slices.Backward(t) {
		if spotOf(v) == want {
			return v, true
		}
	}
	return proc.Mount{}, false
}

func (r *resolver) plainPath(ctx context.Context, path string) error {
	return r.hostPath(ctx, pathOfGroup+path, path, "")
}

// hostPath adds a path of the host and what is mounted below it.
func (r *resolver) hostPath(ctx context.Context, who, path, user string) error {
	if path == "" {
		return advice.With(fmt.Errorf("%s: the engine does not say where it lies on this host", who), "%s", r.leaveOut(who))
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if user == "" {
			return advice.With(fmt.Errorf("%s does not exist", who), "make it, mount what it lies on (a pool of ZFS may only want zpool import), or %s", r.leaveOut(who))
		}
		return advice.With(fmt.Errorf("%s: %s does not exist", who, path), "make it, mount what it lies on, or %s", r.leaveOut(who))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if err := r.add(ctx, who, real, user); err != nil {
		return err
	}
	r.nestedMounts(ctx, r.names.host, real, who, user, func(string) bool { return false })
	return nil
}

// add finds the dataset of a path without symbolic links.
func (r *resolver) add(ctx context.Context, who, path, user string) error {
	where, m, mode, err := r.names.look(path)
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	if mode == unix.S_IFBLK && strings.HasPrefix(who, pathOfGroup) {
		return r.device(ctx, who, path, m)
	}
	if mode != unix.S_IFDIR && mode != unix.S_IFREG {
		r.note("%s is a socket, a device or a pipe", who)
		return nil
	}
	if kernelMade(m.Type) {
		r.note("%s belongs to the kernel (%s)", who, m.Type)
		return nil
	}
	place, err := r.locate(ctx, path)
	if errors.Is(err, fs.ErrNotMine) {
		return r.refuse(who, m.Type)
	}
	if err != nil {
		return fmt.Errorf("%s: find the dataset of %s: %w", who, path, err)
	}
	if place.Path != "." && place.Path != "" {
		r.note("%s is only a part of %s %s, and the snapshot has the whole of it", who, place.Dataset.Driver, place.Dataset.Name)
	}
	r.keep(place, path, user)
	r.lies(place, path)
	r.spots = append(r.spots, owned{where, place.Dataset})
	return nil
}

// device adds a block device that the configuration names by its node, such as
// the disk of a virtual machine. It must lie where the kernel makes nodes: of
// one elsewhere a driver could take the filesystem that the node lies on.
func (r *resolver) device(ctx context.Context, who, path string, m proc.Mount) error {
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

// locate asks every driver whether the path is on its storage.
func (r *resolver) locate(ctx context.Context, path string) (fs.Place, error) {
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
