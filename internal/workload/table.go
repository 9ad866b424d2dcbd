package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// inside returns path relative to dir when it is dir or lies below.
func inside(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && filepath.IsLocal(rel)
}

// spot is where something lies, said in a way that is the same in every mount
// namespace: a filesystem and a path in it.
type spot struct {
	dev  proc.Device // of the filesystem
	root string      // path from the filesystem's own root
}

func spotOf(m proc.Mount) spot {
	return spot{dev: m.Device, root: m.Root}
}

// namespaces are the mount tables of the host and of this process, which are
// the same unless a service manager has given this process its own.
type namespaces struct {
	host, own proc.Table
	looks     *Looks
}

func readNamespaces(looks *Looks) (namespaces, error) {
	if looks == nil {
		looks = NewLooks()
	}
	host, err := proc.Of(1)
	if err != nil {
		return namespaces{}, fmt.Errorf("read the host's mount table: %w", err)
	}
	own, err := proc.Own()
	if err != nil {
		return namespaces{}, fmt.Errorf("read our own mount table: %w", err)
	}
	return namespaces{host: host, own: own, looks: looks}, nil
}

// thing is what a look at a path finds.
type thing struct {
	spot
	mount proc.Mount
	mode  uint32 // its type, as in S_IFMT
	// inodes is the device that stat says of it: Btrfs has one for each subvolume.
	inodes proc.Device
}

// look says where a path of this process lies, and what it is. The path must
// be free of symbolic links; one that has some, or gets some meanwhile, is an
// error.
func (n namespaces) look(ctx context.Context, path string) (thing, error) {
	m, err := n.near(path)
	if err != nil {
		return thing{}, err
	}
	return look(ctx, n.looks, n.looks.limitOf(), m.Device, path, func() (thing, error) { return n.lookNow(path) })
}

func (n namespaces) lookNow(path string) (thing, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return thing{}, &os.PathError{Op: "look at", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // only a handle
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_MNT_ID, &st); err != nil {
		return thing{}, &os.PathError{Op: "look at", Path: path, Err: err}
	}
	m, found := n.own.ByID(st.Mnt_id)
	if !found {
		return thing{}, advice.With(fmt.Errorf("%s lies on a mount that is not in the mount table: mounts are being changed", path), "run the same command again")
	}
	rel, ok := inside(m.Point, path)
	if !ok {
		return thing{}, fmt.Errorf("%s does not lie below the mount it is on, %s", path, m.Point)
	}
	where := spotOf(m)
	where.root = filepath.Join(where.root, rel)
	return thing{where, m, uint32(st.Mode) & unix.S_IFMT, proc.DeviceOf(unix.Mkdev(st.Dev_major, st.Dev_minor))}, nil
}

// errHidden means that no path of the host leads to a mount of a container.
var errHidden = errors.New("no path of this host leads there")

// leads is a path without its symbolic links if it leads to a spot, else "". The
// error is of a look that hangs.
func (n namespaces) leads(ctx context.Context, path string, want spot) (string, error) {
	real, err := n.real(ctx, path)
	if err == nil {
		var got thing
		if got, err = n.look(ctx, real); err == nil && got.spot == want {
			return real, nil
		}
	}
	if errors.Is(err, errHangs) || ctx.Err() != nil {
		return "", err
	}
	return "", nil
}

// path finds the host's path to a spot, and checks that it leads there. Of
// several, prefer wins if it is one, otherwise the mount nearest to the
// filesystem's own root.
func (n namespaces) path(ctx context.Context, want spot, prefer string) (string, error) {
	if strings.HasSuffix(want.root, deleted) {
		return "", advice.With(fmt.Errorf("%w: the directory was removed after the container was started", errHidden), "start the container anew")
	}
	if prefer != "" {
		if real, err := n.leads(ctx, prefer, want); real != "" || err != nil {
			return real, err
		}
	}
	best, shortest := "", -1
	for _, m := range n.host {
		from := spotOf(m)
		rel, ok := inside(from.root, want.root)
		if from.dev != want.dev || !ok || shortest >= 0 && len(from.root) >= shortest {
			continue
		}
		candidate := filepath.Join(m.Point, rel)
		got, err := n.look(ctx, candidate)
		if errors.Is(err, errHangs) || ctx.Err() != nil {
			return "", err
		}
		if err == nil && got.spot == want {
			best, shortest = candidate, len(from.root)
		}
	}
	if best == "" {
		return "", advice.With(fmt.Errorf("%w (%s in the filesystem %s)", errHidden, want.root, want.dev), "mount that filesystem on the host")
	}
	return best, nil
}

// MountPoints are where on this host the filesystems are mounted that these
// paths lie on. Of one that is not there it is where it would lie.
func MountPoints(ctx context.Context, paths []string) ([]string, error) {
	n, err := readNamespaces(nil)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, path := range paths {
		if real, err := n.real(ctx, path); err == nil {
			path = real
		}
		if !filepath.IsAbs(path) {
			continue
		}
		for dir := filepath.Clean(path); ; dir = filepath.Dir(dir) {
			if dir == "/" || mountedAt(n.host, dir) {
				out = append(out, dir)
				break
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func mountedAt(t proc.Table, dir string) bool {
	_, yes := t.At(dir)
	return yes
}

// table of a container's process, checked to be still the container's.
func (r *resolver) table(c Container) (proc.Table, error) {
	if c.seen != nil {
		return c.seen, nil
	}
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
