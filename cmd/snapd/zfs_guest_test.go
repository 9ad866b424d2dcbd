//go:build guest

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
	"snapd/internal/vmtest"
)

// zhost is a host of its own on ZFS: a pool on a file, state, a repository and
// a configuration with one group. Commands run on it as a user types them.
type zhost struct {
	t    *testing.T
	dir  string
	pool string
}

func newZHost(t *testing.T) *zhost {
	t.Helper()
	vmtest.Inside(t)
	h := &zhost{t: t, dir: t.TempDir()}
	h.pool = fmt.Sprint("p", time.Now().UnixNano()%1_000_000_000)
	file := h.path("disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		t.Fatal(err)
	}
	h.sh("zpool", "create", "-O", "mountpoint=/mnt/"+h.pool, "-O", "xattr=sa", "-O", "acltype=posix", h.pool, file)
	t.Cleanup(func() {
		if out, err := exec.Command("zpool", "destroy", "-f", h.pool).CombinedOutput(); err != nil {
			t.Errorf("destroy the pool: %v: %s", err, out)
		}
	})
	h.must("init", "--repository", "file://"+h.path("repository"), "--kit", h.path("kit"))
	return h
}

func (h *zhost) path(name string) string { return filepath.Join(h.dir, name) }

func (h *zhost) sh(argv ...string) string {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("%q: %v: %s", argv, err, &errs)
	}
	return strings.TrimSpace(out.String())
}

// dataset makes one with some files of about size bytes, and a group of it.
func (h *zhost) dataset(name string, size int) (dir string) {
	h.t.Helper()
	h.sh("zfs", "create", h.pool+"/"+name)
	dir = "/mnt/" + h.pool + "/" + name
	h.grow(dir, "first", size)
	h.group(fmt.Sprintf("[group.%s]\npaths = [%q]\nkeep-local = \"1s\"\nkeep = \"50 last\"", strings.ReplaceAll(name, " ", "-"), dir))
	return dir
}

// grow writes files that do not compress.
func (h *zhost) grow(dir, name string, size int) {
	h.t.Helper()
	fill := rand.NewChaCha8([32]byte{byte(size), byte(len(name))})
	for i := 0; size > 0; i++ {
		data := make([]byte, min(size, 3<<20))
		_, _ = fill.Read(data)
		if err := os.WriteFile(fmt.Sprintf("%s/%s %d", dir, name, i), data, 0o600); err != nil {
			h.t.Fatal(err)
		}
		size -= len(data)
	}
}

func (h *zhost) command(words ...string) *exec.Cmd {
	args := append([]string{"--config", h.path("snapd.toml"), "--state-dir", h.path("state"), "--run-dir", h.path("run")}, words...)
	cmd := exec.Command("snapd", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+h.dir+"/no-engine.sock")
	return cmd
}

func (h *zhost) snapd(words ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	cmd := h.command(words...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	h.t.Logf("$ snapd %s\n%s%s[exit status %d]", strings.Join(words, " "), &out, &errs, cmd.ProcessState.ExitCode())
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (h *zhost) must(words ...string) string {
	h.t.Helper()
	out, _, status := h.snapd(words...)
	if status != 0 {
		h.t.Fatalf("snapd %v: exit status %d", words, status)
	}
	return out
}

func (h *zhost) points(words ...string) []point.Point {
	h.t.Helper()
	var doc pointsDocument
	if out := h.must(append([]string{"--json"}, words...)...); json.Unmarshal([]byte(out), &doc) != nil {
		h.t.Fatalf("no points in %s", out)
	}
	return doc.Points
}

func (h *zhost) listed() []point.Point {
	h.t.Helper()
	return h.points("--kit", h.path("kit"), "list")
}

func (h *zhost) count(pattern string) int {
	found, err := filepath.Glob(h.path(pattern))
	if err != nil {
		h.t.Fatal(err)
	}
	return len(found)
}

// clean fails the test for holds of ours and for datasets half restored.
func (h *zhost) clean() {
	h.t.Helper()
	for name := range strings.Lines(h.sh("zfs", "list", "-H", "-t", "filesystem,volume,snapshot", "-o", "name", "-r", h.pool)) {
		name = strings.TrimSpace(name)
		if strings.Contains(name, "@") && h.sh("zfs", "holds", "-H", name) != "" {
			h.t.Errorf("held: %s", h.sh("zfs", "holds", "-H", name))
		}
		if strings.Contains(name, "snapd_restore_") {
			h.t.Errorf("half restored: %s", name)
		}
	}
}

func (h *zhost) target(p point.ID) string { return h.pool + "/restored " + string(p) }

// restore brings a point back and compares it with a directory.
func (h *zhost) restore(p point.ID, dir string) {
	h.t.Helper()
	target := h.target(p)
	h.must("--kit", h.path("kit"), "restore", string(p), "--to", "zfs:"+target)
	h.sh("zfs", "mount", target)
	fstest.Compare(h.t, dir, "/mnt/"+target)
	h.sh("zfs", "destroy", "-r", target)
}

// TestZFSBases: what a base can be when snapshots and bookmarks are destroyed
// by hand, and that the record says why.
func TestZFSBases(t *testing.T) {
	h := newZHost(t)
	dir := h.dataset("da ta", 2<<20)
	name := h.pool + "/da ta"
	step := func(n int) *point.Shipped {
		t.Helper()
		h.grow(dir, fmt.Sprint("step ", n), 300<<10)
		p := h.points("snapshot", "--ship", "da-ta")[0]
		h.clean()
		return p.ShippedTo("main", name)
	}
	first := step(1)
	if first.Base != nil {
		t.Fatalf("the first is %+v", first)
	}
	second := step(2)
	if second.Base == nil || *second.Base != first.Stream {
		t.Errorf("the second is %+v", second)
	}
	// keep-local is nothing: prune removes all snapshots but the newest, and
	// their bookmarks serve.
	h.must("prune", "da-ta")
	if got := strings.Count(h.sh("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", name), "@snapd_"); got != 1 {
		t.Errorf("%d snapshots are left, want the newest", got)
	}
	if got := strings.Count(h.sh("zfs", "list", "-H", "-t", "bookmark", "-o", "name", "-r", name), "#snapd_"); got != 2 {
		t.Errorf("%d bookmarks, want 2", got)
	}
	for s := range strings.FieldsSeq(strings.ReplaceAll(h.sh("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", name), "da ta", "da+ta")) {
		h.sh("zfs", "destroy", strings.ReplaceAll(s, "+", " "))
	}
	third := step(3)
	if third.Base == nil || *third.Base != second.Stream {
		t.Errorf("on a bookmark: %+v", third)
	}
	destroy := func(kind string, newest int) {
		t.Helper()
		lines := strings.Split(h.sh("zfs", "list", "-H", "-t", kind, "-s", "createtxg", "-o", "name", "-r", name), "\n")
		for _, l := range lines[max(0, len(lines)-newest):] {
			h.sh("zfs", "destroy", l)
		}
	}
	destroy("snapshot", 9)
	destroy("bookmark", 1)
	fourth := step(4)
	if fourth.Base == nil || *fourth.Base != second.Stream || !strings.Contains(fourth.Why, "gone from this host") {
		t.Errorf("without the newest base: %+v", fourth)
	}
	destroy("snapshot", 9)
	destroy("bookmark", 9)
	fifth := step(5)
	if fifth.Base != nil || !strings.HasPrefix(fifth.Why, "full: ") || !strings.Contains(fifth.Why, "gone from this host") {
		t.Errorf("without any base: %+v", fifth)
	}
	h.must("--kit", h.path("kit"), "verify", "--deep")
	h.restore(h.listed()[4].ID, dir)
	t.Logf("why: %q; %q; %q; %q; %q", first.Why, second.Why, third.Why, fourth.Why, fifth.Why)
}

// TestZFSKilled kills ships and restores at a few places; TestZFSKilledOften
// does it at twenty.
func TestZFSKilled(t *testing.T) { killOften(t, 2, 2) }

// killOften kills a ship so often, each at another place, and then a restore.
// Whatever was killed, the next run completes, and nothing is left behind.
func killOften(t *testing.T, ships, restores int) {
	h := newZHost(t)
	dir := h.dataset("data", 6<<20)
	streams := 0
	for i := range ships {
		h.grow(dir, fmt.Sprint("more ", i), 6<<20)
		h.must("snapshot", "data")
		at := h.killShip(i, ships)
		if got := len(h.listed()); got != streams {
			t.Errorf("ship %d, killed %s: %d points are listed, want %d", i, at, got, streams)
		}
		p := h.points("ship", "data")
		streams++
		if len(p) != 1 || len(p[0].Shipped) != 1 {
			t.Fatalf("ship %d, killed %s: the next ships %+v", i, at, p)
		}
		t.Logf("ship %d, killed %s: %q", i, at, p[0].Shipped[0].Resumed)
		h.clean()
	}
	if got := len(h.listed()); got != ships {
		t.Errorf("%d points are listed, want %d", got, ships)
	}
	newest := h.listed()[ships-1].ID
	h.must("--kit", h.path("kit"), "verify", "--deep")
	for i := range restores {
		at := h.killRestore(newest, i, restores)
		if out, err := exec.Command("zfs", "list", h.target(newest)).CombinedOutput(); err == nil {
			t.Errorf("restore %d, killed %s: the target is there: %s", i, at, out)
		}
		t.Logf("restore %d, killed %s", i, at)
		h.restore(newest, dir)
		h.clean()
	}
}

// killShip kills a ship when so many segments of its stream are in the
// repository, or in other turns when its holds are there, or its manifest.
func (h *zhost) killShip(turn, of int) (at string) {
	h.t.Helper()
	before, manifests, points := h.count("repository/data/*/*"), h.count("repository/meta/streams/*"), h.count("repository/meta/points/*")
	cmd := h.command("ship", "data")
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	segments := turn
	if turn > of/2 {
		segments = turn - of/2
	}
	reached := func() bool { return h.count("repository/data/*/*") >= before+segments }
	at = fmt.Sprintf("with %d segments there", segments)
	switch turn {
	case of - 1:
		reached, at = func() bool { return h.count("repository/meta/streams/*") > manifests }, "when its manifest was there"
	case 1:
		reached, at = func() bool { return h.count("state/ships/*") > 0 }, "when its record was there"
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for ended := false; !ended && !reached(); {
		select {
		case err := <-done:
			h.t.Logf("the ship ended before it was killed: %v", err)
			done <- err
			ended = true
		case <-time.After(time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	h.t.Logf("it ended: %v", <-done)
	if h.count("repository/meta/points/*") > points {
		h.t.Errorf("the ship was over before it was killed (%s)", at)
	}
	return at
}

// killRestore kills a restore at one of several moments in its life.
func (h *zhost) killRestore(id point.ID, turn, of int) (at string) {
	h.t.Helper()
	cmd := h.command("--kit", h.path("kit"), "restore", string(id), "--to", "zfs:"+h.target(id))
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	snapshots := turn * 2
	at = fmt.Sprintf("with %d snapshots received", snapshots)
	stage := func() (name string, snapshots int) {
		out, _ := exec.Command("zfs", "list", "-H", "-t", "filesystem,snapshot", "-o", "name", "-r", h.pool).Output()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "snapd_restore_") {
				name = strings.TrimSpace(line)
				if strings.Contains(line, "@") {
					snapshots++
				}
			}
		}
		return name, snapshots
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		name, n := stage()
		if name != "" && n >= min(snapshots, 2) {
			break
		}
		if len(done) > 0 || time.Since(begin) > 3*time.Minute {
			h.t.Errorf("the restore was over before it was killed (%s)", at)
			break
		}
	}
	time.Sleep(time.Duration(turn*37) * time.Millisecond) // anywhere in what follows
	_ = cmd.Process.Kill()
	h.t.Logf("it ended: %v", <-done)
	return at
}

// TestZFSDamage flips one bit in each of fifty places of what is stored: verify
// names every object.
func TestZFSDamage(t *testing.T) {
	h := newZHost(t)
	dir := h.dataset("data", 8<<20)
	for i := range 3 {
		h.grow(dir, fmt.Sprint("step ", i), 1<<20)
		h.must("snapshot", "--ship", "data")
	}
	h.must("--kit", h.path("kit"), "verify", "--deep")
	objects, err := filepath.Glob(h.path("repository/data/*/*"))
	if err != nil || len(objects) < 10 {
		t.Fatal(objects, err)
	}
	random := rand.New(rand.NewPCG(1, 50))
	flip := func(object string) (name string, undo func()) {
		data, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(data)
		at := random.IntN(len(data))
		damaged[at] ^= 1 << random.IntN(8)
		write := func(data []byte) {
			if err := os.WriteFile(object, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(damaged)
		return strings.TrimPrefix(object, h.path("repository")+"/"), func() { write(data) }
	}
	for n := 0; n < 50; {
		// As many objects at once as there are, so that one verify looks at
		// many places.
		names, undo := map[string]bool{}, []func(){}
		for _, object := range objects[:min(len(objects), 50-n)] {
			name, back := flip(object)
			names[name] = true
			undo = append(undo, back)
			n++
		}
		out, _, status := h.snapd("--kit", h.path("kit"), "--json", "verify")
		var verified agent.Verified
		if status != 4 || !strings.Contains(out, "{") {
			t.Fatalf("exit status %d", status)
		}
		_ = json.NewDecoder(strings.NewReader(out)).Decode(&verified)
		for _, p := range verified.Problems {
			if !names[p.Object] {
				t.Errorf("%s is called damaged, and is not", p.Object)
			}
			delete(names, p.Object)
		}
		if len(names) > 0 {
			t.Errorf("not named: %v", names)
		}
		for _, back := range undo {
			back()
		}
	}
	h.must("--kit", h.path("kit"), "verify")
}
