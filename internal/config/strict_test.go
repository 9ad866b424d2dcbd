package config

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestOnlyTextsAreReadAsTexts: the decoder by itself would take a number for
// nanoseconds, a list for the words of a command, and a table for a retention rule.
func TestOnlyTextsAreReadAsTexts(t *testing.T) {
	for text, want := range map[string]string{
		"[group.x]\nmax-window = 5":                        `f:2: group.x.max-window: it is an integer, and must be a string, such as "a"`,
		"[group.x]\nMax-Window = 5":                        `f:2: group.x.Max-Window: it is an integer, and must be a string`,
		"[group]\nx = { keep-local = 5 }":                  `f:2: group.x.keep-local: it is an integer, and must be a string`,
		"[group]\nx.freeze = true":                         `f:2: group.x.freeze: it is a boolean, and must be a string`,
		"[group.x]\nkeep = { last = 3 }":                   `f:2: group.x.keep: it is an inline table, and must be a string`,
		"[group.x]\nkeep.last = 3":                         `f:2: group.x.keep.last: it is an integer, and must be a string`,
		"[group.x.keep]\nlast = 3":                         `f:1: group.x.keep: it is a table, and must be a string`,
		"[group.x.container.db]\nhold = [\"a\"]":           `f:2: group.x.container.db.hold: it is an array, and must be a string`,
		"[repository.x]\nretry-for = 600":                  `f:2: repository.x.retry-for: it is an integer, and must be a string`,
		"[group]\nx = { container.db.quiesce = \"mysql\"}": `f:2: group.x.container.db.quiesce: "mysql" is not built in`,
		"[group.x]\nfreeze = \"\"":                         `f:2: group.x.freeze: "" is not one of auto`,
	} {
		_, err := Parse("f", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q:\ngot  %v\nwant %s…", text, err, want)
		}
	}
}

// TestAnEmptyListIsSet: no repository at all is something else than all of them.
func TestAnEmptyListIsSet(t *testing.T) {
	c, err := Parse("f", []byte("[repository.r]\nurl = \"file:///r\"\nencryption = \"none\"\n[group.all]\n[group.local]\nrepositories = []"))
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]int{"all": 1, "local": 0} {
		if got := c.Group(group, c.Groups[group]).Repositories; len(got) != want {
			t.Errorf("group %s ships to %q", group, got)
		}
	}
}

// TestAnErrorOfAValueIsKept: what to do about it travels with it.
func TestAnErrorOfAValueIsKept(t *testing.T) {
	_, err := Parse("f", []byte("[group.x]\nfreeze = \"frezee\""))
	if errors.Unwrap(err) == nil {
		t.Errorf("%v is made of nothing", err)
	}
}

// TestTheManualHasEveryKeyAndLabel, and no default is missing for a key that must
// have a value.
func TestTheManualHasEveryKeyAndLabel(t *testing.T) {
	text, err := os.ReadFile("../../docs/snapd.toml.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(text)
	for _, table := range []reflect.Type{reflect.TypeFor[repositoryDocument](), reflect.TypeFor[Settings](), reflect.TypeFor[Commands]()} {
		for f := range table.Fields() {
			key, label := f.Tag.Get("toml"), f.Tag.Get("label")
			if key == "" {
				t.Errorf("%s.%s is no key: it has no toml tag", table, f.Name)
			}
			if key != "container" && !strings.Contains(manual, "`"+key+"`") {
				t.Errorf("docs/snapd.toml.md does not have the key `%s`", key)
			}
			if label != "" && !strings.Contains(manual, "`"+LabelPrefix+label) {
				t.Errorf("docs/snapd.toml.md does not have the label `%s`", LabelPrefix+label)
			}
		}
	}
	unset := map[string]bool{"ComposeProject": true, "Containers": true, "Units": true, "Paths": true, "Volumes": true, "Exclude": true, "Schedule": true, "Commands": true}
	c := &Config{Repositories: map[string]Repository{"main": {}}}
	defaults := reflect.ValueOf(c.Group("x", Settings{}).Settings)
	for f, value := range defaults.Fields() {
		if value.IsZero() != unset[f.Name] {
			t.Errorf("the default of %s is %v: give it one, or list it here as a key that may stay unset", f.Name, value)
		}
	}
}
