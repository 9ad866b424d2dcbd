package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/workload"

	"golang.org/x/sys/unix"
)

// crowd are containers that write all the time, without fsync, each to a file
// of its own on one subvolume. They end when they are told to.
type crowd struct {
	*bench
	ids     []string
	members []freeze.Member
}

// write ends at SIGTERM, as a well-behaved server does.
const write = `trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo "line $i" >>/data/$0; done`

// many measures windows over growing crowds; few is how often the slow ways
// take their turn.
func (b *bench) many(ctx context.Context, w io.Writer, rounds, few int) (err error) {
	c := &crowd{bench: b}
	defer func() {
		for _, id := range c.ids {
			err = errors.Join(err, b.docker.Remove(context.WithoutCancel(ctx), id))
		}
	}()
	for _, n := range []int{1, 10, 50} {
		if err := c.grow(ctx, n); err != nil {
			return err
		}
		if err := c.measure(ctx, w, rounds, few); err != nil {
			return err
		}
	}
	return nil
}

func crowdName(i int) string { return fmt.Sprintf("crowd-%02d", i) }

func (c *crowd) grow(ctx context.Context, n int) error {
	for len(c.ids) < n {
		id, err := c.start(ctx, crowdName(len(c.ids)))
		if err != nil {
			return err
		}
		c.ids = append(c.ids, id)
	}
	return nil
}

// look finds the containers as members: a container that was stopped and started
// is another process now.
func (c *crowd) look(ctx context.Context) error {
	engine, err := workload.Connect(ctx, c.docker.Host)
	if err != nil {
		return err
	}
	defer engine.Close() //nolint:errcheck // only asked
	all, err := engine.Containers(ctx)
	if err != nil {
		return err
	}
	c.members = nil
	for _, x := range all {
		if slices.Contains(c.ids, x.ID) {
			c.members = append(c.members, freeze.Member{Kind: freeze.Container, ID: x.ID, Name: x.Name, Cgroup: x.Cgroup, Pid: x.Pid})
		}
	}
	if len(c.members) != len(c.ids) {
		return fmt.Errorf("%d of %d containers are there", len(c.members), len(c.ids))
	}
	return nil
}

func (c *crowd) measure(ctx context.Context, w io.Writer, rounds, few int) error {
	times := map[string][]time.Duration{}
	failed := 0
	turn := func(name string, still, again func(context.Context, string) error) error {
		took, err := c.engineWindow(ctx, still, again)
		if errors.Is(err, errPause) {
			failed++
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		times[name] = append(times[name], took)
		return nil
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	every := max(1, rounds/few)
	for round := range rounds {
		t, err := c.window(ctx)
		if err != nil {
			return fmt.Errorf("our window: %w", err)
		}
		times["snapd's window"] = append(times["snapd's window"], t.Window)
		times["  of it freeze and thaw"] = append(times["  of it freeze and thaw"], t.Freeze+t.Thaw)
		if round%every != 0 {
			continue
		}
		if err := turn("docker pause, snapshot, unpause", c.docker.API.ContainerPause, c.docker.API.ContainerUnpause); err != nil {
			return err
		}
		if err := turn("docker stop, snapshot, start", c.docker.End, c.docker.Begin); err != nil {
			return err
		}
		if err := c.look(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\ncontainers writing: %d\n", len(c.ids))
	for _, name := range []string{"snapd's window", "  of it freeze and thaw", "docker pause, snapshot, unpause", "docker stop, snapshot, start"} {
		line(w, name, times[name])
	}
	if failed > 0 {
		fmt.Fprintf(w, "windows in which docker pause failed: %d\n", failed)
	}
	return nil
}

// window is one of ours, with its guard.
func (c *crowd) window(ctx context.Context) (timings freeze.Timings, err error) {
	err = c.prepared(ctx, func(p fs.Prepared) error {
		w, err := freeze.Prepare(ctx, c.members, freeze.Options{Dir: filepath.Dir(c.mount), Deadline: 5 * time.Second, Guard: true})
		if err != nil {
			return err
		}
		timings, err = w.Run(p.Take)
		return errors.Join(err, w.Close())
	})
	return timings, err
}

// engineWindow has the engine pause or stop all at once, as a good script would.
func (c *crowd) engineWindow(ctx context.Context, still, again func(context.Context, string) error) (time.Duration, error) {
	var took time.Duration
	err := c.prepared(ctx, func(p fs.Prepared) error {
		unix.Sync() // ours flushes before the window too
		begin := time.Now()
		failed := c.atOnce(ctx, still)
		err := p.Take()
		for range 3 { // runc gives up now and then (opencontainers/runc#5325)
			if left := c.atOnce(ctx, again); left == nil || failed != nil {
				break
			}
		}
		took = time.Since(begin)
		if failed != nil {
			return errPause
		}
		return err
	})
	return took, err
}

func (c *crowd) atOnce(ctx context.Context, do func(context.Context, string) error) error {
	errs := make([]error, len(c.ids))
	var all sync.WaitGroup
	for i, id := range c.ids {
		all.Go(func() { errs[i] = do(ctx, id) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func line(w io.Writer, name string, times []time.Duration) {
	t := slices.Sorted(slices.Values(times))
	if len(t) == 0 {
		return
	}
	fmt.Fprintf(w, "%-34s median %9.2f ms  p99 %9.2f ms  max %9.2f ms  (%d rounds)\n",
		name, ms(t[len(t)/2]), ms(t[len(t)*99/100]), ms(t[len(t)-1]), len(t))
}
