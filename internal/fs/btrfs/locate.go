package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Locate implements fs.Driver.
func (d *Driver) Locate(ctx context.Context, hostPath string) (fs.Place, error) {
	if err := ctx.Err(); err != nil {
		return fs.Place{}, err
	}
	if !path.IsAbs(hostPath) {
		return fs.Place{}, fmt.Errorf("locate %q: the path must be absolute", hostPath)
	}
	hostPath = path.Clean(hostPath)
	f, base, err := openForLookup(hostPath)
	if err != nil {
		return fs.Place{}, fmt.Errorf("locate %s: %w", hostPath, err)
	}
	defer func() { _ = f.Close() }()
	place, err := locate(f, base, hostPath)
	if err != nil {
		return fs.Place{}, fmt.Errorf("locate %s: %w", hostPath, err)
	}
	return place, nil
}

// openForLookup opens a directory to ask the kernel about: the path itself, or
// for anything else the directory that it is in, and then base is its name in
// there. A file that is a mount of its own is opened itself.
func openForLookup(hostPath string) (f *os.File, base string, err error) {
	var at, in unix.Stat_t
	if err := unix.Lstat(hostPath, &at); err != nil {
		if errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w: %w", fs.ErrNotFound, err)
		}
		return nil, "", err
	}
	flags := unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	open, base := hostPath, ""
	if at.Mode&unix.S_IFMT != unix.S_IFDIR {
		dir := path.Dir(hostPath)
		if err := unix.Lstat(dir, &in); err != nil {
			return nil, "", &os.PathError{Op: "lstat", Path: dir, Err: err}
		}
		switch {
		case in.Dev == at.Dev:
			open, base = dir, path.Base(hostPath)
		case at.Mode&unix.S_IFMT != unix.S_IFREG:
			return nil, "", advice.With(fmt.Errorf("%w: a special file that is mounted by itself", fs.ErrNotMine), "name the directory it comes from")
		}
	}
	fd, err := unix.Open(open, flags, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: open, Err: err}
	}
	f = os.NewFile(uintptr(fd), open)
	if err := checkBtrfs(f); err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, base, nil
}

// checkBtrfs gives fs.ErrNotMine for anything that lies elsewhere.
func checkBtrfs(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	if st.Type != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("%s lies on %s, not on Btrfs: %w", f.Name(), kindOf(st.Type), fs.ErrNotMine)
	}
	return nil
}

// kindOf names the filesystems that users most often have by mistake.
func kindOf(magic int64) string {
	switch magic {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.NFS_SUPER_MAGIC:
		return "nfs"
	case 0x2fc12fc1:
		return "zfs"
	}
	return fmt.Sprintf("a filesystem of type %#x", magic)
}

func locate(f *os.File, base, hostPath string) (fs.Place, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fs.Place{}, os.NewSyscallError("fstat", err)
	}
	id, inside, err := inoLookup(f, 0, st.Ino)
	if err != nil {
		return fs.Place{}, explain(err)
	}
	mounts, err := hostMounts()
	if err != nil {
		return fs.Place{}, err
	}
	m, err := mounts.of(f)
	if err != nil {
		return fs.Place{}, err
	}
	dataset, err := describe(f, id)
	if err != nil {
		return fs.Place{}, err
	}
	dataset.Name = mounts.hostPath(m, fromTop(f.Name(), m, inside), st.Dev)
	var below nested
	if err := below.look(f, id, path.Join(inside, base), hostPath); err != nil {
		return fs.Place{}, err
	}
	slices.Sort(below.own)
	slices.Sort(below.foreign)
	where := path.Join(inside, base)
	if where == "" {
		where = "."
	}
	return fs.Place{Dataset: dataset, Path: where, Nested: below.own, Foreign: below.foreign}, nil
}

// describe makes a dataset, without its name, of the subvolume of f.
func describe(f *os.File, id uint64) (fs.Dataset, error) {
	fsid, _, err := filesystemInfo(f)
	if err != nil {
		return fs.Dataset{}, err
	}
	info, err := subvolInfo(f)
	if err != nil {
		return fs.Dataset{}, err
	}
	guid := info.uuid
	if guid.IsZero() {
		guid = fsid // the top of a filesystem made before btrfs-progs 4.16 has none
	}
	return fs.Dataset{Driver: fs.Btrfs, GUID: guid.String(), Domain: identity{fsid, id}.String()}, nil
}

// nested are the host paths of subvolumes below a path.
type nested struct {
	own     []string
	foreign []string // read-only snapshots that other programs keep
}

// look adds all subvolumes below hostPath, which is inside (a path below the
// root) subvolume id. Ours are left out.
func (n *nested) look(f *os.File, id uint64, inside, hostPath string) error {
	children, err := innerSubvolumes(f, id)
	if err != nil {
		return explain(err)
	}
	for _, c := range children {
		if _, ours := proc.CutDir(c.path, fs.BtrfsDir); ours && id == topLevelID {
			continue
		}
		rest, below := c.path, true
		if inside != "" {
			rest, below = proc.CutDir(c.path, inside)
		}
		if !below || rest == "" {
			continue
		}
		at := path.Join(hostPath, rest)
		foreign, err := isReadOnlySnapshot(f, c.id)
		if err != nil {
			return explain(err)
		}
		if foreign {
			n.foreign = append(n.foreign, at)
		} else {
			n.own = append(n.own, at)
		}
		if err := n.look(f, c.id, "", at); err != nil {
			return err
		}
	}
	return nil
}
