package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// activated is a host whose socket starts the agent, as systemd does it: the
// socket stays, and a call that connects while no agent runs has one started.
type activated struct {
	t      *testing.T
	dir    string // run directory
	held   *os.File
	idle   time.Duration
	starts atomic.Int32
	mu     sync.Mutex
	agent  *os.Process // nil when none runs
	said   bytes.Buffer
	stop   chan struct{}
	ended  chan struct{}
}

func activate(t *testing.T, configuration string, idle time.Duration) *activated {
	t.Helper()
	dir, err := os.MkdirTemp("", "serve") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	a := &activated{t: t, dir: dir, idle: idle, stop: make(chan struct{}), ended: make(chan struct{})}
	a.configure(configuration)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, socketName), 0o660); err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if a.held, err = l.File(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	go a.systemd()
	t.Cleanup(func() {
		close(a.stop)
		<-a.ended
		a.held.Close()
		if t.Failed() {
			t.Logf("the agents said:\n%s", a.said.String())
		}
		os.RemoveAll(dir)
	})
	return a
}

func (a *activated) path(name string) string { return filepath.Join(a.dir, name) }

func (a *activated) configure(text string) {
	a.t.Helper()
	aside := a.path("new.toml")
	if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(aside, a.path("snapd.toml")); err != nil {
		a.t.Fatal(err)
	}
}

func (a *activated) systemd() {
	defer close(a.ended)
	for {
		select {
		case <-a.stop:
			return
		default:
		}
		fds := []unix.PollFd{{Fd: int32(a.held.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 20); n > 0 {
			a.run()
		}
	}
}

// run starts one agent and waits for its end.
func (a *activated) run() {
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec snapd "$@"`, "sh",
		"--config", a.path("snapd.toml"), "--state-dir", a.path("state"), "--run-dir", a.dir, "serve", "--idle", a.idle.String())
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "DOCKER_HOST=unix://"+a.dir+"/no-engine.sock")
	cmd.ExtraFiles = []*os.File{a.held}
	cmd.Stderr = &a.said
	if err := cmd.Start(); err != nil {
		a.t.Error(err)
		return
	}
	a.starts.Add(1)
	a.mu.Lock()
	a.agent = cmd.Process
	a.mu.Unlock()
	quit := make(chan struct{})
	go func() {
		select {
		case <-a.stop:
			_ = cmd.Process.Signal(syscall.SIGTERM)
		case <-quit:
		}
	}()
	err := cmd.Wait()
	close(quit)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.agent = nil
	if err != nil {
		a.t.Errorf("the agent: %v", err)
	}
}

func (a *activated) running() *os.Process {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.agent
}

func (a *activated) awaitGone() {
	a.t.Helper()
	for end := time.Now().Add(20 * time.Second); a.running() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			a.t.Fatal("the agent does not end")
		}
	}
}

// snapd calls the program, which finds the agent by its run directory.
func (a *activated) snapd(words ...string) (stdout, stderr string, status int) {
	cmd := exec.CommandContext(a.t.Context(), "snapd", append([]string{"--run-dir", a.dir}, words...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		a.t.Error(err)
		return "", "", -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

const oneGroup = "[group.shop]\npaths = [\"/srv\"]\n"

// TestTheSocketStartsTheAgent: fifty callers at once share one, it ends when
// idle, and the next call has another one started.
func TestTheSocketStartsTheAgent(t *testing.T) {
	a := activate(t, oneGroup, 500*time.Millisecond)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			out, errs, status := a.snapd("status", "--json")
			if status != 0 || !strings.Contains(out, `"group":"shop"`) {
				t.Errorf("exit status %d: %s%s", status, out, errs)
			}
		})
	}
	all.Wait()
	a.awaitGone()
	first := a.starts.Load()
	if out, errs, status := a.snapd("list"); status != 0 || !strings.HasPrefix(out, "No restore points") {
		t.Errorf("exit status %d: %s%s", status, out, errs)
	}
	if a.starts.Load() != first+1 {
		t.Errorf("%d agents were started, then %d", first, a.starts.Load())
	}
	a.awaitGone()
	if first > 5 {
		t.Errorf("%d agents for fifty callers at once", first)
	}
}

// TestCallsAroundTheIdleMoment: agents that end after a few milliseconds, and
// callers all the time. Every call is answered.
func TestCallsAroundTheIdleMoment(t *testing.T) {
	a := activate(t, oneGroup, 3*time.Millisecond)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 10 {
				if out, errs, status := a.snapd("status", "--json"); status != 0 {
					t.Errorf("caller %d, call %d: exit status %d: %s%s", i, n, status, out, errs)
				}
			}
		})
	}
	all.Wait()
	t.Logf("40 calls, %d agents", a.starts.Load())
	if a.starts.Load() < 5 {
		t.Error("too few agents ended for this to show anything")
	}
}

func TestAWrongConfiguration(t *testing.T) {
	a := activate(t, "[group.shop]\npaths = [\"/srv\"]\nfreze = \"auto\"\n", time.Minute)
	refused := func(words ...string) {
		t.Helper()
		_, errs, status := a.snapd(words...)
		if status != exitUsage || !strings.Contains(errs, "snapd.toml:3: group.shop.freze: no such key\nWhat to do: write \"freeze\", if that is meant") {
			t.Errorf("snapd %v: exit status %d: %s", words, status, errs)
		}
	}
	refused("status")
	refused("list")
	first := a.running()
	a.configure(oneGroup)
	if out, errs, status := a.snapd("status"); status != 0 || !strings.Contains(out, "shop") {
		t.Fatalf("after it was corrected: exit status %d: %s%s", status, out, errs)
	}
	// Wrong again: the old one stays in force, and every caller is told.
	a.configure(oneGroup + "freze = \"auto\"\n")
	out, errs, status := a.snapd("status")
	if status != 0 || !strings.Contains(out, "shop") || !strings.Contains(errs, "stays in force") || !strings.Contains(errs, "no such key") {
		t.Errorf("while it is wrong: exit status %d: %s%s", status, out, errs)
	}
	_, errs, status = a.snapd("reload")
	if os.Geteuid() != 0 {
		if status == 0 || !strings.Contains(errs, "only root") {
			t.Errorf("reload by an ordinary user: exit status %d: %s", status, errs)
		}
		return
	}
	if status != exitUsage || !strings.Contains(errs, "no such key") {
		t.Errorf("reload of a wrong one: exit status %d: %s", status, errs)
	}
	a.configure(oneGroup + "[group.other]\npaths = [\"/opt\"]\n")
	if _, errs, status = a.snapd("reload"); status != 0 {
		t.Errorf("reload: exit status %d: %s", status, errs)
	}
	if out, errs, _ = a.snapd("status"); !strings.Contains(out, "other") || errs != "" {
		t.Errorf("after the reload: %s%s", out, errs)
	}
	if a.running() != first {
		t.Error("another agent runs than in the beginning")
	}
}

func TestTheAgentEndsWhenItIsTold(t *testing.T) {
	a := activate(t, oneGroup, time.Hour)
	if _, errs, status := a.snapd("status"); status != 0 {
		t.Fatalf("exit status %d: %s", status, errs)
	}
	if err := a.running().Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.awaitGone()
}

func TestServeWithoutASocket(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "snapd", "--json", "serve")
	out, err := cmd.Output()
	var doc struct {
		Error struct{ What, Why string } `json:"error"`
	}
	if e := json.Unmarshal(out, &doc); err == nil || e != nil || cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(doc.Error.Why, "snapd-agent.socket") {
		t.Errorf("%v %v: %s", err, e, out)
	}
}

// TestWhoAnswers: the agent does, unless the caller brings something of their own.
func TestWhoAnswers(t *testing.T) {
	a := activate(t, oneGroup, time.Minute)
	own := filepath.Join(t.TempDir(), "own.toml")
	if err := os.WriteFile(own, []byte("[group.mine]\npaths = [\"/srv\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+t.TempDir()+"/no-engine.sock")
	for want, words := range map[string][]string{
		"shop": {"status"},
		"mine": {"status", "--config", own, "--state-dir", t.TempDir()},
	} {
		out, errs, status := a.snapd(words...)
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("snapd %v: exit status %d: %s%s", words, status, out, errs)
		}
	}
	// A socket that no agent serves any more is as good as none.
	dead, err := os.MkdirTemp("", "dead")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dead)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dead, socketName)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	cmd := exec.CommandContext(t.Context(), "snapd", "--run-dir", dead, "show", "nothing")
	out, _ := cmd.CombinedOutput()
	if s := string(out); !strings.Contains(s, "no such restore point") && !strings.Contains(s, "only root") {
		t.Errorf("with a dead socket: %s", out)
	}
}

func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "snapd.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "kmsg")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	generate := func(out string) (string, error) {
		if err := os.MkdirAll(out, 0o755); err != nil {
			t.Fatal(err)
		}
		said, err := exec.CommandContext(t.Context(), "snapd", "--config", conf, "--run-dir", dir, "generate", "--log", log, "--", out, out, out).CombinedOutput()
		return string(said), err
	}
	write(`[repository.main]
url = "file:///srv/my backups 100%25"
encryption = "none"
[group.shop]
paths = ["/srv"]
schedule = "Mon..Fri 22:00"
[group.often]
paths = ["/srv"]
schedule = "*:0/5"
[group.never]
paths = ["/srv"]
`)
	// What a killed window left is not its business.
	left := filepath.Join(dir, "window-999999-0")
	if err := os.WriteFile(left, []byte("snapd-window-2 prepared\n\n{\"pid\":999999,\"members\":[]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	if said, err := generate(out); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	for file, want := range map[string]string{
		"snapd-agent-run@shop.timer":                      "OnCalendar=Mon..Fri 22:00\n",
		"timers.target.wants/snapd-agent-run@shop.timer":  "RandomizedDelaySec=5min\n",
		"snapd-agent-run@often.timer":                     "RandomizedDelaySec=10s\n",
		"snapd-agent.service.d/50-repositories.conf":      `ReadWritePaths="-/srv/my backups 100%%"` + "\n",
		"timers.target.wants/snapd-agent-run@often.timer": "Persistent=true\n",
	} {
		text, err := os.ReadFile(filepath.Join(out, file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v: no %q in\n%s", file, err, want, text)
		}
	}
	if _, err := os.Stat(filepath.Join(out, "snapd-agent-run@never.timer")); err == nil {
		t.Error("a group without a schedule has a timer")
	}
	if _, err := os.Stat(left); err != nil {
		t.Error(err)
	}
	// Wrong: it says so, fails, and goes by what was good last.
	text := fmt.Sprintf(`{"timers":[{"group":"shop","calendar":"daily","source":%q},{"group":"x\ny","calendar":"daily"},{"group":"evil","calendar":"daily\nOnBootSec=1"}]}`, conf)
	if err := os.WriteFile(filepath.Join(dir, timersName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	write("[group.shop]\nschedul = \"hourly\"\n")
	out = filepath.Join(dir, "out2")
	said, err := generate(out)
	if err == nil || !strings.Contains(said, "schedul: no such key") || !strings.Contains(said, "timers of the last good one stay") || !strings.Contains(said, "not the name of a group") || !strings.Contains(said, "not a calendar expression") {
		t.Errorf("%v: %s", err, said)
	}
	// Who looks into the journal finds file, line and key, and no more was said before.
	logged, err := os.ReadFile(log)
	if lines := strings.Split(string(logged), "\n"); err != nil || !regexp.MustCompile(`^<27>snapd-agent-generator\[\d+\]: .*`+regexp.QuoteMeta(conf)+`:2: .*schedul: no such key`).MatchString(lines[0]) {
		t.Errorf("logged %q, %v", logged, err)
	}
	files, _ := filepath.Glob(filepath.Join(out, "*.timer"))
	if len(files) != 1 || filepath.Base(files[0]) != "snapd-agent-run@shop.timer" {
		t.Errorf("generated %v", files)
	}
}
