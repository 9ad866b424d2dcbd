//go:build host

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"snapd/internal/point"
	"snapd/internal/workload/dockertest"
)

// TestShowSaysWhoAgreed takes a point with a lock and hooks, the last of which
// fails, and looks at it here and in the repository.
func TestShowSaysWhoAgreed(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	_, err := docker.Run(t.Context(), dockertest.Spec{
		Name: "app", Mounts: []dockertest.Mount{{Source: h.subvolume("app"), Target: "/data"}},
		Labels: map[string]string{
			"snapd.enable": "true", "snapd.hold": "sh -c 'echo I have it; cat'",
			"snapd.exec.before": "echo a dump", "snapd.exec.after": "sh -c 'echo no room; exit 9'",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	out, errs, status := h.snapd("--json", "run", "app")
	if status != exitPartial || !strings.Contains(errs+out, "status 9; it said: no room") {
		t.Errorf("exit status %d", status)
	}
	var doc pointsDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Points) != 1 {
		t.Fatalf("%d points, %v", len(doc.Points), err)
	}
	p := doc.Points[0]
	if p.Consistency != point.Quiesced || p.HeldUS == 0 || p.Timings.Hold == 0 || len(p.Quiesced) != 1 || len(p.Hooks) != 2 || p.Hooks[0].Output != "a dump\n" {
		t.Errorf("%s, held %d, %+v, %+v", p.Consistency, p.HeldUS, p.Quiesced, p.Hooks)
	}
	for _, from := range [][]string{{}, {"--kit", h.path("kit")}} {
		shown := h.must(append(from, "show", string(p.ID))...)
		for _, says := range []string{"quiesced", `its hold command said "I have it"`, "held", "before, in container app: done in", "after, in container app: status 9", "no room"} {
			if !strings.Contains(shown, says) {
				t.Errorf("show %v does not say %q", from, says)
			}
		}
	}
	if said := h.must("thaw"); !strings.Contains(said, "Nothing was left") {
		t.Errorf("thaw: %s", said)
	}
}
