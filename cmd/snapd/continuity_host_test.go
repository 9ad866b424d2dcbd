//go:build host

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/point"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// changed runs the group and wants a point that is marked changed; it returns it.
func (h *host) changed(says string) point.Point {
	h.t.Helper()
	out, errs, status := h.snapd("--json", "run", "shop")
	var doc struct{ Points []point.Point }
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Points) != 1 {
		h.t.Fatalf("%v in %s %s", err, out, errs)
	}
	if status != exitPartial || !strings.Contains(out, "group shop has changed: ") || !strings.Contains(out, says) || !strings.Contains(out, "snapd accept shop") {
		h.t.Errorf("exit status %d, want %d with %q: %s", status, exitPartial, says, out)
	}
	return doc.Points[0]
}

// A group on a real host that silently becomes another one: its dataset is not
// mounted, a subvolume is made anew, a service leaves. Each is said, and pushes out
// no point that has the data.
func TestAGroupThatBecomesAnother(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	begin := func(service, source string) string {
		id, err := docker.Run(t.Context(), dockertest.Spec{
			Name: "shop-" + service + "-1", Signal: "SIGKILL", Mounts: []dockertest.Mount{{Source: source, Target: "/data"}},
			Labels: map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": service, "com.docker.compose.container-number": "1"},
			Cmd:    []string{"sh", "-c", "echo fresh > /data/begun; sleep 1000000"},
		})
		if err != nil {
			t.Fatal(err)
		}
		until(t, service+" has begun", func() bool { _, err := os.Stat(filepath.Join(source, "begun")); return err == nil })
		return id
	}
	end := func(id string) {
		if err := docker.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	disk, web, cache := h.subvolume("the disk"), h.subvolume("web"), h.subvolume("cache")
	mounted := filepath.Join(h.btrfs, "srv/my db")
	if err := os.MkdirAll(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(disk, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mounted, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(mounted, "orders"), []byte("a year of them"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.configure("[group.shop]\ncompose-project = \"shop\"\nfreeze = \"none\"\nkeep = \"3 last\"\nkeep-local = \"1s\"")
	db, front := begin("db", mounted), begin("web", web)
	begin("cache", cache)
	good := h.points("run", "shop")[0]
	if len(good.Items) != 3 || good.Items[1].Member != "db" || good.Items[1].Target != "/data" || good.Items[1].Empty == nil || *good.Items[1].Empty {
		t.Errorf("%+v", good.Items)
	}

	// Not mounted after a boot: the database begins anew on the parent.
	end(db)
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	db = begin("db", mounted)
	var last point.Point
	for range 5 {
		last = h.changed("/data of db was btrfs " + disk)
	}
	if out := h.must("list"); !strings.Contains(out, string(good.ID)) || !strings.Contains(out, "changed") {
		t.Error("the good point is gone, or list does not say which changed")
	}
	if out := h.must("status"); !strings.Contains(out, "changed: /data of db") {
		t.Errorf("status: %s", out)
	}
	back := filepath.Join(h.btrfs, "back")
	h.refused(1, []string{"--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:" + back}, string(last.ID)+" of group shop is changed", string(good.ID)+", taken")
	h.must("--kit", h.path("kit"), "restore", string(good.ID), "--dataset", disk, "--to", "btrfs:"+back)
	if text, err := os.ReadFile(filepath.Join(back, "orders")); err != nil || string(text) != "a year of them" {
		t.Errorf("%q, %v", text, err)
	}
	end(db)
	if err := unix.Mount(disk, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	begin("db", mounted)
	if p := h.points("run", "shop")[0]; len(p.Changed) > 0 {
		t.Errorf("mounted again: %+v", p.Changed)
	}

	// Made anew, and empty.
	end(front)
	command(t, "btrfs", "subvolume", "delete", web)
	begin("web", h.subvolume("web"))
	if p := h.changed("/data of web was made anew"); len(p.Changed) != 1 || p.Changed[0].Is == nil || p.Changed[0].Is.Origin == p.Changed[0].Was.Origin {
		t.Errorf("%+v", p.Changed)
	}
	if out := h.must("accept", "shop"); !strings.Contains(out, "accepted group shop as it is in point ") || !strings.Contains(out, "/data of web was made anew") {
		t.Error(out)
	}
	h.must("run", "shop")

	// A service leaves.
	left, err := docker.API.ContainerInspect(t.Context(), "shop-cache-1")
	if err != nil {
		t.Fatal(err)
	}
	end(left.ID)
	h.changed("/data of cache (btrfs " + cache + ") is not in the group any more")
	h.refused(2, []string{"accept", "shop", "shpo"}, "no such group", "name shop")
	h.must("--json", "accept", "shop")
	h.must("run", "shop")
}
