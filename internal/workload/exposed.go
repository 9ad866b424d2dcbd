package workload

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/proc"
)

// SeesSnapshots ends the warning about a container that sees our snapshots.
const SeesSnapshots = ", where chown -R fails on the snapshots, and has snapd refuse to take more"

// exposed warns of containers that have the top of a Btrfs filesystem of the
// group mounted for writing: whatever lies on that filesystem is seen from there,
// our snapshots too. ZFS shows its snapshots in no listing, and those of LVM lie
// in no filesystem. No path is looked at.
func (r *resolver) exposed(ctx context.Context, all []Container) {
	for _, c := range all {
		if ctx.Err() != nil {
			return
		}
		_, member := r.group.Member(c.ID)
		var seen []string
		switch {
		case c.Running && c.Pid > 0 && c.Fault == nil:
			t, err := r.table(c)
			if err != nil {
				continue // what that means for the group is said elsewhere
			}
			seen = r.topsIn(t)
		case member: // an entrypoint fails at its next start
			seen = r.topsOf(c)
		}
		for _, target := range seen {
			r.warn("container %s has the top of a Btrfs filesystem mounted at %s, and sees %s"+SeesSnapshots, c.Name, target, filepath.Join(target, fs.BtrfsDir))
		}
	}
}

// topsIn are the places of a mount table from which our snapshots are seen.
func (r *resolver) topsIn(t proc.Table) []string {
	var out []string
	for _, m := range t {
		if m.Root != "/" || m.Point == "/" || m.ReadOnly || m.FilesystemReadOnly || !r.keepsSnapshots(m.Device) {
			continue
		}
		if on, _ := t.At(m.Point); on.ID != m.ID {
			continue // under another mount
		}
		if _, hidden := t.At(filepath.Join(m.Point, fs.BtrfsDir)); !hidden {
			out = addNew(out, m.Point)
		}
	}
	return out
}

// topsOf are those of what a container that does not run declares.
func (r *resolver) topsOf(c Container) []string {
	var out []string
	for _, m := range c.Mounts {
		if !m.Writable || m.Kind == Tmpfs || network(m.FSType) || !filepath.IsAbs(m.Source) {
			continue
		}
		source := withoutLinks(r.names.host, filepath.Clean(m.Source))
		hidden := func(at string) bool {
			return slices.ContainsFunc(c.Mounts, func(o Mount) bool { return filepath.Clean(o.Target) == filepath.Join(at, fs.BtrfsDir) })
		}
		for _, on := range append(r.names.host.Below(source), at(r.names.host, source)...) {
			rest, _ := proc.CutDir(on.Point, source)
			target := filepath.Join(m.Target, rest)
			if on.Root == "/" && !on.ReadOnly && r.keepsSnapshots(on.Device) && !hidden(target) {
				out = addNew(out, target)
			}
		}
	}
	return out
}

// at is the mount at a path itself.
func at(t proc.Table, path string) []proc.Mount {
	if m, found := t.At(path); found {
		return []proc.Mount{m}
	}
	return nil
}

// keepsSnapshots tells whether a dataset of the group lies on that Btrfs
// filesystem.
func (r *resolver) keepsSnapshots(d proc.Device) bool {
	return slices.ContainsFunc(r.spots, func(s owned) bool { return s.dev == d && s.dataset.Driver == fs.Btrfs })
}

// SnapshotsSeen tells whether a warning is that of exposed, and where they are seen.
func SnapshotsSeen(warning string) (where string, yes bool) {
	text, yes := strings.CutSuffix(warning, SeesSnapshots)
	if i := strings.LastIndex(text, ", and sees "); yes && i >= 0 {
		return text[i+len(", and sees "):], true
	}
	return "", false
}
