package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"snapd/internal/show"

	"golang.org/x/term"
)

// Text that others wrote gets to a user in two steps. What is printed goes
// through print, errs or table, where a newline in such a text cannot begin a
// line of ours: only those of this file and table.go write to stdout, stderr
// and the screen. And behind them is a show.Writer, which lets no control
// character through, whatever wrote it.

// terminalWidth is in characters, 0 where there is no terminal: a line in a
// file or the journal stays one, so that it is found as a whole.
func terminalWidth(w io.Writer) int {
	const least, most = 40, 199
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < least {
		return 0
	}
	return min(columns, most)
}

// print prints one line for people. On a terminal it is wrapped, and the parts
// after the first stand behind as many spaces as indent says.
func (c *cli) print(indent int, format string, args ...any) {
	printLine(c.stdout, c.width, indent, fmt.Sprintf(format, args...))
}

// errs is print on standard error.
func (c *cli) errs(format string, args ...any) {
	printLine(c.stderr, c.screen.width, 2, fmt.Sprintf(format, args...))
}

func printLine(w io.Writer, width, indent int, line string) {
	line = show.Text(line)
	if width > 0 {
		line = show.Wrap(line, width, strings.Repeat(" ", indent))
	}
	fmt.Fprintln(w, line)
}

// joined is the text of several errors in one line.
func joined(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// say tells people something that is not the result, in lines of ours.
func (c *cli) say(text string) {
	if !c.json {
		c.print(2, "%s", text)
	}
}

// contents is the way out for the contents of files: as they are, unless they go to a
// terminal. There, what it would obey is escaped.
func contents(s *screen, stdout io.Writer) io.Writer {
	if f, ok := stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return results{s, &harmless{w: show.Writer(stdout)}}
	}
	return results{s, stdout}
}

// harmless passes text on in whole characters, and tabs as spaces.
type harmless struct {
	w    io.Writer
	rest []byte // of a character that has not come whole yet
}

func (h *harmless) Write(p []byte) (int, error) {
	text := append(h.rest, p...)
	whole := len(text)
	for back := 1; back < utf8.UTFMax && back <= len(text); back++ {
		if at := len(text) - back; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				whole = at
			}
			break
		}
	}
	h.rest = append([]byte(nil), text[whole:]...)
	_, err := io.WriteString(h.w, strings.ReplaceAll(string(text[:whole]), "\t", "        "))
	return len(p), err
}
