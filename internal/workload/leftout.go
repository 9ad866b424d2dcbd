package workload

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"snapd/internal/advice"
)

// sizePatience is how long what is left out is measured, and asked for databases.
const sizePatience = 300 * time.Millisecond

// ErrLeftOut is wrapped when the database of a member is in nothing of the group.
var ErrLeftOut = errors.New("is in no mount of the group")

// leftOut names the volumes of running members that "volumes" leaves out and that
// are not empty, and refuses a member whose database is in none of its mounts that
// are in the group: its point would lack the very thing that it is for.
func (r *resolver) leftOut(ctx context.Context) error {
	var out []Use
	var folders []string
	for _, u := range r.group.LeftOut {
		c, member := r.group.Member(u.Container)
		m := u.Mount
		if member && c.Running && m.Writable && m.Kind == Volume && m.Source != "" && !network(m.FSType) && answers(r.names.own, m.Source) {
			out, folders = append(out, u), append(folders, m.Source)
		}
	}
	for n, held := range looks(ctx, len(folders), sizePatience, func(n int) (amount, error) { return measure(ctx, folders[n]) }) {
		c, _ := r.group.Member(out[n].Container)
		who := mountOfMember(out[n].Mount, c)
		switch place, err := r.locate(ctx, folders[n]); {
		case held != nil && held.files == 0 && !held.more:
		case err == nil && slices.ContainsFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, place.Dataset) }):
			r.note("%s is left out, and lies in %s %s, of which the snapshot has the whole", who, place.Dataset.Driver, place.Dataset.Name)
		case held == nil:
			r.warn(LeftOut+"%s, of which cannot be told how much it holds", who)
		default:
			r.warn(LeftOut+"%s, which holds %s", who, held)
		}
	}
	return r.databases(ctx)
}

// mountOfMember names a mount by where a member has it: a name that the engine made
// up tells no user anything.
func mountOfMember(m Mount, c Container) string {
	return fmt.Sprintf("volume at %s of container %s", m.Target, c.Name)
}

// databases looks where members whose image is known keep their data.
func (r *resolver) databases(ctx context.Context) error {
	var of []Container
	for _, c := range r.group.Members {
		if c.Running && c.Pid > 0 && c.DataDir != "" && !r.holds(c, c.DataDir) {
			of = append(of, c)
		}
	}
	var faults []error
	for n, empty := range looks(ctx, len(of), sizePatience, func(n int) (bool, error) { return isEmptyIn(of[n], of[n].DataDir) }) {
		c := of[n]
		where, do := whereIsDataDir(c, r.group.Name)
		switch {
		case empty == nil:
			r.warn("whether container %s has a database in %s, which is in no mount of the group, cannot be told", c.Name, c.DataDir)
		case *empty:
		case slices.ContainsFunc(r.group.Mounts, func(u Use) bool { return u.Container == c.ID }):
			faults = append(faults, advice.With(fmt.Errorf("the database of container %s, in %s, %w: it lies in %s", c.Name, c.DataDir, ErrLeftOut, where), "%s", do))
		default: // a user has left out all of the container
			r.warn(LeftOut+"the database of container %s, in %s: it lies in %s", c.Name, c.DataDir, where)
		}
	}
	return errors.Join(faults...)
}

// holds tells whether a folder of a container is in a mount of the group, or in
// memory, where a user wants it.
func (r *resolver) holds(c Container, folder string) bool {
	m, found := mountAbove(c, folder)
	return found && (m.Kind == Tmpfs || slices.ContainsFunc(r.group.Mounts, func(u Use) bool { return u.Container == c.ID && u.Mount.Target == m.Target }))
}

// mountAbove is the mount of a container that a folder lies in.
func mountAbove(c Container, folder string) (Mount, bool) {
	best := -1
	for i, m := range c.Mounts {
		if _, in := inside(filepath.Clean(m.Target), folder); in && (best < 0 || len(m.Target) > len(c.Mounts[best].Target)) {
			best = i
		}
	}
	if best < 0 {
		return Mount{}, false
	}
	return c.Mounts[best], true
}

func whereIsDataDir(c Container, group string) (where, do string) {
	m, found := mountAbove(c, c.DataDir)
	if !found {
		return "the container itself, and goes with it", fmt.Sprintf("give container %s a volume at %s, with what is there now", c.Name, c.DataDir)
	}
	return mountOfMember(m, c) + ", which is left out",
		fmt.Sprintf("add %s to the label snapd.volumes of the container, or to volumes of [group.%s], or mount the volume that is meant for it there", m.Target, group)
}

// dataDir is where the database of a well-known image keeps its data, "" for other
// images.
func dataDir(image string, env []string) string {
	for _, v := range env {
		if dir, ok := strings.CutPrefix(v, "PGDATA="); ok && path.IsAbs(dir) {
			return path.Clean(dir)
		}
	}
	name, _, _ := strings.Cut(path.Base(image), "@")
	name, _, _ = strings.Cut(name, ":")
	return map[string]string{
		"postgres": "/var/lib/postgresql/data", "mariadb": "/var/lib/mysql", "mysql": "/var/lib/mysql", "percona": "/var/lib/mysql",
		"redis": "/data", "valkey": "/data", "mongo": "/data/db",
	}[name]
}

// amount is what a folder holds.
type amount struct {
	files int   // no folders: a mount below makes one
	bytes int64 // on the disk
	more  bool  // than was counted
}

// maxMeasured is how many files and folders are looked at.
const maxMeasured = 20_000

// measure adds up a folder, as far as it goes.
func measure(ctx context.Context, folder string) (amount, error) {
	var a amount
	seen := 0
	began := time.Now()
	err := filepath.WalkDir(folder, func(name string, e iofs.DirEntry, err error) error {
		if name == folder || err != nil {
			return err
		}
		if seen == maxMeasured || ctx.Err() != nil || time.Since(began) > sizePatience/3 {
			a.more = true
			return filepath.SkipAll
		}
		seen++
		if e.IsDir() {
			return nil
		}
		a.files++
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				a.bytes += st.Blocks * 512
			}
		}
		return nil
	})
	if a.files > 0 {
		err = nil
	}
	return a, err
}

// String gives two digits: what says the same every hour need not be said twice.
func (a amount) String() string {
	text := "less than 100 kB"
	units := []string{"kB", "MB", "GB", "TB"}
	n := float64(a.bytes) / 1e3
	if n >= 100 {
		for len(units) > 1 && n >= 999.5 {
			n, units = n/1e3, units[1:]
		}
		step := math.Pow(10, math.Floor(math.Log10(n))-1)
		text = fmt.Sprintf("about %g %s", math.Round(n/step)*step, units[0])
	}
	if a.more {
		return "more than " + strings.TrimPrefix(strings.TrimPrefix(text, "about "), "less than ")
	}
	return text
}
