package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"
)

// devStats are what the kernel counts of a device and keeps on it, also over a
// boot, until it is told to begin anew. The order is the kernel's.
type devStats struct{ write, read, flush, corruption, generation uint64 }

// member is one device of a filesystem.
type member struct {
	id      uint64
	path    string // "" of one that is missing
	missing bool
	stats   devStats
}

// Health implements fs.HealthTeller: from what the kernel keeps in memory of a
// filesystem that is mounted.
func (d *Driver) Health(ctx context.Context, datasets []fs.Dataset) ([]fs.Finding, error) {
	names := map[btrfsstream.UUID][]string{}
	var order []btrfsstream.UUID
	for _, dataset := range datasets {
		id, err := parseIdentity(dataset.Domain)
		if err != nil {
			continue // of a point of another storage, or of before domains were kept
		}
		if names[id.fsid] == nil {
			order = append(order, id.fsid)
		}
		if !slices.Contains(names[id.fsid], dataset.Name) {
			names[id.fsid] = append(names[id.fsid], dataset.Name)
		}
	}
	var found []fs.Finding
	var failed error
	for _, fsid := range order {
		if err := ctx.Err(); err != nil {
			return found, errors.Join(failed, err)
		}
		here, err := healthOf(fsid)
		if errors.Is(err, fs.ErrNotFound) {
			continue // not mounted
		}
		for _, f := range here {
			f.Datasets = names[fsid]
			found = append(found, f)
		}
		failed = errors.Join(failed, err)
	}
	return found, failed
}

func healthOf(fsid btrfsstream.UUID) (found []fs.Finding, err error) {
	f, err := openFilesystem(fsid)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	readOnly, err := isReadOnly(f)
	if err != nil {
		return nil, err
	}
	all, err := members(f, fsid)
	if err != nil {
		return nil, err
	}
	return tell(f.Name(), readOnly, all), nil
}

// members are the devices of the filesystem of f, those that are missing too.
func members(f *os.File, fsid btrfsstream.UUID) ([]member, error) {
	_, maxID, err := filesystemInfo(f)
	if err != nil {
		return nil, err
	}
	var out []member
	for id := uint64(1); id <= maxID; id++ {
		info := devInfoArgs{devID: id}
		if err := info.ask(f); err != nil {
			continue // ids have gaps where devices were removed
		}
		m := member{id: id, path: cString(info.path[:])}
		// The path of a device that was known before it went missing stays.
		said, err := os.ReadFile(fmt.Sprintf("/sys/fs/btrfs/%s/devinfo/%d/missing", fsid, id))
		m.missing = m.path == "" || err == nil && strings.TrimSpace(string(said)) == "1"
		stats := devStatsArgs{devID: id, items: devStatsItems}
		if err := stats.ask(f); err == nil {
			m.stats = stats.values
		} else if !m.missing {
			return nil, fmt.Errorf("read what is counted of device %s of the filesystem at %s: %w", m.path, f.Name(), err)
		}
		out = append(out, m)
	}
	return out, nil
}

// tell says what is wrong with the filesystem that is mounted at a path.
func tell(at string, readOnly bool, all []member) []fs.Finding {
	var found []fs.Finding
	on := "Btrfs at " + at
	if readOnly {
		found = append(found, fs.Finding{
			On: on, Grave: true, What: "the filesystem is read-only, so that no application can write there and no restore point be taken",
			Do: "see why in the kernel's log (journalctl -k): the kernel makes a filesystem read-only that it finds damaged",
		})
	}
	missing := 0
	for _, m := range all {
		if m.missing {
			missing++
		}
	}
	if missing > 0 {
		found = append(found, fs.Finding{
			On: on, Grave: true, What: fmt.Sprintf("%d of its %d devices is missing", missing, len(all)),
			Do: "see which with: btrfs filesystem show " + at + "; bring it back or replace it (btrfs replace), before another one fails",
		})
		if missing > 1 {
			found[len(found)-1].What = fmt.Sprintf("%d of its %d devices are missing", missing, len(all))
		}
	}
	for _, m := range all {
		if text := m.stats.String(); text != "" && !m.missing {
			found = append(found, fs.Finding{
				On: on, What: fmt.Sprintf("device %s had %s since its counts were last reset", m.path, text),
				Do: "find the files that are damaged with: btrfs scrub start -B " + at + ", which names them in the kernel's log; replace a device that goes on failing; btrfs device stats -z " + at + " begins to count anew",
			})
		}
	}
	return found
}

// String is for people, "" when there were no errors.
func (s devStats) String() string {
	var parts []string
	for _, c := range []struct {
		n    uint64
		what string
	}{
		{s.corruption, "of checksums"},
		{s.generation, "of generations"},
		{s.read, "of reading"},
		{s.write, "of writing"},
		{s.flush, "of flushing"},
	} {
		if c.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "errors: " + strings.Join(parts, ", ")
}
