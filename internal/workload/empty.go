package workload

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Empty tells of each folder of this host whether it has no entry: true, false, or
// null where that cannot be told, because it is no folder, lies on another host or
// in a program, or does not answer in time. It never takes longer than patience.
func Empty(ctx context.Context, folders []string, patience time.Duration) []*bool {
	mounts, err := proc.Own()
	if err != nil || len(folders) == 0 {
		return make([]*bool, len(folders))
	}
	return looks(ctx, len(folders), patience, func(n int) (bool, error) {
		if !answers(mounts, folders[n]) {
			return false, errUnasked
		}
		return isEmpty(unix.AT_FDCWD, folders[n], unix.RESOLVE_NO_SYMLINKS)
	})
}

// answers tells whether a path lies on a filesystem that the kernel itself keeps,
// by its mount alone: others may never answer.
func answers(mounts proc.Table, path string) bool {
	m, ok := mounts.Above(path)
	return ok && !network(m.Type) && !strings.HasPrefix(m.Type, "fuse")
}

// errUnasked is for a folder that may never answer.
var errUnasked = errors.New("it lies where no answer may come")

// looks calls look for 0 to n-1, one after the other, and returns what it said in
// time and without an error. A look that waits in the kernel waits on without its
// caller, and what comes after it is not looked at.
func looks[T any](ctx context.Context, n int, patience time.Duration, look func(n int) (T, error)) []*T {
	type answer struct {
		n    int
		said T
	}
	out := make([]*T, n)
	answers := make(chan answer, n) // so that no look waits for its reader
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() {
		defer close(answers)
		for i := range n {
			if ctx.Err() != nil {
				return
			}
			if said, err := look(i); err == nil {
				answers <- answer{i, said}
			}
		}
	}()
	for {
		select {
		case a, more := <-answers:
			if !more {
				return out
			}
			out[a.n] = &a.said
		case <-ctx.Done():
			return out
		}
	}
}

// entriesAtOnce is how many names a look reads: more than those that count for
// none.
const entriesAtOnce = 8

// isEmpty looks at one folder. What filesystems and snapd put there by themselves
// counts for nothing. One that is not there is empty.
func isEmpty(at int, folder string, resolve uint64) (bool, error) {
	fd, err := unix.Openat2(at, folder, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS | resolve,
	})
	if errors.Is(err, unix.ENOENT) {
		return true, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "open", Path: folder, Err: err}
	}
	dir := os.NewFile(uintptr(fd), folder)
	defer dir.Close() //nolint:errcheck // only read from
	names, err := dir.Readdirnames(entriesAtOnce)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	for _, name := range names {
		if name != fs.BtrfsDir && name != "lost+found" {
			return false, nil
		}
	}
	return err == nil, err
}

// isEmptyIn looks at a folder as a container has it.
func isEmptyIn(c Container, folder string) (bool, error) {
	root, err := unix.Open("/proc/"+strconv.Itoa(c.Pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(root)               //nolint:errcheck // only a handle
	if err := c.locate(""); err != nil { // the pid may be another's by now
		return false, err
	}
	return isEmpty(root, folder, unix.RESOLVE_IN_ROOT)
}
