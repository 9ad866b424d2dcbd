package show

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"":                          "",
		"/srv/ein Ordner, ü 日本 é ~": "/srv/ein Ordner, ü 日本 é ~",
		`back\slash "quoted"`:       `back\slash "quoted"`,
		"\x1b]0;title\a":            `\u001b]0;title\u0007`,
		"\u009b2J":                  `\u009b2J`,
		"\x9b2J":                    `\x9b2J`,
		"a\u202eb\u2066c\u200dd":    `a\u202eb\u2066c\u200dd`,
		"one\ntwo\r\tthree\u2028":   `one\ntwo\r\tthree\u2028`,
		"\x7f\x00":                  `\u007f\u0000`,
		"\U000e0001":                `\udb40\udc01`,
		"\ufffd\xff":                "\ufffd" + `\xff`,
		"a\u00a0b":                  `a\u00a0b`,
	} {
		if got := Text(s); got != want {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	}
	if got := Lines("a\x1b\nb"); got != `a\u001b`+"\nb" {
		t.Errorf("lines: %q", got)
	}
}

// TestWriterKeepsDocuments: what goes through is harmless, and a JSON document says
// the same as before.
func TestWriterKeepsDocuments(t *testing.T) {
	nasty := "\x1b]0;x\a \u009b2J \u202e \U000e0001 \u00a0 \u2028 ü\n"
	var out bytes.Buffer
	enc := json.NewEncoder(Writer(&out))
	enc.SetEscapeHTML(false)
	if err := enc.Encode(nasty); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(strings.TrimSuffix(out.String(), "\n"), func(r rune) bool { return !harmless(r) }); i >= 0 {
		t.Errorf("a harmful character at %d: %q", i, out.String())
	}
	var back string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back != nasty {
		t.Errorf("%v: %q became %q", err, nasty, back)
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b[2J\u202e\xff\n")
	f.Fuzz(func(t *testing.T, s string) {
		got := Text(s)
		if !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !harmless(r) }) >= 0 || Text(got) != got {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestWrap(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"short", "short"},
		{"one two three four", "one two\n  three\n  four"},
		{"averyverylongword x", "averyverylongword\n  x"},
		{"a    b", "a    b"},
		{"üüü üüü ü", "üüü üüü\n  ü"},
	} {
		if got := Wrap(c.line, 8, "  "); got != c.want {
			t.Errorf("%q: got %q, want %q", c.line, got, c.want)
		}
	}
}
