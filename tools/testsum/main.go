// Command testsum reads the output of go test -json from a file and prints
// what a person wants to know: failures with their output, the slowest
// packages, and the counts. A skipped test is a failure: it had to run.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64 // seconds
}

type summary struct {
	output                  map[string][]string // by package and test
	passed, failed, skipped int
	packages                []event
	bad                     []string // keys of output to show
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: testsum FILE")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	s := summary{output: map[string][]string{}}
	s.read(f)
	os.Exit(s.print(os.Stdout))
}

func (s *summary) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			s.output[""] = append(s.output[""], lines.Text()+"\n")
			continue
		}
		s.add(e)
	}
}

func (s *summary) add(e event) {
	key := cmp.Or(e.Package, e.ImportPath) + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-fail":
		s.bad = append(s.bad, key)
	case "pass", "fail", "skip":
		s.end(e, key)
	}
}

func (s *summary) end(e event, key string) {
	if e.Test == "" {
		if e.Action != "skip" { // a package without tests
			s.packages = append(s.packages, e)
		}
		if e.Action == "fail" {
			s.bad = append(s.bad, key)
		}
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
		return
	case "fail":
		s.failed++
	case "skip":
		s.skipped++
	}
	s.bad = append(s.bad, key)
}

func (s *summary) print(w io.Writer) int {
	for _, key := range s.bad {
		fmt.Fprintf(w, "--- %s\n%s", strings.TrimSpace(key), strings.Join(s.output[key], ""))
	}
	fmt.Fprint(w, strings.Join(s.output[""], ""))
	slices.SortFunc(s.packages, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, p := range s.packages {
		fmt.Fprintf(w, "%-4s %7.1f s  %s\n", p.Action, p.Elapsed, p.Package)
	}
	if s.skipped > 0 {
		fmt.Fprintf(w, "%d tests were skipped although they had to run\n", s.skipped)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", s.passed, s.failed+s.skipped)
	if len(s.bad) > 0 || s.passed == 0 {
		return 1
	}
	return 0
}
