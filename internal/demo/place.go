package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"snapd/internal/run"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// place is a directory of its own with a Btrfs on a loop file in it.
type place struct {
	dir  string
	lock *os.File // held while the demo lives; a place whose lock is free was left by a killed demo
}

const placePattern = "snapd-demo-"

func newPlace(ctx context.Context) (*place, error) {
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", placePattern)
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir}
	if p.lock, err = os.Create(p.path("lock")); err != nil {
		return nil, errors.Join(err, p.remove(ctx))
	}
	if err := unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, p.remove(ctx))
	}
	for _, name := range []string{"repository", "state", "run"} {
		if err := os.Mkdir(p.path(name), 0o700); err != nil {
			return nil, errors.Join(err, p.remove(ctx))
		}
	}
	return p, nil
}

func (p *place) path(name ...string) string {
	return filepath.Join(append([]string{p.dir}, name...)...)
}

// filesystem makes and mounts a Btrfs of 2 GiB on a sparse file. The loop
// device goes with the mount.
func (p *place) filesystem(ctx context.Context, name string) (string, error) {
	image, mount := p.path(name+".img"), p.path(name)
	if err := os.Mkdir(mount, 0o755); err != nil {
		return "", err
	}
	f, err := os.Create(image)
	if err != nil {
		return "", err
	}
	if err := errors.Join(f.Truncate(2<<30), f.Close()); err != nil {
		return "", err
	}
	if _, err := run.Output(ctx, "mkfs.btrfs", "--quiet", image); err != nil {
		return "", err
	}
	if _, err := run.Output(ctx, "mount", "-o", "loop", image, mount); err != nil {
		return "", err
	}
	return mount, nil
}

// destroy takes a filesystem away, with everything on it.
func (p *place) destroy(name string) error {
	return errors.Join(unix.Unmount(p.path(name), 0), os.Remove(p.path(name)), os.Remove(p.path(name+".img")))
}

// remove takes everything away. It works on when the demo was interrupted.
// While something could not be taken away the lock stays, so that the next
// demo tries again.
func (p *place) remove(context.Context) error {
	var faults []error
	images, err := filepath.Glob(p.path("*.img"))
	faults = append(faults, err)
	for _, image := range images {
		mount := image[:len(image)-len(".img")]
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			faults = append(faults, fmt.Errorf("unmount %s: %w", mount, err))
		}
	}
	if p.lock != nil {
		defer p.lock.Close() //nolint:errcheck // nothing was written
	}
	if err := errors.Join(faults...); err != nil {
		return err // removing below a mount would remove what is mounted there
	}
	return os.RemoveAll(p.dir)
}

// sweep removes what killed demos left: their engines and containers, mounts,
// cgroups and files.
func sweep(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), placePattern+"*"))
	if err != nil {
		return err
	}
	var faults []error
	for _, dir := range dirs {
		lock, err := os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			continue // not a place, or one that another demo just makes or removes
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			faults = append(faults, sweepPlace(ctx, dir))
		}
		_ = lock.Close() // only read from
	}
	sweepCgroups()
	return errors.Join(faults...)
}

func sweepPlace(ctx context.Context, dir string) error {
	p := &place{dir: dir}
	err := dockertest.Clear(p.path("docker"))
	if err == nil {
		err = p.remove(ctx)
	}
	if err != nil {
		return fmt.Errorf("remove what a killed demo left in %s: %w", dir, err)
	}
	return nil
}

// fill writes files of random bytes that no compression makes smaller.
func fill(dir string, files, size int) error {
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{1})
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("orders %02d", i%40))
		if i < 40 {
			if err := os.Mkdir(sub, 0o755); err != nil {
				return err
			}
		}
		_, _ = source.Read(content) // never fails
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("order %05d.dat", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// change rewrites every hundredth file.
func change(dir string, files, size int) (int, error) {
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{2})
	changed := 0
	for i := 7; i < files; i += 100 {
		_, _ = source.Read(content) // never fails
		name := filepath.Join(dir, fmt.Sprintf("orders %02d", i%40), fmt.Sprintf("order %05d.dat", i))
		if err := os.WriteFile(name, content, 0o644); err != nil {
			return changed, err
		}
		changed++
	}
	return changed, nil
}
