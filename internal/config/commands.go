package config

import (
	"errors"
	"fmt"
	"regexp"

	"snapd/internal/advice"

	"github.com/kballard/go-shellquote"
)

// CommandSettings say what is run in one container for a restore point, as far
// as somebody wrote it: nil means not set.
type CommandSettings struct {
	Quiesce *Quiesce
	Hold    *Words
	Before  *Words
	After   *Words
	User    *User
}

// Commands are what applies to a container once file and labels are joined.
type Commands struct {
	Quiesce Quiesce
	Hold    []string // takes the application's lock, says so on one line, keeps it until its standard input ends
	Before  []string // runs before anything else of a restore point
	After   []string // runs whenever Before was started
	User    string   // as whom all of them run; "" means the user of the container
}

// Over returns s with what it does not set taken from under.
func (s CommandSettings) Over(under CommandSettings) CommandSettings {
	return CommandSettings{
		Quiesce: first(s.Quiesce, under.Quiesce),
		Hold:    first(s.Hold, under.Hold),
		Before:  first(s.Before, under.Before),
		After:   first(s.After, under.After),
		User:    first(s.User, under.User),
	}
}

// Any tells whether anything is set.
func (s CommandSettings) Any() bool { return s != CommandSettings{} }

// Commands fills in the defaults.
func (s CommandSettings) Commands() Commands {
	return Commands{
		Quiesce: value(s.Quiesce, QuiesceNone), Hold: value(s.Hold, nil), Before: value(s.Before, nil),
		After: value(s.After, nil), User: string(value(s.User, "")),
	}
}

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

// commandDocument is [group.NAME.container.NAME] as written.
type commandDocument struct {
	Quiesce *string `toml:"quiesce"`
	Hold    *string `toml:"hold"`
	Before  *string `toml:"exec-before"`
	After   *string `toml:"exec-after"`
	User    *string `toml:"exec-user"`
}

func (d commandDocument) settings() (s CommandSettings, key string, err error) {
	if s.Quiesce, err = parsed[Quiesce](d.Quiesce); err != nil {
		return s, "quiesce", err
	}
	if s.Hold, err = parsed[Words](d.Hold); err != nil {
		return s, "hold", err
	}
	if s.Before, err = parsed[Words](d.Before); err != nil {
		return s, "exec-before", err
	}
	if s.After, err = parsed[Words](d.After); err != nil {
		return s, "exec-after", err
	}
	s.User, err = parsed[User](d.User)
	return s, "exec-user", err
}

// commandSettings validates the tables of a group's containers; the key it
// returns is the one at fault.
func commandSettings(written map[string]commandDocument) (out map[string]CommandSettings, key string, err error) {
	for _, name := range sortedKeys(written) {
		s, key, err := written[name].settings()
		if err != nil {
			return nil, "container." + name + "." + key, err
		}
		if out == nil {
			out = map[string]CommandSettings{}
		}
		out[name] = s
	}
	return out, "", nil
}

// set reads one label; known is false for a label of another kind.
func (s *CommandSettings) set(name, text string) (known bool, err error) {
	switch name {
	case "quiesce":
		s.Quiesce, err = parsed[Quiesce](&text)
	case "hold":
		s.Hold, err = parsed[Words](&text)
	case "exec.before":
		s.Before, err = parsed[Words](&text)
	case "exec.after":
		s.After, err = parsed[Words](&text)
	case "exec.user":
		s.User, err = parsed[User](&text)
	default:
		return false, nil
	}
	return true, err
}

func commandLabels() []string {
	return []string{"quiesce", "hold", "exec.before", "exec.after", "exec.user"}
}
