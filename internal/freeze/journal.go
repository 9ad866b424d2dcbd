package freeze

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"

	"golang.org/x/sys/unix"
)

// A journal is a file window-<pid>-<number> that its window has locked.
// Its first line is magic, version and a state of fixed width; its second has
// one character for each member. Both are overwritten in place; the rest is
// JSON. It need outlive the process, not the machine: a restart thaws
// everything.
//
// The window has a flock on it, which ends with the process. The guard has a
// POSIX record lock on it, from which others learn its process id.
const (
	journalMagic  = "snapd-window-2 "
	journalPrefix = "window-"

	statePrepared = "prepared" // nothing has been touched
	stateOpen     = "open    " // members may be frozen
	stateThawed   = "thawed  " // nothing is any more

	// The character of a member. It matters only for those that are stopped:
	// that a container does not run says nothing about what ended it.
	memberUntouched = '.' // not touched
	memberStopped   = 'x' // told to stop
	memberRunning   = 'o' // running again
)

type journalBody struct {
	Pid     int             `json:"pid"`
	Started time.Time       `json:"started"`
	Engine  string          `json:"engine,omitempty"` // where it listens
	Members []journalMember `json:"members"`
	Disks   []journalDisk   `json:"filesystems,omitempty"`
}

type journalDisk struct {
	Dir  string `json:"dir"`
	Type string `json:"type"`
	Dev  uint64 `json:"dev"`
}

type journalMember struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	How    How    `json:"how"`
	Rank   int    `json:"rank,omitempty"`
	Cgroup string `json:"cgroup,omitempty"`
	Dev    uint64 `json:"dev,omitempty"`
	Ino    uint64 `json:"ino,omitempty"`
}

type journal struct {
	path string
	file *os.File
}

// writeJournal makes the file without a name, locks it, fills it, and only
// then gives it one. A process that finds it finds it whole, and locked for as
// long as its window lives.
func writeJournal(dir string, r journalBody) (_ *journal, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	content, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	f, err := durable.Unnamed(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.close())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock the journal: %w", err)
	}
	memberStates := bytes.Repeat([]byte{memberUntouched}, len(r.Members))
	if _, err := fmt.Fprintf(j.file, "%s%s\n%s\n%s\n", journalMagic, statePrepared, memberStates, content); err != nil {
		return nil, err
	}
	for n := range 1000 {
		j.path = filepath.Join(dir, journalPrefix+strconv.Itoa(r.Pid)+"-"+strconv.Itoa(n))
		if err = durable.Link(f, j.path); !errors.Is(err, os.ErrExist) {
			break
		}
	}
	return j, err
}

// setState overwrites the state. It is one write of a few bytes into a tmpfs.
func (j *journal) setState(state string) error {
	_, err := j.file.WriteAt([]byte(state), int64(len(journalMagic)))
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

// setMember overwrites the character of one member.
func (j *journal) setMember(i int, entry byte) error {
	_, err := j.file.WriteAt([]byte{entry}, int64(len(journalMagic)+len(statePrepared)+1+i))
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

func (j *journal) remove() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the journal: %w", err)
	}
	return nil
}

func (j *journal) close() error { return j.file.Close() }

// errAlive means that the window of a journal is still being used.
var errAlive = errors.New("its window is alive")

// openJournal opens what a dead window left and locks it. errAlive when it is
// not dead, os.ErrNotExist when another process has just recovered it.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: f}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errAlive
		}
		return nil, errors.Join(err, j.close())
	}
	gone, err := j.unnamed()
	if gone {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, j.close())
	}
	return j, nil
}

// unnamed tells whether another process has removed the journal.
func (j *journal) unnamed() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(j.file.Fd()), &st); err != nil {
		return false, fmt.Errorf("look at %s: %w", j.path, err)
	}
	return st.Nlink == 0, nil
}

// contents are what a journal says.
type contents struct {
	state        string
	memberStates []byte // one for each member
	journalBody
}

func (j *journal) read() (contents, error) {
	var c contents
	st, err := j.file.Stat()
	if err != nil {
		return c, err
	}
	text := make([]byte, st.Size())
	if _, err := j.file.ReadAt(text, 0); err != nil {
		return c, err
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	memberStates, rest, _ := bytes.Cut(rest, []byte("\n"))
	state, ok := strings.CutPrefix(string(first), journalMagic)
	if !ok || len(state) != len(statePrepared) {
		return c, advice.With(fmt.Errorf("%s is not a journal that this version of snapd can read", j.path), "if nothing is frozen, remove it")
	}
	c.state, c.memberStates = state, memberStates
	if err := json.Unmarshal(rest, &c.journalBody); err != nil {
		return c, fmt.Errorf("read journal %s: %w", j.path, err)
	}
	if len(c.memberStates) != len(c.Members) {
		return c, fmt.Errorf("read journal %s: %d states for %d members", j.path, len(c.memberStates), len(c.Members))
	}
	return c, nil
}
