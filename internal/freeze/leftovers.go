package freeze

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Left is a journal whose window is dead, and whose members have not been
// recovered yet.
type Left struct {
	File    string
	Window  time.Time // when that window was prepared
	Members []string  // those that may still be frozen because of it; none when it was not open
}

func (l Left) String() string {
	text := fmt.Sprintf("a killed snapd left %s (%s)", l.File, l.Window.Local().Format(time.DateTime))
	if len(l.Members) > 0 {
		text += ": these may still be frozen: " + strings.Join(l.Members, ", ")
	}
	return text
}

// Leftovers lists what Recover would thaw or start. It changes nothing. A
// journal that cannot be read is an error; the others are listed all the same.
func Leftovers(dir string) ([]Left, error) {
	paths, err := filepath.Glob(filepath.Join(dir, journalPrefix+"*"))
	if err != nil {
		return nil, err
	}
	var out []Left
	var faults error
	for _, path := range paths {
		l, err := leftover(path)
		switch {
		case errors.Is(err, errAlive) || errors.Is(err, os.ErrNotExist):
		case err != nil:
			faults = errors.Join(faults, err)
		default:
			out = append(out, l)
		}
	}
	return out, faults
}

func leftover(path string) (_ Left, err error) {
	j, err := openJournal(path)
	if err != nil {
		return Left{}, err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if pid, err := guardHolding(j); err != nil || pid != 0 {
		return Left{}, errors.Join(err, errAlive) // its guard is at it
	}
	c, err := j.read()
	if err != nil {
		return Left{}, err
	}
	l := Left{File: path, Window: c.Started}
	if c.state == stateOpen {
		for _, m := range c.Members {
			l.Members = append(l.Members, m.member().String())
		}
		for _, d := range c.Disks {
			l.Members = append(l.Members, Disk+" "+d.Dir)
		}
	}
	return l, nil
}
