// Command window measures for how long a container that writes all the time
// is frozen: the commands docker pause, btrfs subvolume snapshot, docker
// unpause, as a script has them; the same with the engine's API in place of the
// command; our window; and the snapshot ioctl alone, with no container frozen. They
// take turns, so that what else the machine does hits all of them. Then the same
// for crowds of 1, 10 and 50 containers: our window with its guard, docker pause
// and unpause, docker stop and start, these two by the engine's API and for all
// containers at once.
//
//	window [ROUNDS]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

func main() {
	if freeze.IsGuard() {
		os.Exit(freeze.Guard(context.Background(), nil))
	}
	rounds := 40
	if len(os.Args) >= 2 {
		if n, err := strconv.Atoi(os.Args[1]); err == nil {
			rounds = n
		}
	}
	if err := run(context.Background(), os.Stdout, rounds, os.Args[min(2, len(os.Args)):]); err != nil {
		fmt.Fprintln(os.Stderr, "window:", err)
		os.Exit(1)
	}
}

// slow is how often stopping and pausing a crowd takes its turn: with fifty
// containers a round of it takes seconds.
const slow = 10

type bench struct {
	mount   string
	docker  *dockertest.Docker
	id      string
	driver  *btrfs.Driver
	dataset fs.Dataset
	member  freeze.Member
	n       int
}

func run(ctx context.Context, w io.Writer, rounds int, programs []string) (err error) {
	dir, err := os.MkdirTemp("", "snapd-bench-")
	if err != nil {
		return err
	}
	b := &bench{mount: filepath.Join(dir, "btrfs"), driver: btrfs.New()}
	defer func() {
		if b.docker != nil {
			err = errors.Join(err, b.docker.Stop(ctx))
		}
		_ = unix.Unmount(b.mount, unix.MNT_DETACH) // it may not be mounted
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := b.setUp(ctx, dir); err != nil {
		return err
	}
	if len(programs) > 0 {
		return errors.Join(b.docker.Remove(ctx, b.id), b.programs(ctx, w, rounds, programs))
	}
	failed := 0
	times := map[string][]time.Duration{}
	for range rounds {
		for _, way := range []struct {
			name string
			take func(context.Context) (time.Duration, error)
		}{{script, b.script}, {viaAPI, b.viaAPI}, {ours, b.ours}, {alone, b.alone}} {
			took, err := way.take(ctx)
			if errors.Is(err, errPause) {
				failed++
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			times[way.name] = append(times[way.name], took)
		}
	}
	report(w, times)
	if failed > 0 {
		fmt.Fprintf(w, "docker pause failed %d times\n", failed)
	}
	if err := b.docker.Remove(ctx, b.id); err != nil {
		return err
	}
	return b.many(ctx, w, rounds, slow)
}

var errPause = errors.New("docker pause failed")

const (
	script = "docker pause + btrfs subvolume snapshot + docker unpause"
	viaAPI = "the same by the engine's API"
	ours   = "snapd's window"
	alone  = "snapshot ioctl alone, none frozen"
)

func (b *bench) setUp(ctx context.Context, dir string) error {
	image := filepath.Join(dir, "image")
	for _, argv := range [][]string{
		{"truncate", "-s", "4G", image},
		{"mkfs.btrfs", "-q", image},
		{"mkdir", b.mount},
		{"mount", "-o", "loop", image, b.mount},
		{"btrfs", "-q", "subvolume", "create", filepath.Join(b.mount, "data")},
		{"mkdir", filepath.Join(b.mount, "script")},
	} {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	var err error
	if b.docker, err = dockertest.Start(ctx, filepath.Join(dir, "docker")); err != nil {
		return err
	}
	if err := b.docker.ImportBusybox(ctx); err != nil {
		return err
	}
	b.id, err = b.docker.Run(ctx, dockertest.Spec{
		Name: "bench-writer", Mounts: []dockertest.Mount{{Source: filepath.Join(b.mount, "data"), Target: "/data"}},
		Cmd: []string{"sh", "-c", "i=0; while :; do i=$((i+1)); echo \"line $i\" >> /data/log; done"},
	})
	if err != nil {
		return err
	}
	return b.find(ctx)
}

func (b *bench) find(ctx context.Context) error {
	place, err := b.driver.Locate(ctx, filepath.Join(b.mount, "data"))
	if err != nil {
		return err
	}
	b.dataset = place.Dataset
	engine, err := workload.Connect(ctx, b.docker.Host)
	if err != nil {
		return err
	}
	containers, err := engine.Containers(ctx)
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c.ID == b.id {
			b.member = freeze.Member{Kind: freeze.Container, ID: c.ID, Name: c.Name, Cgroup: c.Cgroup, Pid: c.Pid}
		}
	}
	if b.member.Cgroup == "" {
		return errors.New("the container has no cgroup in a v2 tree")
	}
	return engine.Close()
}

// script runs the commands one after the other.
func (b *bench) script(ctx context.Context) (time.Duration, error) {
	docker := func(word string) func() error {
		return func() error {
			return exec.CommandContext(ctx, "docker", "--host", b.docker.Host, word, b.id).Run()
		}
	}
	return b.paused(ctx, docker("pause"), docker("unpause"))
}

func (b *bench) viaAPI(ctx context.Context) (time.Duration, error) {
	return b.paused(ctx,
		func() error { return b.docker.API.ContainerPause(ctx, b.id) },
		func() error { return b.docker.API.ContainerUnpause(ctx, b.id) })
}

func (b *bench) paused(ctx context.Context, pause, unpause func() error) (time.Duration, error) {
	b.n++
	snapshot := filepath.Join(b.mount, "script", strconv.Itoa(b.n))
	unix.Sync() // ours flushes before the window too
	start := time.Now()
	if err := pause(); err != nil {
		// runc gives up now and then, and may leave it frozen (opencontainers/runc#5325).
		_ = unpause()
		return 0, errPause
	}
	err := exec.CommandContext(ctx, "btrfs", "-q", "subvolume", "snapshot", "-r", filepath.Join(b.mount, "data"), snapshot).Run()
	err = errors.Join(err, unpause())
	took := time.Since(start)
	return took, errors.Join(err, exec.CommandContext(ctx, "btrfs", "-q", "subvolume", "delete", snapshot).Run())
}

func (b *bench) ours(ctx context.Context) (time.Duration, error) {
	var timings freeze.Timings
	err := b.prepared(ctx, func(p fs.Prepared) error {
		window, err := freeze.Prepare(ctx, []freeze.Member{b.member}, freeze.Options{Dir: filepath.Dir(b.mount), Deadline: 5 * time.Second})
		if err != nil {
			return err
		}
		timings, err = window.Run(p.Take)
		return errors.Join(err, window.Close())
	})
	return timings.Window, err
}

func (b *bench) alone(ctx context.Context) (time.Duration, error) {
	var took time.Duration
	err := b.prepared(ctx, func(p fs.Prepared) error {
		start := time.Now()
		err := p.Take()
		took = time.Since(start)
		return err
	})
	return took, err
}

// prepared prepares a snapshot, lets take take it, and deletes it.
func (b *bench) prepared(ctx context.Context, take func(fs.Prepared) error) error {
	b.n++
	now := time.Now()
	p, err := b.driver.Prepare(ctx, fs.SnapshotName(now, fmt.Sprintf("%016d", b.n)), []fs.Dataset{b.dataset})
	if err != nil {
		return err
	}
	err = take(p)
	snaps, resultErr := p.Result(ctx)
	err = errors.Join(err, resultErr, p.Close())
	for _, s := range snaps {
		err = errors.Join(err, b.driver.Delete(ctx, s))
	}
	return err
}

func report(w io.Writer, times map[string][]time.Duration) {
	median := map[string]time.Duration{}
	for _, name := range []string{script, viaAPI, ours, alone} {
		t := slices.Sorted(slices.Values(times[name]))
		median[name] = t[len(t)/2]
		fmt.Fprintf(w, "%-58s median %8.2f ms  p99 %8.2f ms  max %8.2f ms  (%d rounds)\n",
			name, ms(t[len(t)/2]), ms(t[len(t)*99/100]), ms(t[len(t)-1]), len(t))
	}
	fmt.Fprintf(w, "the script's / ours: %.1f; ours / the ioctl alone: %.2f (medians)\n",
		float64(median[script])/float64(median[ours]), float64(median[ours])/float64(median[alone]))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
