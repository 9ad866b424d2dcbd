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
	mounts, err := hostMounts()
	if err != nil {
		return fs.Place{}, err
	}
	m, found := mounts.of(hostPath, st.Mnt_id)
	if !found {
		return fs.Place{}, fmt.Errorf("find the mount: %w", fs.ErrNotFound)
	}
	name, err := m.dataset()
	if err != nil {
		return fs.Place{}, err
	}
	dataset, err := describe(ctx, name)
	if err != nil {
		return fs.Place{}, err
	}
	below, _ := cutDir(hostPath, m.point)
	inside := path.Join(strings.TrimPrefix(m.root, "/"), below)
	if inside == "" {
		inside = "."
	}
	place := fs.Place{Dataset: dataset, Path: inside}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		place.Nested = mounts.nested(m, hostPath)
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

// dataset is the name of what is mounted: a filesystem of ZFS, or the volume
// on which another filesystem lies.
func (m mount) dataset() (string, error) {
	if m.kind != "zfs" {
		if m.major == 0 { // a filesystem without a device
			return "", fmt.Errorf("it lies on %s: %w", m.kind, fs.ErrNotMine)
		}
		name, err := volumeOf(m.major, m.minor)
		if err != nil {
			return "", fmt.Errorf("it lies on %s on %s: %w", m.kind, m.source, err)
		}
		return name, nil
	}
	if strings.Contains(m.source, "@") {
		return "", advice.With(fmt.Errorf("it lies in the snapshot %s, and of a snapshot there is none", m.source), "name the dataset's own path")
	}
	return m.source, nil
}

// nested lists the filesystems of ZFS that are mounted below a path.
func (t mountTable) nested(at mount, hostPath string) []string {
	var out []string
	for _, m := range t {
		rest, below := cutDir(m.point, hostPath)
		if below && rest != "" && m.kind == "zfs" && !strings.Contains(m.source, "@") && m.source != at.source {
			out = append(out, m.point)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
