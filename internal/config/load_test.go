package config

import "testing"

// A value of the wrong kind is described in TOML's words, not in Go's.
func TestParseWrongKind(t *testing.T) {
	for text, want := range map[string]string{
		"[group.x]\npaths = \"/srv\"":       `f:2: group.x.paths: it is a string, and must be a list of strings, such as ["a", "b"]`,
		"[group.x]\nkeep-local = 24":        `f:2: group.x.keep-local: it is an integer, and must be a string, such as "a"`,
		"[repository.x]\nprune = \"maybe\"": `f:2: repository.x.prune: it is a string, and must be true or false`,
	} {
		_, err := Parse("f", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("Parse(%q): got %v, want %s", text, err, want)
		}
	}
}
