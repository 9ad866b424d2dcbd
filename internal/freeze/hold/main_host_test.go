//go:build host

package hold_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// These tests take whole restore points of real databases in containers of a
// real engine, on a real Btrfs, as the agent does.

var (
	docker  *dockertest.Docker
	scratch string // for what is made once; databases may look into it
)

const envVictim = "SNAPD_HOLD_VICTIM"

func TestMain(m *testing.M) {
	if text := os.Getenv(envVictim); text != "" {
		fmt.Println(beVictim(text))
		os.Exit(1)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "sh")
	if err == nil {
		scratch, err = os.MkdirTemp("", "sh")
	}
	if err == nil {
		defer os.RemoveAll(scratch)
		err = os.Chmod(scratch, 0o711)
	}
	if err == nil {
		docker, err = dockertest.Start(ctx, dir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() {
		if err := docker.Stop(ctx); err != nil {
			fmt.Println("stop the engine:", err)
			code = 1
		}
	}()
	if err := errors.Join(docker.ImportBusybox(ctx), docker.ImportDatabases(ctx)); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// place is what an agent works on; a victim in another process gets the same.
type place struct {
	Dir, Config, Host string
	Group             string
	Step              string // at which the victim kills itself
	Suspend           int    // process that it makes hang before
}

func (p place) agent(report agent.Report, fault func(string)) (*agent.Agent, error) {
	conf, err := config.Parse("test.toml", []byte(p.Config))
	if err != nil {
		return nil, err
	}
	return agent.New(agent.Options{
		Config: conf, Drivers: map[string]fs.Driver{fs.Btrfs: btrfs.New()},
		State: filepath.Join(p.Dir, "state"), Run: filepath.Join(p.Dir, "run"),
		Now: time.Now, Report: report, Fault: fault,
		Engine: func(ctx context.Context) (*workload.Engine, error) {
			return workload.Connect(ctx, p.Host, workload.WithTimeout(2*time.Second))
		},
		Open: func(context.Context, config.Repository, agent.Report) (*ship.Repository, error) {
			return nil, ship.ErrUnavailable
		},
	})
}

// beVictim takes a point and kills itself at a step.
func beVictim(text string) error {
	var p place
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	a, err := p.agent(nil, func(step string) {
		if step != p.Step {
			return
		}
		if p.Suspend > 0 {
			_ = unix.Kill(p.Suspend, unix.SIGSTOP)
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	})
	if err != nil {
		return err
	}
	_, err = a.Snapshot(context.Background(), []string{p.Group})
	return fmt.Errorf("it never came to %s: %w", p.Step, err)
}

// bench is a Btrfs and an agent.
type bench struct {
	place
	t        testing.TB
	btrfs    string
	warnings []string
	mariaEnv []string // of the servers' containers; nil: the password
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "sh")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, btrfs: filepath.Join(dir, "with space é"), place: place{Dir: dir, Host: docker.Host}}
	image := filepath.Join(dir, "image")
	command(t, "truncate", "-s", "16G", image)
	command(t, "mkfs.btrfs", "-q", image)
	command(t, "mkdir", b.btrfs)
	command(t, "mount", "-o", "loop", image, b.btrfs)
	t.Cleanup(func() {
		command(t, "umount", b.btrfs)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) agent(fault func(string)) *agent.Agent {
	b.t.Helper()
	a, err := b.place.agent(func(e agent.Event) {
		if e.Kind == agent.Warning {
			b.t.Logf("warning: %s", e.Text)
			b.warnings = append(b.warnings, e.Text)
		}
	}, fault)
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// take takes a point that must succeed.
func (b *bench) take() point.Point {
	b.t.Helper()
	points, err := b.agent(nil).Snapshot(b.t.Context(), []string{b.Group})
	if err != nil || len(points) != 1 {
		b.t.Fatalf("snapshot: %d points, %v", len(points), err)
	}
	return points[0]
}

// restore brings a point back from this host's snapshots.
func (b *bench) restore(p point.Point, name string) string {
	b.t.Helper()
	to := filepath.Join(b.btrfs, name)
	if _, err := b.agent(nil).Restore(b.t.Context(), agent.RestoreOptions{
		Point: string(p.ID), To: "btrfs:" + to, Repository: agent.Local,
	}); err != nil {
		b.t.Fatal(err)
	}
	return to
}

func (b *bench) subvolume(name, owner string) string {
	b.t.Helper()
	dir := filepath.Join(b.btrfs, name)
	command(b.t, "btrfs", "subvolume", "create", dir)
	if owner != "" {
		command(b.t, "chown", owner+":"+owner, dir)
		command(b.t, "chmod", "0700", dir)
	}
	return dir
}

// run starts a container that the end of the test removes.
func (b *bench) run(s dockertest.Spec) string {
	b.t.Helper()
	id, err := docker.Run(b.t.Context(), s)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx := context.WithoutCancel(b.t.Context())
	b.t.Cleanup(func() {
		if err := docker.Remove(ctx, id); err != nil && !strings.Contains(err.Error(), "No such container") {
			b.t.Error(err)
		}
	})
	return id
}

func (b *bench) remove(id string) {
	b.t.Helper()
	if err := docker.Remove(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
}

// kill takes a point in another process, which dies at a step, and returns
// when that happened.
func (b *bench) kill(step string, suspend int) time.Time {
	b.t.Helper()
	b.Suspend = suspend
	out, err := b.victim(step).CombinedOutput()
	died := time.Now()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(interface{ Signaled() bool }).Signaled() != true {
		b.t.Fatalf("the victim was not killed at %s: %v\n%s", step, err, out)
	}
	return died
}

// victim is a process that takes a point and kills itself at a step.
func (b *bench) victim(step string) *exec.Cmd {
	b.t.Helper()
	p := b.place
	p.Step = step
	text, err := json.Marshal(p)
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.CommandContext(b.t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envVictim+"="+string(text))
	return cmd
}

func pidOf(t testing.TB, id string) int {
	t.Helper()
	in, err := docker.API.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return in.State.Pid
}

// inside is a path in a container as this host sees it.
func inside(t testing.TB, id, path string) string {
	t.Helper()
	return "/proc/" + strconv.Itoa(pidOf(t, id)) + "/root" + path
}

func command(t testing.TB, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // also while cleaning up
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

func eventually(t testing.TB, within time.Duration, what string, is func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !is() {
		if time.Since(begin) > within {
			t.Fatalf("after %v it is still not so that %s", within, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(begin)
}
