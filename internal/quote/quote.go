// Package quote marks what a user's own program printed, or was called with, in a
// text about it, so that it can be taken out again for a reader who may not see it:
// hooks are called with passwords, and print them. It knows nothing of who reads.
package quote

import (
	"fmt"
	"regexp"
	"strings"
)

// The words before a quote. They stand in points that were recorded, and do not
// change.
const (
	saying  = "it said: "
	running = "it runs: "
)

// Hidden stands in place of a quote.
const Hidden = "(hidden: ask as root)"

// A quote reaches to the end of its line, and whatever is behind it there goes with
// it: what a program prints can look like the end of a quote.
var quoted = regexp.MustCompile(`(it said: |it runs: )[^\n]*`)

// Said is what a program printed, in one line.
func Said(text string) string { return saying + inLine(text) }

// Ran is what a program was called with.
func Ran(args []string) string { return running + inLine(fmt.Sprintf("%q", args)) }

func inLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// Hide takes the quotes out of a text.
func Hide(text string) string { return quoted.ReplaceAllString(text, "${1}"+Hidden) }
