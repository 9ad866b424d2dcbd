package workload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/proc"
)

// Limits of looking at paths. A disk that sleeps needs seconds to wake up.
const (
	lookLimit   = 10 * time.Second // for one path
	locateLimit = 30 * time.Second // for a storage, which may have to ask its own programs
	mostHanging = 16               // filesystems that looks may be waiting for at a time
)

// errHangs is wrapped when a look at a path does not come back.
var errHangs = errors.New("does not answer")

// errRemote means that a path was not looked at, because another host or a
// program would have to answer.
type errRemote struct{ mount proc.Mount }

func (e *errRemote) Error() string {
	return fmt.Sprintf("%s is not looked at: it is %s", e.mount.Point, kindOf(e.mount.Type))
}

// Looks is how paths are looked at, so that one that hangs holds up no more than
// its own group: each look has a deadline and ends with its context, and what a
// look waits for is not looked at again until it comes back. One Looks serves a
// whole process, whose waiting threads it bounds.
type Looks struct {
	mu      sync.Mutex
	waiting map[proc.Device]string // path, by filesystem
	limit   time.Duration          // for one path; 0 means lookLimit
}

// NewLooks is for the whole process.
func NewLooks() *Looks { return &Looks{waiting: map[proc.Device]string{}} }

// begin tells whether a filesystem may be looked at: at most one look waits for
// it that is overdue.
func (l *Looks) begin(on proc.Device, path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other, hangs := l.waiting[on]; hangs {
		return notAnswering(path, fmt.Sprintf("since %s was looked at", other))
	}
	if len(l.waiting) >= mostHanging {
		return notAnswering(path, fmt.Sprintf("or would not: %d filesystems hang already", len(l.waiting)))
	}
	return nil
}

func notAnswering(path, since string) error {
	return advice.With(fmt.Errorf("the filesystem of %s %w, %s", path, errHangs, since), "look at its disk and at the kernel's log; unmount it if it is gone")
}

// look asks something about a path that lies on a filesystem. When it does not
// come back in time, the goroutine that asks is left behind.
func look[T any](ctx context.Context, l *Looks, limit time.Duration, on proc.Device, path string, ask func() (T, error)) (out T, err error) {
	if err := l.begin(on, path); err != nil {
		return out, err
	}
	type answer struct {
		out T
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := ask()
		answers <- answer{out, err}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.waiting[on] == path {
			delete(l.waiting, on)
		}
	}()
	enough := time.NewTimer(limit)
	defer enough.Stop()
	select {
	case a := <-answers:
		return a.out, a.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-enough.C:
		err = notAnswering(path, fmt.Sprintf("within %v", limit))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case a := <-answers: // just now
		return a.out, a.err
	default:
	}
	l.waiting[on] = path
	return out, err
}

// limitOf is how long one look may take.
func (l *Looks) limitOf() time.Duration {
	if l.limit > 0 {
		return l.limit
	}
	return lookLimit
}

// maxLinks is how many symbolic links a path may lead through, as in the kernel.
const maxLinks = 40

// real is a path without symbolic links, as filepath.EvalSymlinks finds it. It
// looks at nothing that is on a mount of another host or a program: the error is
// an *errRemote then.
func (n namespaces) real(ctx context.Context, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", &os.PathError{Op: "look at", Path: path, Err: os.ErrInvalid}
	}
	at, rest := "/", filepath.Clean(path)[1:]
	for links := 0; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // at has no links
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		target, err := n.link(ctx, next)
		if err != nil {
			return "", err
		}
		if target == "" {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &os.PathError{Op: "look at", Path: path, Err: errors.New("too many symbolic links")}
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = strings.TrimPrefix(target, "/") + "/" + rest
	}
	return at, nil
}

// link is where a symbolic link leads, "" for anything else.
func (n namespaces) link(ctx context.Context, path string) (string, error) {
	m, err := n.near(path)
	if err != nil {
		return "", err
	}
	return look(ctx, n.looks, n.looks.limitOf(), m.Device, path, func() (string, error) {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&os.ModeSymlink == 0 {
			return "", err
		}
		return os.Readlink(path)
	})
}

// near is the mount that a path without symbolic links lies on, an *errRemote
// when it or one on the way there must not be looked at.
func (n namespaces) near(path string) (proc.Mount, error) {
	if m, remote := n.own.Remote(path); remote {
		return m, &errRemote{mount: m}
	}
	m, _ := n.own.Above(path)
	return m, nil
}
