package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Locate implements fs.Driver. A path on another filesystem that lies on a
// volume of ZFS belongs to that volume.
func (d *Driver) Locate(ctx context.Context, hostPath string) (fs.Place, error) {
	if err := ctx.Err(); err != nil {
		return fs.Place{}, err
	}
	if !path.IsAbs(hostPath) {
		return fs.Place{}, fmt.Errorf("locate %q: the path must be absolute", hostPath)
	}
	place, err := locate(ctx, path.Clean(hostPath))
	if err != nil {
		return fs.Place{}, fmt.Errorf("locate %s: %w", hostPath, err)
	}
	return place, nil
}

func locate(ctx context.Context, hostPath string) (fs.Place, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, hostPath, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	if errors.Is(err, unix.ENOENT) {
		return fs.Place{}, fmt.Errorf("%w: %w", fs.ErrNotFound, err)
	}
	if err != nil {
		return fs.Place{}, &os.PathError{Op: "stat", Path: hostPath, Err: err}
	}
	if !present() {
		return fs.Place{}, fmt.Errorf("this host has no ZFS: %w", fs.ErrNotMine)
	}
	mounts, err := proc.Host()
	if err != nil {
		return fs.Place{}, err
	}
	m, found := mounts.Through(hostPath, st)
	if !found {
		return fs.Place{}, fmt.Errorf("find the mount: %w", fs.ErrNotFound)
	}
	name, err := datasetAt(m)
	if err != nil {
		return fs.Place{}, err
	}
	dataset, err := describe(ctx, name)
	if err != nil {
		return fs.Place{}, err
	}
	below, _ := proc.CutDir(hostPath, m.Point)
	inside := path.Join(strings.TrimPrefix(m.Root, "/"), below)
	if inside == "" {
		inside = "."
	}
	place := fs.Place{Dataset: dataset, Path: inside}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		place.Nested = nested(mounts, m, hostPath)
	}
	return place, nil
}

// describe makes a dataset of what is called name.
func describe(ctx context.Context, name string) (fs.Dataset, error) {
	found, err := objects(ctx, name)
	if err != nil {
		return fs.Dataset{}, err
	}
	if len(found) != 1 {
		return fs.Dataset{}, fmt.Errorf("dataset %s: %w", name, fs.ErrNotFound)
	}
	where, err := domain(ctx, poolOf(name))
	if err != nil {
		return fs.Dataset{}, err
	}
	return fs.Dataset{Driver: fs.ZFS, Name: name, GUID: guidText(found[0].guid), Domain: where}, nil
}

// datasetAt is the name of what is mounted: a filesystem of ZFS, or the volume
// on which another filesystem lies.
func datasetAt(m proc.Mount) (string, error) {
	if m.Type != "zfs" {
		if m.Device.Major == 0 { // a filesystem without a device
			return "", fmt.Errorf("it lies on %s: %w", m.Type, fs.ErrNotMine)
		}
		name, err := volumeOf(m.Device)
		if err != nil {
			return "", fmt.Errorf("it lies on %s on %s: %w", m.Type, m.Source, err)
		}
		return name, nil
	}
	if strings.Contains(m.Source, "@") {
		return "", advice.With(fmt.Errorf("it lies in the snapshot %s, and of a snapshot there is none", m.Source), "name the dataset's own path")
	}
	return m.Source, nil
}

// nested lists the filesystems of ZFS that are mounted below a path.
func nested(mounts proc.Table, at proc.Mount, hostPath string) []string {
	var out []string
	for _, m := range mounts {
		rest, below := proc.CutDir(m.Point, hostPath)
		if below && rest != "" && m.Type == "zfs" && !strings.Contains(m.Source, "@") && m.Source != at.Source {
			out = append(out, m.Point)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
