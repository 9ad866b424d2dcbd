package workload

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// Empty tells of each folder of this host whether it has no entry: true, false, or
// null where that cannot be told, because it is no folder, lies on another host or
// in a program, or does not answer in time. It never takes longer than patience;
// what waits in the kernel then waits without its caller.
func Empty(ctx context.Context, folders []string, patience time.Duration) []*bool {
	out := make([]*bool, len(folders))
	mounts, err := proc.Own()
	if err != nil || len(folders) == 0 {
		return out
	}
	type answer struct {
		n     int
		empty bool
	}
	answers := make(chan answer, len(folders)) // so that no look waits for its reader
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	go func() {
		defer close(answers)
		for n, folder := range folders {
			if m, ok := mounts.Above(folder); ctx.Err() != nil || !ok || network(m.Type) || strings.HasPrefix(m.Type, "fuse") {
				continue
			}
			if empty, err := isEmpty(folder); err == nil {
				answers <- answer{n, empty}
			}
		}
	}()
	for {
		select {
		case a, more := <-answers:
			if !more {
				return out
			}
			out[a.n] = &a.empty
		case <-ctx.Done():
			return out
		}
	}
}

// entriesAtOnce is how many names a look reads: more than those that count for
// none.
const entriesAtOnce = 8

// isEmpty looks at one folder. What filesystems and snapd put there by themselves
// counts for nothing.
func isEmpty(folder string) (bool, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, folder, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
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
