//go:build host

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheStateDirectoryIsLost: increments go on from what the repository names;
// what it does not is named by status, stays at first sight, and goes a week after.
func TestTheStateDirectoryIsLost(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("my data é")
	h.configure("[group.shop]\npaths = [\"" + data + "\"]\nkeep-local = \"1s\"\nkeep = \"9 last\"")
	shipped := h.points("run", "shop")[0]
	alone := h.points("snapshot", "shop")[0]
	state := h.path("state")
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if p := h.points("run", "shop")[0]; len(p.Shipped) != 1 || p.Shipped[0].Base == nil {
		t.Errorf("after that: %+v", p.Shipped)
	}
	snapshot := func(id string) bool {
		found, err := filepath.Glob(filepath.Join(h.btrfs, ".snapd-agent", "*", "snapd_*_"+id))
		if err != nil {
			t.Fatal(err)
		}
		return len(found) == 1
	}
	// It is too young to be called one: its point might be about to be recorded.
	h.must("prune")
	if out := h.must("status"); strings.Contains(out, string(alone.ID)) {
		t.Error("status names what may be being taken")
	}
	h.renamed(string(alone.ID), 3*time.Hour)
	out := h.must("prune")
	if !strings.Contains(flat(out), "belongs to no restore point: removed after ") || !snapshot(string(alone.ID)) {
		t.Error("at first sight")
	}
	if out := h.must("status"); !strings.Contains(flat(out), "1 snapshot of "+data+" belongs to no restore point") || !strings.Contains(out, string(alone.ID)) {
		t.Error("status does not name it")
	}
	if out, _, _ := h.snapd("doctor"); !strings.Contains(out, "orphaned snapshots") {
		t.Error("doctor does not name it")
	}
	h.seen(8 * 24 * time.Hour)
	if out := h.must("prune", "--dry-run"); !strings.Contains(flat(out), "belongs to no restore point, and was seen first on ") || !snapshot(string(alone.ID)) {
		t.Error("dry run")
	}
	if out, errs, _ := h.snapd("prune"); !strings.Contains(flat(out), "belongs to no restore point, and was seen first on ") ||
		!strings.Contains(flat(errs), "warning: removed the snapshot snapd_") || snapshot(string(alone.ID)) {
		t.Error("after a week")
	}
	if out := h.must("status"); strings.Contains(out, string(alone.ID)) {
		t.Error("status names what is gone")
	}
	if !snapshot(string(shipped.ID)) {
		t.Error("what the repository names is gone")
	}
	back := filepath.Join(h.btrfs, "back")
	h.must("--kit", h.path("kit"), "restore", string(shipped.ID), "--to", "btrfs:"+back)
}

// renamed has the snapshot of a point be called as if it were older, which its
// name alone says.
func (h *host) renamed(id string, by time.Duration) {
	h.t.Helper()
	found, err := filepath.Glob(filepath.Join(h.btrfs, ".snapd-agent", "*", "snapd_*_"+id))
	if err != nil || len(found) != 1 {
		h.t.Fatalf("%q, %v", found, err)
	}
	older := filepath.Join(filepath.Dir(found[0]), "snapd_"+time.Now().Add(-by).UTC().Format("20060102T150405Z")+"_"+id)
	if err := os.Rename(found[0], older); err != nil {
		h.t.Fatal(err)
	}
}

// seen has the orphans be seen first so long ago, and their names say that they
// were taken before that.
func (h *host) seen(by time.Duration) {
	h.t.Helper()
	file := h.path("state/orphans.json")
	text, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil {
		h.t.Fatal(err)
	}
	mine := 0
	for _, o := range doc["orphans"].([]any) {
		o := o.(map[string]any)
		if o["strange"] == true {
			continue // of another test
		}
		mine++
		o["first"] = time.Now().Add(-by).UTC()
		_, id, _ := strings.Cut(strings.TrimPrefix(o["Name"].(string), "snapd_"), "_")
		h.renamed(id, by+time.Hour)
	}
	if text, err = json.Marshal(doc); err != nil || mine != 1 {
		h.t.Fatal(mine, err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}
