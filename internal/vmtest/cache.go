package vmtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// cache is where images, saved states and the disks of running guests lie.
type cache struct{ dir string }

// openCache finds the user's cache and removes what guests that were killed
// with their test left there.
func openCache() (cache, error) {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return cache{}, fmt.Errorf("find the user's cache directory: %w", err)
		}
		base = filepath.Join(home, ".cache")
	}
	c := cache{dir: filepath.Join(base, "snapd-agent", "guest")}
	if err := os.MkdirAll(c.runs(), 0o700); err != nil {
		return cache{}, fmt.Errorf("make the guest's cache: %w", err)
	}
	return c, nil
}

func (c cache) runs() string { return filepath.Join(c.dir, "run") }

// lock waits until no other program builds into the cache. The caller releases it.
func (c cache) lock(ctx context.Context) (release func(), err error) {
	file, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the guest's cache: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close()
			return nil, fmt.Errorf("lock the guest's cache: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, fmt.Errorf("wait for another build of the guest: %w", context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// entry returns the finished directory at path. If it is missing, unfinished or
// damaged, make fills a new one, which takes its place only when complete.
func (c cache) entry(ctx context.Context, path string, make func(ctx context.Context, dir string) error) error {
	if checkInventory(path) == nil {
		return nil
	}
	release, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = checkInventory(path) // another program may have made it meanwhile
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "guest: %s is made again: %v\n", filepath.Base(path), err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make %s: %w", filepath.Dir(path), err)
	}
	if err := c.sweep(filepath.Dir(path), ".part-"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".part-")
	if err != nil {
		return fmt.Errorf("make a directory for %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := make(ctx, dir); err != nil {
		return err
	}
	if err := writeInventory(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove the broken %s: %w", path, err)
	}
	if err := os.Rename(dir, path); err != nil {
		return fmt.Errorf("keep %s: %w", path, err)
	}
	return nil
}

// sweep removes what interrupted builds left in dir. The caller holds the lock.
func (c cache) sweep(dir, prefix string) error {
	left, err := filepath.Glob(filepath.Join(dir, prefix+"*"))
	if err != nil {
		return fmt.Errorf("look for unfinished builds: %w", err)
	}
	for _, path := range left {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove an unfinished build: %w", err)
		}
	}
	return nil
}

// runDir makes a directory for one running guest. It is locked as long as the
// guest's program lives: what is found unlocked is garbage, and removed here.
func (c cache) runDir() (dir string, release func(), err error) {
	others, err := os.ReadDir(c.runs())
	if err != nil {
		return "", nil, fmt.Errorf("read the directory of running guests: %w", err)
	}
	for _, other := range others {
		removeIfUnlocked(filepath.Join(c.runs(), other.Name()))
	}
	dir, err = os.MkdirTemp(c.runs(), "guest-")
	if err != nil {
		return "", nil, fmt.Errorf("make a directory for a guest: %w", err)
	}
	handle, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("lock a guest's directory: %w", err)
	}
	if err := syscall.Flock(int(handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = handle.Close()
		return "", nil, fmt.Errorf("lock a guest's directory: %w", err)
	}
	return dir, func() {
		_ = os.RemoveAll(dir)
		_ = handle.Close()
	}, nil
}

func removeIfUnlocked(dir string) {
	handle, err := os.Open(dir)
	if err != nil {
		return
	}
	defer func() { _ = handle.Close() }()
	info, err := handle.Stat()
	// Younger than a minute: its owner may be about to lock it.
	if err != nil || time.Since(info.ModTime()) < time.Minute {
		return
	}
	if syscall.Flock(int(handle.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.RemoveAll(dir)
	}
}

// Clean removes every image and saved state. Guests that run keep theirs until
// they end.
func Clean() error {
	c, err := openCache()
	if err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

// digest names what went into something: each part in order, unambiguously.
func digest(parts ...string) string {
	hash := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(hash.Sum(nil))[:20]
}
