package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/doctor"
	"snapd/internal/plan"
	"snapd/internal/point"
)

// nasty is what others may write: it retitles a terminal, moves its cursor by both
// kinds of control characters, turns the direction of writing, and looks like a
// line of ours.
const nasty = "n\x1b]0;title\a\u009b2J\u202e\x7f\r\t\nforged: line\n  forged: line\x9b1m"

// fill puts nasty into every text of a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(nasty)
	case reflect.Pointer:
		if v.Type() == reflect.TypeFor[*time.Time]() {
			v.Set(reflect.ValueOf(new(time.Unix(1e9, 0))))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Struct:
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field)
			}
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	}
}

func filled[T any]() (v T) {
	fill(reflect.ValueOf(&v).Elem())
	return v
}

// hostile is an agent in whose answers every text is nasty.
type hostile struct{ report agent.Report }

func (h hostile) tell() error {
	h.report(agent.Event{Kind: agent.Warning, Group: nasty, Text: nasty, Do: nasty})
	h.report(agent.Event{Kind: agent.Progress, Group: nasty, Text: nasty, Bytes: 1, Total: 2})
	return advice.With(errors.Join(fmt.Errorf("hook of %s: %w", nasty, errors.New(nasty)), errors.New(nasty)), "%s", nasty)
}

func (h hostile) Do(context.Context, []string, agent.Steps) (agent.Done, error) {
	return filled[agent.Done](), h.tell()
}

func (h hostile) Prune(context.Context, []string, bool) (agent.Pruned, error) {
	return filled[agent.Pruned](), h.tell()
}

func (h hostile) List(context.Context, string) ([]point.Point, error) {
	return filled[[]point.Point](), h.tell()
}

func (h hostile) Show(context.Context, string) (point.Point, error) {
	_ = h.tell()
	return filled[point.Point](), nil
}

func (h hostile) Status(context.Context) (agent.Status, error) {
	_ = h.tell()
	return filled[agent.Status](), nil
}

// serveHostile answers on the agent's socket of a run directory.
func serveHostile(t *testing.T) (runDir string) {
	t.Helper()
	runDir, err := os.MkdirTemp("", "snapd")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(runDir, socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	server := api.NewServer(api.Options{
		Calls:  func(report agent.Report) (api.Calls, error) { return hostile{report}, nil },
		Caller: func(*net.UnixConn) (api.Caller, error) { return api.Caller{Root: true}, nil },
		Idle:   time.Hour, Tick: time.Hour,
	})
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(runDir); err != nil {
			t.Error(err)
		}
	})
	return runDir
}

// checkHarmless looks at what was printed.
func checkHarmless(t *testing.T, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("it is no UTF-8: %q", text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("a control character at %d: %q", i, text)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "forged") {
			t.Errorf("text of others begins a line: %q", text)
		}
	}
}

// TestNothingHarmfulIsPrinted: whatever an agent answers, and whatever files and
// arguments are called, no command prints a control character, and only commands
// begin lines.
func TestNothingHarmfulIsPrinted(t *testing.T) {
	runDir := serveHostile(t)
	dir := filepath.Join(t.TempDir(), strings.ReplaceAll(nasty, "/", ""))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "none.sock"))
	own := []string{"--config", filepath.Join(dir, "snapd.toml"), "--state-dir", filepath.Join(dir, "state"), "--run-dir", filepath.Join(dir, "run")}
	conf := fmt.Sprintf("[repository.main]\nurl = %s\nencryption = \"none\"\nsigning-key-file = %s\n[group.shop]\npaths = [%s]\n",
		quoted(t, "file://"+filepath.Join(t.TempDir(), "none")), quoted(t, filepath.Join(dir, "key")), quoted(t, dir))
	if err := os.WriteFile(own[1], []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	answered := [][]string{
		{"run", "shop"}, {"snapshot", "shop"}, {"ship"}, {"prune"}, {"list"}, {"list", nasty}, {"show", nasty}, {"status"},
	}
	here := [][]string{
		{"doctor"},
		{"verify", nasty},
		{"repair", nasty},
		{"restore", nasty, "--to", "btrfs:" + dir},
		{"ls", nasty},
		{"ls", "latest:" + nasty},
		{"cat", nasty + ":" + nasty},
		{"cp", nasty + ":" + nasty, nasty},
		{"diff", nasty, nasty},
		{"mount", nasty, nasty},
		{"drop", nasty},
		{"pin", nasty},
		{"unpin", nasty},
		{"accept", nasty},
		{"adopt", nasty},
		{"init", "--kit", filepath.Join(dir, "kit")},
		{"thaw"},
		{"serve"},
		{nasty},
		{"list", "--" + nasty},
		{"status"},
		{"run", nasty},
		{"list"},
		{"version"},
		{"--help"},
	}
	for _, json := range []bool{false, true} {
		for _, words := range answered {
			drive(t, json, append([]string{"--run-dir", runDir}, words...), true)
		}
		drive(t, json, []string{"--run-dir", runDir, "run", nasty}, false)
		for _, words := range here {
			drive(t, json, append(slices.Clone(own), words...), false)
		}
	}
}

func drive(t *testing.T, asJSON bool, args []string, answers bool) {
	t.Helper()
	if asJSON {
		args = append([]string{"--json"}, args...)
	}
	t.Run(fmt.Sprintf("%q", args[len(args)-1]), func(t *testing.T) {
		var out, errs bytes.Buffer
		status := run(t.Context(), args, &out, &errs)
		t.Logf("snapd %q: status %d\n%s%s", args, status, &out, &errs)
		checkHarmless(t, out.String())
		checkHarmless(t, errs.String())
		if answers && (!strings.Contains(out.String(), `\u001b]0;title`) || !strings.Contains(errs.String(), `warning: n\u001b]0;title`)) {
			t.Errorf("what the agent answers is not printed")
		}
		if asJSON && out.Len() > 0 && slices.Index(args, "--help") < 0 {
			var doc map[string]any
			if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
				t.Errorf("%v: no document: %q", err, out.String())
			}
		}
	})
}

// quoted is a text as the configuration has it.
func quoted(t *testing.T, s string) string {
	t.Helper()
	out, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(out), "\x7f", `\u007f`)
}

// TestWhatIsPrintedOfResults are those that no agent answers on a socket.
func TestWhatIsPrintedOfResults(t *testing.T) {
	var out bytes.Buffer
	c := &cli{stdout: &out, stderr: &out, screen: newScreen(&out, time.Now), now: time.Now}
	c.showChecks(filled[[]doctor.Check]())
	c.showAccepted(filled[agent.Accepted]())
	c.say(repairLine(filled[agent.Repair]()))
	for _, f := range []agent.Freed{filled[agent.Freed]()} {
		c.say(freed(f, true))
	}
	c.say(filled[plan.Plan]().Why)
	if !strings.Contains(out.String(), `\u202e`) {
		t.Errorf("not printed: %q", out.String())
	}
	checkHarmless(t, out.String())
}

// TestTheBarNamesOthers: a bar moves the cursor, and what it names does not.
func TestTheBarNamesOthers(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1e9, 0)
	s := newScreen(&out, func() time.Time { return now })
	s.terminal = true
	until := time.Now().Add(5 * time.Second) // it draws by the real clock
	for n := int64(1); out.Len() == 0 && time.Now().Before(until); n++ {
		s.report(agent.Event{Kind: agent.Progress, Text: nasty, Bytes: n, Total: 1 << 40})
		now = now.Add(time.Second)
		time.Sleep(time.Millisecond)
	}
	if text := out.String(); strings.Contains(text, "\x1b]0") || strings.Contains(text, "\u202e") || !strings.Contains(text, `\u001b]0;title`) {
		t.Errorf("the bar is %q", text)
	}
}

// TestOneWayOut: commands print by the functions of output.go and table.go alone,
// which are the ones that keep text of others within its line.
func TestOneWayOut(t *testing.T) {
	may := map[string]bool{
		"main": true, "run": true, // they make the writers
		"print": true, "errs": true, "table": true, "warn": true, "newBar": true, // they are the way
		"showKit":       true, // its lines are those of the file
		"printDocument": true, // JSON
		"serveCommand":  true, // hands standard error to the logger
		"newScreen":     true,
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || may[f.Name.Name] {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"stdout", "stderr", "Stdout", "Stderr", "OutOrStdout", "OutOrStderr", "ErrOrStderr", "Println", "Printf", "PrintErrln"}, s.Sel.Name) {
					t.Errorf("%s: %s uses %s: print by print, errs, say or table", name, f.Name.Name, s.Sel.Name)
				}
				return true
			})
		}
	}
}
