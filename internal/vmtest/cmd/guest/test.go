package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"snapd/internal/vmtest"
)

// event is one line of `go test -json`.
type event struct {
	Action  string
	Test    string
	Output  string
	Elapsed float64 // seconds
}

// test runs every test of the guest tier, in the guest or beside it, and holds
// what ran against what is written in the files: a test that was skipped, or
// never ran, is a failure.
func test(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	verbose := flags.Bool("v", false, "show the output of tests that pass too")
	if flags.Parse(args) != nil || flags.NArg() != 0 {
		return 0, errUsage
	}
	suites, err := findSuites(".")
	if err != nil {
		return 0, err
	}
	if len(suites) == 0 {
		return 0, errors.New("there is no guest test here: is this the module's directory?")
	}
	if err := vmtest.Prepare(ctx); err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ran, bad := 0, 0
	for _, s := range suites {
		result, err := s.run(ctx, self, *verbose, stdout, stderr)
		if err != nil {
			return 0, err
		}
		ran += len(result.passed)
		bad += result.report(stdout, s)
	}
	fmt.Fprintf(stdout, "%d passed, %d failed\n", ran, bad)
	if bad > 0 {
		return statusFailed, nil
	}
	return 0, nil
}

// outcome is what one run of a suite has shown.
type outcome struct {
	passed  map[string]bool // tests of the suite, by name
	skipped []string        // tests and their parts
	failed  bool
	seconds float64
}

// run has `go test` run the suite's tests and no others.
func (s suite) run(ctx context.Context, self string, verbose bool, stdout, stderr io.Writer) (outcome, error) {
	args := []string{
		"test", "-json", "-count=1", "-timeout=40m", "-tags=" + s.tag,
		"-run=^(" + strings.Join(s.tests, "|") + ")$",
	}
	if s.tag == tagGuest {
		args = append(args, "-ldflags=-s -w", "-exec="+self+" exec")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+s.dir)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return outcome{}, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return outcome{}, fmt.Errorf("start go test: %w", err)
	}
	result := outcome{passed: make(map[string]bool)}
	reading := result.read(out, verbose, stdout)
	err = cmd.Wait()
	result.seconds = time.Since(begin).Seconds()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return result, context.Cause(ctx)
	case reading != nil:
		return result, reading
	case errors.As(err, &exit):
		result.failed = true
	case err != nil:
		return result, fmt.Errorf("go test: %w", err)
	}
	return result, nil
}

// read follows the run. What passes is silent unless verbose; what fails shows
// all that it said.
func (o *outcome) read(from io.Reader, verbose bool, stdout io.Writer) error {
	said := make(map[string]*bytes.Buffer)
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				e = event{Action: "output", Output: string(line)}
			}
			o.note(e, said, verbose, stdout)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read go test's output: %w", err)
		}
	}
}

func (o *outcome) note(e event, said map[string]*bytes.Buffer, verbose bool, stdout io.Writer) {
	top, _, _ := strings.Cut(e.Test, "/")
	if said[top] == nil {
		said[top] = &bytes.Buffer{}
	}
	switch e.Action {
	case "output", "build-output":
		if verbose {
			fmt.Fprint(stdout, e.Output)
		} else {
			said[top].WriteString(e.Output)
		}
	case "pass":
		if e.Test == top && top != "" {
			o.passed[top] = true
		}
	case "skip":
		o.skipped = append(o.skipped, e.Test)
	case "fail", "build-fail":
		o.failed = true
		if e.Test == top {
			_, _ = said[top].WriteTo(stdout)
		}
	}
}

// report prints the suite's line and what is wrong with it, and returns how
// many tests are.
func (o outcome) report(stdout io.Writer, s suite) int {
	where := "in the guest"
	if s.tag != tagGuest {
		where = "from outside"
	}
	missing := slices.DeleteFunc(slices.Clone(s.tests), func(name string) bool { return o.passed[name] })
	bad := len(missing)
	for _, name := range missing {
		fmt.Fprintf(stdout, "FAIL %s: %s has not passed %s\n", s.dir, name, where)
	}
	for _, name := range o.skipped {
		fmt.Fprintf(stdout, "FAIL %s: %s was skipped\n", s.dir, name)
		if o.passed[name] || !slices.Contains(missing, name) {
			bad++
		}
	}
	if o.failed && bad == 0 {
		fmt.Fprintf(stdout, "FAIL %s\n", s.dir)
		bad++
	}
	if bad == 0 {
		fmt.Fprintf(stdout, "ok   %s: %s %s in %.1f s\n", s.dir, strings.Join(slices.Sorted(maps.Keys(o.passed)), ", "), where, o.seconds)
	}
	return bad
}
