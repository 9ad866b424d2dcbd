// Package show makes text that others wrote fit to be shown: names of files and
// containers, labels, what programs print. On a terminal such a text could move
// the cursor, retitle the window or turn the direction of writing, and in a log
// it could look like a line of ours. It knows nothing of what is shown, and of
// columns or colours.
package show

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is a text in one line, with everything escaped that a terminal might obey
// or not show: control characters of both kinds, newlines, marks that turn the
// direction of writing or have no width, bytes that are no UTF-8. Escapes are
// those of JSON, except for such bytes (\x9b). What is printable stays as it is.
func Text(s string) string { return escape(s, false) }

// Lines is Text of each line.
func Lines(s string) string { return escape(s, true) }

func escape(s string, lines bool) string {
	at := firstHarmful(s, lines)
	if at < 0 {
		return s // nearly always, and a list has ten thousands of them
	}
	var b strings.Builder
	b.WriteString(s[:at])
	for s = s[at:]; s != ""; {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n' && lines, harmless(r):
			b.WriteString(s[:n])
		default:
			b.WriteString(escaped(r))
		}
		s = s[n:]
	}
	return b.String()
}

func firstHarmful(s string, lines bool) int {
	for i, r := range s {
		if r >= ' ' && r <= '~' || r == '\n' && lines {
			continue
		}
		if !harmless(r) || r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)) {
			return i
		}
	}
	return -1
}

func escaped(r rune) string {
	switch r {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}

// Writer passes on what is written to it as Lines makes it, so that nothing
// harmful gets through, wherever it comes from. A JSON document stays one, and
// means the same. Each Write has whole characters.
func Writer(w io.Writer) io.Writer { return writer{w} }

type writer struct{ w io.Writer }

func (w writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.w, Lines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// harmless tells whether a character only shows itself. Format characters, such
// as those that turn the direction of writing, are none of unicode's printable
// ones, and neither are spaces other than the common one.
func harmless(r rune) bool { return unicode.IsPrint(r) }

// Wrap breaks a line between words so that no part is longer than width
// characters, except for a word that is. The parts after the first begin with
// indent.
func Wrap(line string, width int, indent string) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(line, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + indent)
			column = utf8.RuneCountInString(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
