package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/workload/dockertest"
)

// programs measures what whole programs say of their windows: all that a run does
// while a container is frozen is in it, also its looks at who else writes. Each
// program has a state directory of its own; they take turns.
func (b *bench) programs(ctx context.Context, w io.Writer, rounds int, files []string) (err error) {
	c := &crowd{bench: b}
	defer func() {
		for _, id := range c.ids {
			err = errors.Join(err, b.docker.Remove(context.WithoutCancel(ctx), id))
		}
	}()
	if err := os.Setenv("DOCKER_HOST", b.docker.Host); err != nil { // the programs inherit it
		return err
	}
	config := filepath.Join(filepath.Dir(b.mount), "snapd.toml")
	for _, n := range []int{1, 10, 50} {
		if err := c.grow(ctx, n); err != nil {
			return err
		}
		times, err := c.turns(ctx, config, rounds, files)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\ncontainers writing: %d\n", n)
		for _, file := range files {
			line(w, file, times[file])
		}
		if len(files) == 2 {
			fmt.Fprintf(w, "second / first: %.2f (medians)\n", median(times[files[1]])/median(times[files[0]]))
		}
	}
	return nil
}

// turns has the programs take points of all the containers, one after the other.
func (c *crowd) turns(ctx context.Context, config string, rounds int, files []string) (map[string][]time.Duration, error) {
	var names []string
	for i := range c.ids {
		names = append(names, fmt.Sprintf("%q", crowdName(i)))
	}
	text := fmt.Sprintf("[group.crowd]\ncontainers = [%s]\nfreeze = \"freeze\"\nkeep = \"2 last\"\n", strings.Join(names, ", "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	times := map[string][]time.Duration{}
	for range rounds {
		for i, file := range files {
			t, err := c.point(ctx, file, config, fmt.Sprint(filepath.Dir(c.mount), "/program", i))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			times[file] = append(times[file], t)
		}
	}
	return times, nil
}

func median(times []time.Duration) float64 {
	return ms(slices.Sorted(slices.Values(times))[len(times)/2])
}

// point is the window of one point that a program takes; it and its snapshot are
// removed again.
func (c *crowd) point(ctx context.Context, file, config, dir string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, file, "--config", config, "--state-dir", dir+"/state", "--run-dir", dir+"/run", "--json", "snapshot", "crowd")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%w: %s%s", err, &errs, out)
	}
	var doc struct {
		Points []struct {
			Consistency string
			WindowUS    int64 `json:"window_us"`
			Members     []any
			Datasets    []struct{ Snapshot string }
		}
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return 0, err
	}
	if len(doc.Points) != 1 || doc.Points[0].Consistency != "frozen" || len(doc.Points[0].Members) != len(c.ids) {
		return 0, fmt.Errorf("this is no point of %d frozen containers: %s", len(c.ids), out)
	}
	prune := exec.CommandContext(ctx, file, "--config", config, "--state-dir", dir+"/state", "--run-dir", dir+"/run", "prune")
	if out, err := prune.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("prune: %w: %s", err, out)
	}
	return time.Duration(doc.Points[0].WindowUS) * time.Microsecond, nil
}

// start is a container of the crowd.
func (c *crowd) start(ctx context.Context, name string) (string, error) {
	return c.docker.Run(ctx, dockertest.Spec{
		Name: name, Mounts: []dockertest.Mount{{Source: filepath.Join(c.mount, "data"), Target: "/data"}},
		Cmd: []string{"sh", "-c", write, name},
	})
}
