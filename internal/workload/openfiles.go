package workload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// OpenFiles are the files that processes of this host have open for writing, or
// mapped so that what they write there reaches the file.
type OpenFiles struct {
	files []openFile
	// Missed says what could not be looked at, "" when that is nothing.
	Missed string
}

// openFile is one file of one process.
type openFile struct {
	process Process     // as it was then
	spot                // where it is
	inodes  proc.Device // what stat says of it
}

// mostFiles bounds what is remembered: a process may open as many as it likes.
const mostFiles = 20_000

// serviceManager is a process that writes to no files of applications, and that
// some hosts let no other look at.
const serviceManager = 1

// LookAtOpenFiles looks through all processes but this one, and for no longer
// than limit: of those that it did not come to, Missed says so. A file is looked
// at only when the mount that it was opened through is known to be of a disk of
// this host: others can hang.
func LookAtOpenFiles(ctx context.Context, limit time.Duration) OpenFiles {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := make(chan OpenFiles, 1)
	// A process that hangs in the kernel can keep a reader of its mappings waiting.
	// That reader is left behind then, and ends when the process goes on.
	go func() { found <- lookAtOpenFiles(ctx) }()
	select {
	case o := <-found:
		return o
	case <-ctx.Done():
	}
	select {
	case o := <-found: // it has just seen that the time is over
		return o
	case <-time.After(limit / 10):
		return OpenFiles{Missed: "a process does not let its open files be looked at"}
	}
}

func lookAtOpenFiles(ctx context.Context) OpenFiles {
	l := opener{tables: map[string]proc.Table{}}
	pids, err := proc.All()
	if err != nil {
		l.out.Missed = err.Error()
		return l.out
	}
	l.loops()
	denied := 0
	for i, pid := range pids {
		if ctx.Err() != nil || len(l.out.files) >= mostFiles {
			l.out.Missed = fmt.Sprintf("%d of %d processes were not looked at: there are too many, or too many open files", len(pids)-i, len(pids))
			return l.out
		}
		if pid == os.Getpid() || pid == serviceManager {
			continue
		}
		if err := l.process(ctx, pid); errors.Is(err, os.ErrPermission) {
			denied++
		}
	}
	l.lookAtWaiting(ctx)
	if denied > 0 {
		l.out.Missed = fmt.Sprintf("%d processes could not be looked at: the right to do so is missing", denied)
	}
	return l.out
}

// lookAtWaiting looks at the mappings of those that waited in the kernel. One that
// writes through memory and has the kernel write that out waits most of the time.
func (l *opener) lookAtWaiting(ctx context.Context) {
	const tries, pause = 20, 10 * time.Millisecond
	for try := 0; len(l.waiting) > 0 && try < tries && ctx.Err() == nil; try++ {
		time.Sleep(pause)
		again := l.waiting
		l.waiting = nil
		for _, pid := range again {
			_ = l.mappings(pid, "/proc/"+strconv.Itoa(pid)) // of one that has ended there are none
		}
	}
	if len(l.waiting) > 0 {
		l.out.Missed = fmt.Sprintf("%d processes wait in the kernel all the time, and the files that they have mapped could not be looked at", len(l.waiting))
	}
}

// opener is the state of one look.
type opener struct {
	tables  map[string]proc.Table // by mount namespace
	waiting []int                 // in the kernel, so that their mappings are yet to be looked at
	out     OpenFiles
}

func (l *opener) process(ctx context.Context, pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	open, err := os.Open(dir + "/fd")
	if err != nil {
		return err
	}
	names, err := open.Readdirnames(-1)
	_ = open.Close()
	if err != nil {
		return err
	}
	for _, fd := range names {
		select {
		case <-ctx.Done():
			return nil // the caller sees that the time is over
		default:
		}
		// Who may list the descriptors may not always look at them.
		if err := l.descriptor(pid, dir, fd); errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	if len(names) == 0 {
		return nil // of the kernel, or about to end
	}
	return l.mappings(pid, dir)
}

// descriptor adds what one descriptor of a process writes to. One that was closed
// meanwhile is an error.
func (l *opener) descriptor(pid int, dir, fd string) error {
	link := dir + "/fd/" + fd
	path, err := os.Readlink(link)
	if err != nil || !ofDisk(path) {
		return err
	}
	// The link's own mode says how the file was opened.
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&0o200 == 0 {
		return err
	}
	text, err := os.ReadFile(dir + "/fdinfo/" + fd)
	if err != nil {
		return err
	}
	id := mountID(text)
	m, ok := l.table(dir).ByID(id)
	if !ok { // it got the descriptor from a process of the host
		m, ok = l.table("/proc/1").ByID(id)
	}
	if ok {
		l.add(pid, m, path, link)
	}
	return nil
}

// ofDisk tells whether a path can be one of a file, and not what the kernel calls
// a socket, a pipe or something else that has no place.
func ofDisk(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/proc/") && !strings.HasPrefix(path, "/memfd:")
}

func mountID(fdinfo []byte) uint64 {
	for line := range bytes.Lines(fdinfo) {
		if value, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			id, _ := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
			return id
		}
	}
	return 0
}

// mappings adds the files that a process writes to through its memory. Their
// descriptors may be closed long since.
func (l *opener) mappings(pid int, dir string) error {
	p, err := proc.Look(pid)
	if err != nil {
		return err
	}
	if p.State == 'D' { // it may hold what a reader would wait for
		l.waiting = append(l.waiting, pid)
		return nil
	}
	text, err := os.ReadFile(dir + "/maps")
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		// address perms offset dev inode path; proc_pid_maps(5)
		words := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 6)
		if len(words) < 6 || len(words[1]) < 4 || words[1][1] != 'w' || words[1][3] != 's' {
			continue
		}
		path := strings.TrimLeft(words[5], " ")
		if !ofDisk(path) {
			continue
		}
		device, ok := parseDevice(words[3])
		if !ok {
			continue
		}
		on := l.table(dir).Only(func(m proc.Mount) bool { return m.Device == device })
		if m, ok := on.Above(path); ok {
			l.add(pid, m, path, dir+"/map_files/"+shortRange(words[0]))
		}
	}
	return nil
}

// shortRange is an address range as map_files has it, without leading zeros.
func shortRange(text string) string {
	from, to, _ := strings.Cut(text, "-")
	short := func(s string) string {
		if s = strings.TrimLeft(s, "0"); s == "" {
			return "0"
		}
		return s
	}
	return short(from) + "-" + short(to)
}

func parseDevice(text string) (proc.Device, bool) {
	major, minor, _ := strings.Cut(text, ":")
	a, err := strconv.ParseUint(major, 16, 32)
	b, err2 := strconv.ParseUint(minor, 16, 32)
	return proc.Device{Major: uint32(a), Minor: uint32(b)}, err == nil && err2 == nil
}

// add adds a file that was opened through a mount. link leads to it whatever its
// path leads to now.
func (l *opener) add(pid int, m proc.Mount, path, link string) {
	if reason(m.Type) != "" || kernelMade(m.Type) {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil || st.Nlink == 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return // no snapshot would have it
	}
	// At once: of one that has ended it cannot be told whose it was.
	if p, there := processOf(pid); there {
		l.out.files = append(l.out.files, openFile{process: p, spot: below(m, path), inodes: proc.DeviceOf(st.Dev)})
	}
}

// below is where a path lies that was reached through a mount. When it does not
// show that, it is the mount itself.
func below(m proc.Mount, path string) spot {
	where := spotOf(m)
	if rest, ok := proc.CutDir(path, m.Point); ok {
		where.root = filepath.Join(where.root, rest)
	}
	return where
}

// table of the mount namespace of a process.
func (l *opener) table(dir string) proc.Table {
	namespace, err := os.Readlink(dir + "/ns/mnt")
	if err != nil {
		return nil
	}
	root, err := os.Readlink(dir + "/root") // the table's paths are those of a root
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	key := namespace + root
	if t, ok := l.tables[key]; ok {
		return t
	}
	pid, err := strconv.Atoi(filepath.Base(dir))
	if err != nil {
		return nil
	}
	t, _ := proc.Of(pid) // of one that has just ended there is none
	l.tables[key] = t
	return t
}
