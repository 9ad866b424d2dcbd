package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"

	"snapd/internal/advice"

	"github.com/kballard/go-shellquote"
)

// Commands are what is run in one container for a restore point: what
// [group.NAME.container.NAME] is decoded into, and what the container's labels
// fill. The zero value of a field means that it is not set.
type Commands struct {
	Quiesce Quiesce `toml:"quiesce" label:"quiesce"`
	Hold    Words   `toml:"hold" label:"hold"`               // takes the application's lock, says so on one line, keeps it until its standard input ends
	Before  Words   `toml:"exec-before" label:"exec.before"` // runs before anything else of a restore point
	After   Words   `toml:"exec-after" label:"exec.after"`   // runs whenever Before was started
	User    User    `toml:"exec-user" label:"exec.user"`     // as whom all of them run; "" means the user of the container
}

// Over returns c with what it does not set taken from under.
func (c Commands) Over(under Commands) Commands { return over(c, under) }

// WithDefaults fills in the defaults.
func (c Commands) WithDefaults() Commands { return c.Over(Commands{Quiesce: QuiesceNone}) }

// Any tells whether anything is set.
func (c Commands) Any() bool { return !reflect.ValueOf(c).IsZero() }

// Locks tells whether a lock is to be held in the window.
func (c Commands) Locks() bool { return len(c.Hold) > 0 || c.Quiesce == QuiesceMariaDB }

// Hooks tells whether something runs before or after the restore point.
func (c Commands) Hooks() bool { return len(c.Before) > 0 || len(c.After) > 0 }

// Quiesce names an application that snapd itself knows how to put in order.
type Quiesce string

// The applications.
const (
	QuiesceNone     Quiesce = "none"
	QuiescePostgres Quiesce = "postgres" // a CHECKPOINT before the window
	QuiesceMariaDB  Quiesce = "mariadb"  // BACKUP STAGE BLOCK_COMMIT is held in the window
)

// UnmarshalText accepts one of the names above.
func (q *Quiesce) UnmarshalText(text []byte) error {
	if s := string(text); s == "mysql" || s == "mongodb" {
		return advice.With(fmt.Errorf("%q is not built in", s), `take the recipe for it in docs/QUIESCE.md, which is a "hold" command`)
	}
	return oneOf(q, text, QuiesceNone, QuiescePostgres, QuiesceMariaDB)
}

// Words are a command and its arguments.
type Words []string

// UnmarshalText splits as a shell does, with its quotes and backslashes and
// nothing else: no variables, no patterns, no comments, and no shell runs.
func (w *Words) UnmarshalText(text []byte) error {
	words, err := shellquote.Split(string(text))
	if err != nil {
		return advice.With(fmt.Errorf("%q cannot be split into words: %w", text, err), "close every quote that is opened")
	}
	if len(words) == 0 || words[0] == "" {
		return advice.With(errors.New("names no command"), "write a command, or remove it")
	}
	*w = words
	return nil
}

// User is a user of a container, and perhaps a group.
type User string

var userName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$`)

// UnmarshalText reads a name or number, or two with a colon between.
func (u *User) UnmarshalText(text []byte) error {
	if !userName.Match(text) {
		return advice.With(fmt.Errorf("%q is not a user of a container", text), `write "postgres", "999" or "999:999"`)
	}
	*u = User(text)
	return nil
}
