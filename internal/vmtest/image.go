package vmtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// image is a disk, kernel and initial root that QEMU can boot, made by the
// scripts in scripts/guest.
type image struct {
	dir string // the cache entry
}

func (i image) kernel() string  { return filepath.Join(i.dir, "vmlinuz") }
func (i image) initrd() string  { return filepath.Join(i.dir, "initrd") }
func (i image) disk() string    { return filepath.Join(i.dir, "root.qcow2") }
func (i image) key() string     { return filepath.Join(i.dir, "key") }
func (i image) hostKey() string { return filepath.Join(i.dir, "host-key.pub") }

// parts are the files without which an image is none.
func (i image) parts() []string {
	return []string{i.kernel(), i.initrd(), i.disk(), i.key(), i.hostKey()}
}

// scriptsDir finds the module's scripts/guest: tests run in their package's
// directory, somewhere below the module's.
func scriptsDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "scripts", "guest"), nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find the module: no go.mod in this directory or above it")
		}
		dir = parent
	}
}

// inputs returns name, mode and content of everything that makes the image.
func inputs(dir string) ([]string, error) {
	parts := []string{runtime.GOARCH}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		parts = append(parts, name, fmt.Sprintf("%t", info.Mode()&0o100 != 0), string(text))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the guest's scripts: %w", err)
	}
	return parts, nil
}

// ensureImage returns the image that the scripts as they are now make, from the
// cache or newly built.
func (c cache) ensureImage(ctx context.Context) (image, error) {
	scripts, err := scriptsDir()
	if err != nil {
		return image{}, err
	}
	parts, err := inputs(scripts)
	if err != nil {
		return image{}, err
	}
	if err := runScript(ctx, filepath.Join(scripts, "host-packages")); err != nil {
		return image{}, err
	}
	result := image{dir: filepath.Join(c.dir, "image-"+digest(parts...))}
	err = c.entry(ctx, result.dir, func(ctx context.Context, dir string) error {
		if err := runScript(ctx, filepath.Join(scripts, "build"), dir); err != nil {
			return err
		}
		for _, part := range (image{dir: dir}).parts() {
			if _, err := os.Stat(part); err != nil {
				return fmt.Errorf("the build left no %s", filepath.Base(part))
			}
		}
		return nil
	})
	return result, err
}

// runScript runs one of the module's scripts; what it has to say goes to
// standard error. Cancelled, it is asked to stop, and given time to tidy up.
func runScript(ctx context.Context, path string, arguments ...string) error {
	cmd := exec.Command(path, arguments...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	child, err := startProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-child.done:
	case <-ctx.Done():
		_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-child.done:
		case <-time.After(20 * time.Second):
		}
		return errors.Join(fmt.Errorf("%s: %w", filepath.Base(path), context.Cause(ctx)), child.kill())
	}
	if child.err != nil {
		return fmt.Errorf("%s: %w", path, child.err)
	}
	return nil
}
