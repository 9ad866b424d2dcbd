//go:build host

package main

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"snapd/internal/agent"
	"snapd/internal/point"
	"snapd/internal/workload/dockertest"
)

// A member that its hook starts anew, or that is started anew while it is being
// looked up, is looked up again; the hooks are run once.
func TestAMemberThatIsStartedAnew(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	var mounts []dockertest.Mount
	for _, name := range []string{"a", "b"} {
		mounts = append(mounts, dockertest.Mount{Source: h.subvolume(name), Target: "/" + name})
	}
	id, err := docker.Run(t.Context(), dockertest.Spec{
		Name: "db", Signal: "SIGKILL", Mounts: mounts,
		Labels: map[string]string{"snapd.enable": "true", "snapd.exec.before": "sh -c 'echo x >> /a/hooks'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	again := func() {
		if err := docker.End(context.Background(), id); err != nil {
			t.Error(err)
		}
		if err := docker.Begin(context.Background(), id); err != nil {
			t.Error(err)
		}
	}
	check := func(points []point.Point, err error, hooks int64) {
		t.Helper()
		if err != nil || len(points) != 1 || points[0].Consistency != point.Frozen || len(points[0].Warnings) != 0 {
			t.Errorf("%+v, %v", points, err)
		}
		if size := fileSize(t, filepath.Join(h.btrfs, "a/hooks")); size != 2*hooks {
			t.Errorf("the hook ran %d times, want %d", size/2, hooks)
		}
	}
	points, err := h.inProcess(docker, func(step string) {
		if step == agent.StepBefore {
			again()
		}
	}).Snapshot(t.Context(), []string{"db"})
	check(points, err, 1)

	a := h.inProcess(docker, nil)
	looks := 0
	a.Looked = func([]agent.Schedule) {
		if looks++; looks == 2 { // the second one is that under the window's lock
			again()
		}
	}
	points, err = a.Snapshot(t.Context(), []string{"db"})
	check(points, err, 2)
	if looks != 3 {
		t.Errorf("looked %d times", looks)
	}

	a.Looked = func([]agent.Schedule) { again() }
	before := snapshotsOf(t, h)
	if points, err = a.Snapshot(t.Context(), []string{"db"}); err == nil || len(points) != 0 {
		t.Errorf("one that never comes to rest: %+v, %v", points, err)
	}
	if after := snapshotsOf(t, h); !slices.Equal(before, after) {
		t.Errorf("what was begun is still there: %v, before %v", after, before)
	}
}

func snapshotsOf(t *testing.T, h *host) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{h.btrfs + "/.snapd-agent/*/*", h.path("state/taking/*.json"), h.path("run/window-*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}
