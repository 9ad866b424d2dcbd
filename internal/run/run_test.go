package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/advice"
)

func TestMain(m *testing.M) {
	if os.Getenv("RUN_TEST_STARTS_A_CHILD") != "" {
		startChildAndHang()
	}
	os.Exit(m.Run())
}

// startChildAndHang is the program of TestChildDiesWithUs.
func startChildAndHang() {
	r, err := Pipe(context.Background(), "sh", "-c", "echo $$; exec sleep 1000")
	if err != nil {
		panic(err)
	}
	_, _ = io.Copy(os.Stdout, r)
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), "sh", "-c", `printf '%s|' "$@"; printf %s "$LC_ALL"`, "sh", "a b", "", "$x'\n")
	if want := "a b||$x'\n|C"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestError(t *testing.T) {
	out, err := Output(t.Context(), "sh", "-c", "echo some; echo 'first line\nwhy it failed' >&2; exit 3", "a b")
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if failed.Code != 3 || failed.Stderr != "first line\nwhy it failed\n" || failed.Argv[0] != "sh" || string(out) != "some\n" {
		t.Errorf("got %+v, output %q", failed, out)
	}
	for _, part := range []string{"sh -c", `"a b"`, "exit status 3", "first line; why it failed"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestStderrIsBounded(t *testing.T) {
	_, err := Output(t.Context(), "sh", "-c", "yes 123456789 | head -c 1000000 >&2; echo the end >&2; exit 1")
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if n := len(failed.Stderr); n < stderrLimit || n > stderrLimit+10 || !strings.HasSuffix(failed.Stderr, "the end\n") {
		t.Errorf("kept %d bytes, which end in %q", n, failed.Stderr[n-20:])
	}
}

func TestMissingProgram(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for name, want := range map[string]string{"zfs": "zfsutils-linux", "no-such-program": "not found"} {
		if _, err := lookPath(name); err == nil {
			continue // some machine has it
		}
		_, err := Output(t.Context(), name)
		if err == nil || !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error()+"; "+advice.Of(err), want) {
			t.Errorf("%s: got %v, want ErrNotFound and %q", name, err, want)
		}
	}
}

func TestCancelKillsTheGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := Pipe(ctx, "sh", "-c", "sleep 1000 & echo $!; wait")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	grandchild := readNumber(t, r)
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	waitGone(t, grandchild)
	if _, err := Output(ctx, "true"); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancellation: got %v, want Canceled", err)
	}
}

func TestInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	if err := Input(t.Context(), bytes.NewReader(want), "sh", "-c", `cat > "$0"`, file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

// A program whose input fails must not take it for complete.
func TestInputThatFails(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "complete")
	broken := errors.New("broken")
	stdin := io.MultiReader(strings.NewReader("half of it\n"), failing{broken})
	err := Input(t.Context(), stdin, "sh", "-c", `cat > /dev/null; touch "$0"`, mark)
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program saw a clean end (%v)", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// What a program that stops reading says matters, not that it did.
func TestInputNotWanted(t *testing.T) {
	endless := io.LimitReader(zeros{}, 1<<30)
	err := Input(t.Context(), endless, "sh", "-c", "echo no room >&2; exit 4")
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != 4 || failed.Stderr != "no room\n" {
		t.Errorf("got %v", err)
	}
	if err := Input(t.Context(), io.LimitReader(zeros{}, 1<<30), "head", "-c", "1"); err != nil {
		t.Errorf("a program that is content with less: got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPipe(t *testing.T) {
	r, err := Pipe(t.Context(), "sh", "-c", "echo hello")
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil || string(out) != "hello\n" {
		t.Errorf("got %q, %v", out, err)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Errorf("close twice: %v", err)
	}
}

// The last Read tells the exit status; io.EOF means success only.
func TestPipeThatFails(t *testing.T) {
	for name, script := range map[string]string{"exits": "echo hello; exit 5", "is killed": "echo hello; kill -9 $$"} {
		r, err := Pipe(t.Context(), "sh", "-c", script)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(r)
		var failed *Error
		if string(out) != "hello\n" || !errors.As(err, &failed) {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
		if _, again := r.Read(make([]byte, 1)); !errors.Is(again, err) {
			t.Errorf("%s: the next Read gives %v", name, again)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPipeClosedEarly(t *testing.T) {
	before := runtime.NumGoroutine()
	r, err := Pipe(t.Context(), "sh", "-c", "echo $$; exec cat /dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	pid := readNumber(t, r)
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	waitGone(t, pid)
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, and %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestChildDiesWithUs(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "RUN_TEST_STARTS_A_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := readNumber(t, out)
	// Threads that idle end; the child must outlive those.
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child is gone too early: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, pid)
}

// The thread that is prepared for a program serves nothing else afterwards.
func TestThread(t *testing.T) {
	prepared := 0
	p := Program{Argv: []string{"sh", "-c", "echo done"}, Thread: func() error { prepared = syscall.Gettid(); return nil }}
	if out, err := p.Output(t.Context()); err != nil || string(out) != "done\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	if prepared == os.Getpid() {
		t.Error("the main thread was used, and it cannot end")
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(prepared)); errors.Is(err, os.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the thread is still there")
		}
		runtime.Gosched()
	}
	broken := errors.New("broken")
	p.Thread = func() error { return broken }
	if _, err := p.Output(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
}

// readNumber reads one line and nothing more.
func readNumber(t *testing.T, r io.Reader) int {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatal(err)
		}
		if b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	n, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// waitGone waits until a process has ended. An orphan may stay as a zombie
// where the first process of a container reaps nothing.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs: %s", pid, stat)
		}
		runtime.Gosched()
	}
}
