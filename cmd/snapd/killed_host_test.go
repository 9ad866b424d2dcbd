//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"

	"golang.org/x/sys/unix"
)

// mortalHost is a host all of which lies on one Btrfs: the data, the
// repository and what snapd remembers. So the image of it is the whole world, and
// can be put back.
type mortalHost struct {
	*host
	image  string
	data   string
	repo   string
	points []point.ID
	trees  []fstest.Tree // of the data, when each point was taken
}

func newMortalHost(t *testing.T) *mortalHost {
	t.Helper()
	dir := t.TempDir()
	at := mountBtrfs(t, filepath.Join(dir, "world"), 8<<30)
	h := &mortalHost{
		host:  &host{t: t, dir: filepath.Join(at, "host"), btrfs: at, env: []string{"DOCKER_HOST=unix://" + dir + "/no-engine.sock"}},
		image: filepath.Join(dir, "world.img"), repo: filepath.Join(at, "my repository"),
	}
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.must("init", "--repository", "file://"+strings.ReplaceAll(h.repo, " ", "%20"), "--kit", h.path("kit"))
	h.data = h.subvolume("my data é @1")
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]\nfull-every = \"365d\"\nkeep = \"9 last\"\nkeep-local = \"1h\"", h.data))
	return h
}

// take changes the data and calls the program, which takes a point.
func (h *mortalHost) take(words ...string) {
	h.t.Helper()
	n := len(h.points)
	for name, text := range map[string]string{"file": fmt.Sprint("of point ", n), fmt.Sprint("new ", n): strings.Repeat(fmt.Sprintln("line", n), 1000)} {
		if err := os.WriteFile(filepath.Join(h.data, name), []byte(text), 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	h.points = append(h.points, h.host.points(words...)[0].ID)
	h.trees = append(h.trees, fstest.ReadTree(h.t, h.data))
}

// shipped ships so many points.
func (h *mortalHost) shipped(n int) {
	h.t.Helper()
	for range n {
		h.take("snapshot", "data", "--ship")
	}
}

// save keeps the world as it is, load puts it back.
func (h *mortalHost) save() {
	h.t.Helper()
	h.copyImage(h.image, h.image+".saved")
}

func (h *mortalHost) load() {
	h.t.Helper()
	h.copyImage(h.image+".saved", h.image)
}

func (h *mortalHost) copyImage(from, to string) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; { // the namespace of a killed process may go a moment later
		err := unix.Unmount(h.btrfs, 0)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			h.t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	for end := time.Now().Add(time.Minute); ; { // the loop device ends a moment after the mount
		out, err := exec.CommandContext(h.t.Context(), "losetup", "-j", h.image).Output()
		if err == nil && len(out) == 0 {
			break
		}
		if err != nil || time.Now().After(end) {
			h.t.Fatalf("%v: %s", err, out)
		}
		time.Sleep(time.Millisecond)
	}
	command(h.t, "cp", "--sparse=always", "--reflink=auto", from, to)
	command(h.t, "mount", "-o", "loop", h.image, h.btrfs)
}

// killed runs a command that is killed at an effect, and says which that was.
// It is "" when the command came to its end before, and then effects is how many
// there were.
func (h *mortalHost) killed(at int, words ...string) (effect string, effects int) {
	h.t.Helper()
	file := h.image + ".effects"
	cmd := exec.CommandContext(h.t.Context(), "snapd", h.args(words)...)
	cmd.Env = append(append(os.Environ(), h.env...), fmt.Sprint(envKillAt, "=", at), envEffects+"="+file)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return strings.ReplaceAll(string(text), h.btrfs, ""), 0
	}
	if _, err := fmt.Sscan(string(text), &effects); err != nil {
		h.t.Fatalf("%v: %s", err, text)
	}
	return "", effects
}

// killedWith runs a ship that is killed when it has put that many segments.
func (h *mortalHost) killedWith(segments int, words ...string) {
	h.t.Helper()
	want := len(h.objects("data")) + segments
	h.save()
	for n := 10; ; n++ {
		effect, _ := h.killed(n, words...)
		if len(h.objects("data")) == want && len(h.objects("meta/leases")) == 1 {
			return
		}
		if effect == "" {
			h.t.Fatal("it never had so many segments and a lease")
		}
		h.load()
	}
}

// objects are the keys below a prefix of the repository.
func (h *mortalHost) objects(prefix string) (keys []string) {
	h.t.Helper()
	err := filepath.WalkDir(filepath.Join(h.repo, prefix), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			keys = append(keys, strings.TrimPrefix(path, h.repo+"/"))
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return keys
}

// spoilObject changes the last byte of an object.
func (h *mortalHost) spoilObject(key string) {
	h.t.Helper()
	name := filepath.Join(h.repo, key)
	text, err := os.ReadFile(name)
	if err == nil {
		text[len(text)-1] ^= 1
		err = errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, text, 0o600))
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// mortalCase is a command that is killed at its effects.
type mortalCase struct {
	prepare func(h *mortalHost)
	words   []string
	done    string     // what the next call may say of what the killed one had done already
	status  int        // of the next call
	then    [][]string // what has to be called beside it
	gone    []int      // points that are in the repository no more
	kills   int        // of a sample
}

func mortalCases() map[string]mortalCase {
	return map[string]mortalCase{
		"run": {words: []string{"run", "data"}, kills: 3, prepare: func(h *mortalHost) {
			h.shipped(4)
			h.keep("4 last")
		}, gone: []int{0, 1}},
		"ship": {words: []string{"ship", "data"}, kills: 3, prepare: func(h *mortalHost) {
			h.shipped(2)
			random(h.t, filepath.Join(h.data, "two segments"), 5<<20)
			h.take("snapshot", "data")
		}},
		"lease": {words: []string{"ship", "data"}, kills: 2, prepare: func(h *mortalHost) { // the second lease of an upload takes the place of the first
			h.shipped(1)
			random(h.t, filepath.Join(h.data, "two segments"), 5<<20)
			h.take("snapshot", "data")
			h.killedWith(1, "ship", "data")
		}},
		"heal": {words: []string{"ship", "data"}, kills: 3, prepare: func(h *mortalHost) {
			h.shipped(3)
			h.spoilObject(h.objects("data")[0])
			h.refused(exitDamaged, []string{"verify"})
		}},
		"lost": {words: []string{"ship", "data"}, kills: 2, prepare: func(h *mortalHost) {
			h.shipped(3)
			h.lose("meta/points/0000000003")
		}},
		"verify": {words: []string{"verify"}, kills: 1, status: exitDamaged, then: [][]string{{"ship", "data"}}, prepare: func(h *mortalHost) {
			h.shipped(3)
			h.spoilObject(h.objects("data")[0])
		}},
		"repair": {words: []string{"repair"}, kills: 2, prepare: func(h *mortalHost) {
			h.shipped(3)
			h.spoilObject(h.objects("data")[0])
			h.refused(exitDamaged, []string{"verify"})
			h.lose("meta/points/0000000002")
		}},
		"accept": {words: []string{"repair", "--accept-loss", "--remove-junk"}, kills: 1, gone: []int{1}, prepare: func(h *mortalHost) {
			h.shipped(3)
			h.lose("meta/points/0000000002")
			h.forgetPoint(1)
			if err := os.WriteFile(filepath.Join(h.repo, "meta/points/0000000005"), []byte("junk"), 0o600); err != nil {
				h.t.Fatal(err)
			}
		}},
		"describe": {words: []string{"repair"}, kills: 1, prepare: func(h *mortalHost) {
			h.shipped(2)
			h.spoilObject("repository")
		}},
		"giveup": {words: []string{"repair", "--accept-loss"}, kills: 1, prepare: func(h *mortalHost) {
			h.shipped(2)
			h.must("pin", string(h.points[1]))
			h.must("unpin", string(h.points[1]))
			h.spoilObject("meta/ledger/0000000001")
			if err := os.RemoveAll(h.path("state/repositories")); err != nil {
				h.t.Fatal(err)
			}
		}},
		"drop": {words: []string{"drop", "1"}, kills: 2, gone: []int{1}, done: "no such restore point", prepare: func(h *mortalHost) { h.shipped(3) }},
		"prune": {words: []string{"prune"}, kills: 3, gone: []int{0, 1}, prepare: func(h *mortalHost) {
			h.shipped(4)
			h.keep("2 last")
		}},
		"otherbase": {words: []string{"ship", "data"}, kills: 2, prepare: func(h *mortalHost) {
			h.shipped(2)
			random(h.t, filepath.Join(h.data, "two segments"), 5<<20)
			h.take("snapshot", "data")
			h.killedWith(1, "ship", "data")
			h.spoilObject(h.objects("meta/streams")[1])
			h.refused(exitDamaged, []string{"verify"})
		}},
		"prunenow": {words: []string{"prune", "--now"}, kills: 1, prepare: func(h *mortalHost) {
			h.shipped(2)
			random(h.t, filepath.Join(h.data, "two segments"), 5<<20)
			h.take("snapshot", "data")
			h.killedWith(1, "ship", "data")
			for _, key := range h.objects("meta/leases") {
				h.lose(key)
			}
			if err := os.RemoveAll(h.path("state/ships")); err != nil {
				h.t.Fatal(err)
			}
			h.must("ship", "data")
		}},
		"pin":   {words: []string{"pin", "1"}, kills: 1, prepare: func(h *mortalHost) { h.shipped(2) }},
		"unpin": {words: []string{"unpin", "1"}, kills: 1, prepare: func(h *mortalHost) { h.shipped(2); h.must("pin", string(h.points[1])) }},
		"adopt": {words: []string{"adopt", "main"}, kills: 1, prepare: func(h *mortalHost) {
			h.shipped(2)
			if err := os.RemoveAll(h.path("state")); err != nil {
				h.t.Fatal(err)
			}
		}},
	}
}

func (h *mortalHost) keep(policy string) {
	h.t.Helper()
	text, err := os.ReadFile(h.path("snapd.toml"))
	if err == nil {
		text = bytes.Replace(text, []byte(`keep-local = "1h"`), []byte(`keep-local = "1ms"`), 1)
		err = os.WriteFile(h.path("snapd.toml"), bytes.Replace(text, []byte("9 last"), []byte(policy), 1), 0o600)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *mortalHost) lose(key string) {
	h.t.Helper()
	if err := os.Remove(filepath.Join(h.repo, key)); err != nil {
		h.t.Fatal(err)
	}
}

// forgetPoint removes what this host has of a point.
func (h *mortalHost) forgetPoint(n int) {
	h.t.Helper()
	id := string(h.points[n])
	snaps, err := filepath.Glob(filepath.Join(h.btrfs, ".snapd-agent/*/*"+id+"*"))
	if err != nil || len(snaps) != 1 {
		h.t.Fatal(snaps, err)
	}
	command(h.t, "btrfs", "subvolume", "delete", snaps[0])
	if err := os.Remove(h.path("state/points/" + id + ".json")); err != nil {
		h.t.Fatal(err)
	}
}

// TestKilledAtEveryEffect kills commands before each thing that they do to a
// disk. The next call of the same command ends it: everything is whole, what the
// host remembers is what the repository says, and nothing is left over.
func TestKilledAtEveryEffect(t *testing.T) {
	for name, c := range mortalCases() {
		t.Run(name, func(t *testing.T) {
			h := newMortalHost(t)
			c.prepare(h)
			for i, w := range c.words {
				if n := strings.TrimLeft(w, "0123456789"); n == "" {
					c.words[i] = string(h.points[w[0]-'0'])
				}
			}
			h.save()
			_, effects := h.killed(0, c.words...)
			if effects == 0 {
				t.Fatal("it does nothing")
			}
			for _, at := range killsOf(effects, c.kills) {
				h.load()
				effect, _ := h.killed(at, c.words...)
				if effect == "" {
					continue // it had less to do this time
				}
				h.t.Logf("killed at %d of %d: %s", at, effects, effect)
				h.endsWhole(c, len(h.points))
				if t.Failed() {
					t.Fatalf("killed at %d of %d: %s", at, effects, effect)
				}
			}
		})
	}
}

// killsOf are the effects to be killed at: all, or some of them, the first and
// the last among them.
func killsOf(effects, some int) (at []int) {
	if everyKill || some >= effects {
		some = effects
	}
	for i := range some {
		at = append(at, 1+(2*i+1)*effects/(2*some))
	}
	if everyKill {
		at = at[:0]
		for n := range effects {
			at = append(at, n+1)
		}
	}
	return at
}

// endsWhole calls the command once more, and looks what there is then.
func (h *mortalHost) endsWhole(c mortalCase, points int) {
	t := h.t
	t.Helper()
	out, errs, status := h.snapd(c.words...)
	if status != c.status && (c.done == "" || !strings.Contains(errs, c.done)) {
		t.Errorf("the next call: exit status %d: %s%s", status, out, errs)
	}
	for _, words := range c.then {
		h.must(words...)
	}
	if out := h.must("verify"); strings.Contains(out, "orphans in") {
		h.must("prune", "--now")
		if out := h.must("verify"); strings.Contains(out, "orphans in") {
			t.Error("orphans are left that are named and not removed")
		}
	}
	if left := h.objects("meta/leases"); len(left) > 0 {
		t.Errorf("leases are left: %q", left)
	}
	if left, _ := filepath.Glob(h.path("state/ships/*")); len(left) > 0 {
		t.Errorf("records of uploads are left: %q", left)
	}
	h.agrees()
	for n := range points {
		if slices.Contains(c.gone, n) {
			continue
		}
		to := filepath.Join(h.btrfs, fmt.Sprint("back ", n))
		h.must("--kit", h.path("kit"), "restore", string(h.points[n]), "--to", "btrfs:"+to)
		fstest.CompareTrees(t, h.trees[n], fstest.ReadTree(t, to))
	}
	if p := h.host.points("run", "data"); len(p) == 0 || p[len(p)-1].Shipped[0].Base == nil {
		t.Errorf("the next run builds on nothing: %+v", p)
	}
	var st agent.Status
	if err := json.Unmarshal([]byte(h.must("--json", "status")), &st); err != nil || len(st.Attention)+len(st.Groups[0].Attention) > 0 {
		t.Errorf("status: %v, %+v", err, st)
	}
	h.must("verify")
	h.agrees()
}

// agrees compares what this host remembers with what another would read.
func (h *mortalHost) agrees() {
	t := h.t
	t.Helper()
	numbers := func(points []point.Point) map[point.ID]int64 {
		out := map[point.ID]int64{}
		for _, p := range points {
			if n := p.Numbers["main"]; n > 0 {
				out[p.ID] = n
			}
		}
		return out
	}
	var doc pointsDocument
	if err := json.Unmarshal([]byte(h.must("--kit", h.path("kit"), "--json", "list")), &doc); err != nil {
		t.Fatal(err)
	}
	there := numbers(doc.Points)
	here, known := map[point.ID]int64{}, map[point.ID]bool{}
	files, _ := filepath.Glob(h.path("state/points/*.json"))
	for _, f := range files {
		var p point.Point
		text, err := os.ReadFile(f)
		if err == nil {
			err = json.Unmarshal(text, &p)
		}
		if err != nil {
			t.Fatal(err)
		}
		known[p.ID] = true
		if n := p.Numbers["main"]; n > 0 {
			here[p.ID] = n
		}
	}
	maps.DeleteFunc(there, func(id point.ID, _ int64) bool { return !known[id] }) // the state was lost, or another host's
	if fmt.Sprint(here) != fmt.Sprint(there) {
		t.Errorf("this host remembers %v, and the repository says %v", here, there)
	}
}
