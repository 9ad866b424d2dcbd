package workload

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Reach finds who writes to the files of a group from outside of it: containers
// by their mounts, processes by their open files and by what they write. It says
// where these files are in a way that is the same in every mount namespace, so
// that it serves also for what is started after the group was looked up.
type Reach struct{ resolver }

// Writers are those of the containers that run, or ran when they were looked at,
// are not of the group and can write to its files. What cannot be found out is a
// warning.
func (r *Reach) Writers(ctx context.Context, all []Container) ([]Writer, []string, error) {
	again := r.resolver
	again.out = Resolved{Places: r.out.Places}
	again.tables = map[int]proc.Table{} // they may have more mounts by now
	err := again.writers(ctx, all)
	return again.out.Writers, again.out.Warnings, err
}

// writers finds running containers outside the group that have one of its
// datasets mounted for writing. What cannot be found out is a warning.
func (r *resolver) writers(ctx context.Context, all []Container) error {
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, member := r.group.Member(c.ID); member {
			continue
		}
		if c.Fault != nil {
			if c.Running {
				r.faulty(ctx, c)
			}
			continue
		}
		w := Writer{Container: c, Refuses: refuses(c)}
		switch {
		case c.seen != nil || c.Running && c.Pid > 0:
			r.byTable(ctx, &w)
		case c.passed:
			r.byDeclaration(ctx, &w)
		}
		if len(w.Datasets) > 0 {
			r.out.Writers = append(r.out.Writers, w)
		}
	}
	return nil
}

// refuses tells whether a container's labels say that it must not be frozen.
func refuses(c Container) bool {
	l, err := config.ParseLabels(c.Labels, c.ImageLabels)
	if err != nil {
		return false
	}
	return l.Enable != nil && !*l.Enable || l.Settings.Freeze == config.FreezeNone
}

// byTable adds to w what its container can write to. The mounts that it declares
// do not say that: with one of them come all that lie below it on the host, also
// those that are made while the container runs.
func (r *resolver) byTable(ctx context.Context, w *Writer) {
	c := w.Container
	t, err := r.table(c)
	// A container that ran meanwhile has written, also where the engine last said that
	// it runs and its process has ended since, or its number is another's by now.
	if c.passed && err != nil || gone(err) && !ended(err) { // ended but not waited for: others of it may be there yet
		r.byDeclaration(ctx, w)
		return
	}
	if ended(err) {
		return
	}
	if err != nil {
		r.warn("whether container %s writes to the group's datasets cannot be told: %v", c.Name, err)
		return
	}
	for _, m := range t {
		if m.ReadOnly || m.FilesystemReadOnly || !r.hasDevice(m.Device) {
			continue
		}
		if top, _ := t.At(m.Point); top.ID != m.ID || strings.HasSuffix(m.Root, "//deleted") {
			continue
		}
		// What the engine itself puts into every container: its root, and files
		// such as /etc/hosts from a folder of its own.
		beside := m.Point != "/" && !strings.Contains(m.Root, "/"+c.ID+"/")
		if err := r.reaches(ctx, w, spotOf(m), "", beside); err != nil {
			r.warn("whether the mount at %s of container %s reaches the group's datasets cannot be told: %v", m.Point, c.Name, err)
		}
	}
}

// byDeclaration does so for a container that has ended before its mounts could be
// seen, by the host's mounts at the places that it declares. No path is looked at:
// the places may be gone, or hang.
func (r *resolver) byDeclaration(ctx context.Context, w *Writer) {
	for _, m := range w.Container.Mounts {
		if !m.Writable || m.Kind == Tmpfs || network(m.FSType) || !filepath.IsAbs(m.Source) {
			continue
		}
		source := withoutLinks(r.names.host, filepath.Clean(m.Source))
		on, found := r.names.host.Above(source)
		if !found {
			continue
		}
		below, _ := proc.CutDir(source, on.Point)
		where := spotOf(on)
		where.root = filepath.Join(where.root, below)
		_ = r.reaches(ctx, w, where, "", false) // which dataset it lies in does not matter then
		for _, m := range r.names.host.Below(source) {
			if !m.ReadOnly {
				_ = r.reaches(ctx, w, spotOf(m), "", false)
			}
		}
	}
}

func (r *resolver) hasDevice(d proc.Device) bool {
	return slices.ContainsFunc(r.spots, func(s owned) bool { return s.dev == d })
}

// reaches adds to w the group's datasets that something reaches, at a path of the
// host that is looked up when it is "". beside: also those in which it reaches
// other files only.
func (r *resolver) reaches(ctx context.Context, w *Writer, where spot, path string, beside bool) error {
	if !r.hasDevice(where.dev) {
		return nil
	}
	at := r.locateSpot(ctx, where, path)
	found := false
	for _, s := range r.spots {
		_, above := inside(where.root, s.root)
		_, below := inside(s.root, where.root)
		// Below a directory of the group another dataset can lie.
		if s.dev != where.dev || !above && (!below || at.err == nil && !sameDataset(at.dataset, s.dataset)) {
			continue
		}
		w.Overlaps, found = true, true
		w.add(s.dataset, at.path)
	}
	if found || !beside {
		return nil
	}
	if at.err == nil && slices.ContainsFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, at.dataset) }) {
		w.add(at.dataset, at.path)
	}
	if errors.Is(at.err, fs.ErrNotMine) {
		return nil
	}
	return at.err
}

func (w *Writer) add(d fs.Dataset, path string) {
	if path != "" {
		w.Paths = addNew(w.Paths, path)
	}
	if !slices.ContainsFunc(w.Datasets, func(o fs.Dataset) bool { return sameDataset(o, d) }) {
		w.Datasets = append(w.Datasets, d)
	}
}

// location is the dataset at a spot, and a path of the host that leads there.
type location struct {
	dataset fs.Dataset
	path    string
	err     error
}

// locateSpot finds the dataset at a spot. Many containers have the same mount.
func (r *resolver) locateSpot(ctx context.Context, where spot, path string) location {
	if l, ok := r.located[where]; ok {
		return l
	}
	var l location
	if l.path = path; path == "" {
		l.path, l.err = r.names.path(ctx, where, "")
	}
	if l.err == nil {
		var place fs.Place
		place, l.err = r.locate(ctx, l.path)
		l.dataset = place.Dataset
	}
	r.located[where] = l
	return l
}

// ended tells from the error of looking at a process that it is not there.
func ended(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// withoutLinks follows the symbolic links of a path, as far as its directories
// are there and lie on filesystems of this host: on others a look can hang.
func withoutLinks(host proc.Table, path string) string {
	const most = 40 // links, as the kernel has it
	done, left := "/", strings.TrimPrefix(path, "/")
	for links := 0; left != ""; {
		name, rest, _ := strings.Cut(left, "/")
		next := filepath.Join(done, name)
		on, _ := host.Above(next)
		if network(on.Type) || strings.HasPrefix(on.Type, "fuse") || links > most {
			return filepath.Join(done, left)
		}
		to, err := os.Readlink(next)
		if err != nil { // no link
			done, left = next, rest
			continue
		}
		links++
		if filepath.IsAbs(to) {
			done = "/"
		}
		left = strings.TrimPrefix(filepath.Join(to, rest), "/")
	}
	return done
}
