//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	storage "snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
)

// The fifteen faults of issue 13 ("what was seen"), and the tests that show each
// with its right outcome; the first ones named go through the command line.
//
//  1. a listing without a key, empty, unordered, or a page: TestWhatAnswersInPlaceOfTheStore
//     (run, verify); ship.TestAListingHidesOneKey, TestListingsThatLie, TestHistories
//  2. unsigned keys: TestKilledAtEveryEffect/accept (repair --remove-junk);
//     agent.TestJunkIsOnlyRemovedWhenAllowed, ship.TestJunkDecidesNothing
//  3. an upload of days: ship.TestALeaseKeepsStreamAndBase, TestHistories (a
//     command would take the days)
//  4. a lost manifest that is shipped again: "manifest, … removed" here (run, verify);
//     agent.TestALostManifestIsHealedForGood
//  5. a flipped bit in the newest manifest: "manifest, … flipped" here (ship, run)
//  6. verify finds damage, and it counts: "segment, …" here, damage.txtar (list,
//     status, repair); agent.TestDamageIsRemembered, ship.TestResumeProvesWhatIsThere
//  7. the newest points are gone: "newest point removed" here, damage.txtar (verify,
//     status, repair --accept-loss), TestKilledAtEveryEffect/lost (ship)
//  8. a clone: agent.TestACloneStopsAndAPersonDecides; TestKilledAtEveryEffect/adopt (adopt)
//  9. a clock of the future: damage.txtar (status, list, drop);
//     agent.TestAClockOfTheFutureDecidesNothing
// 10. recipients and kits: TestKitsOnS3, init.txtar (init, restore);
//     agent.TestOtherRecipientsBeginAFullStream, TestKitMustOpenARealPoint
// 11. locks of a bucket: the tests of internal/ship/s3 and of doctor
// 12. a disk unmounted in mid-ship: TestDiskUnmountedInMidShip (run, ship, verify)
// 13. a full disk: dir.TestFullDisk, TestFullDiskStillRemoves; TestKilledAtEveryEffect/prunenow (prune --now)
// 14. what is quadratic: agent.TestPruneHereIsLinear, ship.TestCostIsLinear
// 15. a put that something else answers: TestWhatAnswersInPlaceOfTheStore (run, verify)

// quietHost is a host on a storage in memory, with a repository in a folder. The
// commands run in this process.
type quietHost struct {
	t      *testing.T
	dir    string
	memory *fstest.Memory
	points []point.ID
	trees  []fstest.Tree
	words  map[string]string // what ids and digests are called in what is compared
	log    strings.Builder
}

func newQuietHost(t *testing.T) *quietHost {
	t.Helper()
	h := &quietHost{t: t, dir: quickDir(t), memory: &fstest.Memory{Kind: storage.Btrfs}, words: map[string]string{}}
	t.Setenv("DOCKER_HOST", "unix://"+h.path("no-engine.sock"))
	if _, err := h.memory.Add(h.path("data")); err != nil {
		t.Fatal(err)
	}
	h.must("init", "--repository", "file://"+h.path("repo"), "--kit", h.path("kit"))
	text, err := os.ReadFile(h.path("snapd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for file, keep := range map[string]string{"snapd.toml": "9 last", "prunes.toml": "1 last"} {
		group := fmt.Sprintf("\n[group.shop]\npaths = [%q]\nkeep = %q\n", h.path("data"), keep)
		if err := os.WriteFile(h.path(file), append(text, group...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// quickDir is a folder in memory where there is one: hundreds of calls sync
// what they write.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "snapd-damage-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (h *quietHost) path(name string) string { return filepath.Join(h.dir, name) }

// call runs a command, whose configuration can be another one.
func (h *quietHost) call(words ...string) (stdout, stderr string, status int) {
	h.t.Helper()
	config := h.path("snapd.toml")
	if words[0] == "prune" {
		config = h.path("prunes.toml")
	}
	var out, errs bytes.Buffer
	c := newCLI(append([]string{"--config", config, "--state-dir", h.path("state"), "--run-dir", h.path("run")}, words...), &out, &errs)
	c.where.stand = map[string]storage.Driver{storage.Btrfs: h.memory}
	status = c.run(h.t.Context())
	fmt.Fprintf(&h.log, "$ snapd %s\n%s%s[%d]\n", strings.Join(words, " "), &out, &errs, status)
	return out.String(), errs.String(), status
}

func (h *quietHost) must(words ...string) string {
	h.t.Helper()
	out, errs, status := h.call(words...)
	if status != 0 {
		h.t.Fatalf("snapd %v: exit status %d: %s%s", words, status, out, errs)
	}
	return out
}

func (h *quietHost) take(words ...string) {
	h.t.Helper()
	n := len(h.points)
	if err := os.WriteFile(filepath.Join(h.path("data"), "file"), []byte(fmt.Sprint("of point ", n)), 0o600); err != nil {
		h.t.Fatal(err)
	}
	var doc pointsDocument
	if err := json.Unmarshal([]byte(h.must(append([]string{"--json"}, words...)...)), &doc); err != nil {
		h.t.Fatal(err)
	}
	p := doc.Points[len(doc.Points)-1]
	h.points = append(h.points, p.ID)
	h.trees = append(h.trees, fstest.ReadTree(h.t, h.path("data")))
	h.words[string(p.ID)] = fmt.Sprint("POINT", n+1)
	for _, s := range p.Shipped {
		h.words[string(s.Stream)] = fmt.Sprint("STREAM", n+1)
	}
}

// damagedHost has four points: full, an increment that was dropped, an
// increment on that, and full again; and a snapshot of which the upload was
// interrupted.
func damagedHost(t *testing.T) *quietHost {
	t.Helper()
	h := newQuietHost(t)
	for range 3 {
		h.take("snapshot", "shop", "--ship")
	}
	h.must("drop", string(h.points[1]))
	h.take("snapshot", "shop")
	h.must("ship", "--full", "shop")
	for _, p := range h.listed() {
		for _, s := range p.Shipped {
			if p.ID == h.points[3] {
				h.words[string(s.Stream)] = "STREAM4"
			}
		}
	}
	h.take("snapshot", "shop")
	h.memory.Fault = func(call string) error {
		if call == "Send" {
			return os.ErrDeadlineExceeded
		}
		return nil
	}
	if _, _, status := h.call("ship", "shop"); status == 0 {
		t.Fatal("the upload was not interrupted")
	}
	h.memory.Fault = nil
	leases, err := filepath.Glob(h.path("repo/meta/leases/*"))
	if err != nil || len(leases) != 1 {
		t.Fatal(leases, err)
	}
	id, _, _ := strings.Cut(filepath.Base(leases[0]), ".")
	h.words[id] = "UPLOAD"
	h.must("verify")
	return h
}

func (h *quietHost) listed() []point.Point {
	h.t.Helper()
	out, _, _ := h.call("--json", "list")
	var doc pointsDocument
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return doc.Points
}

// save keeps repository and state, load puts them back.
func (h *quietHost) save() { h.copyWorld(".saved", "") }
func (h *quietHost) load() { h.copyWorld("", ".saved") }

func (h *quietHost) copyWorld(to, from string) {
	h.t.Helper()
	for _, name := range []string{"repo", "state"} {
		if err := os.RemoveAll(h.path(name + to)); err != nil {
			h.t.Fatal(err)
		}
		if err := os.CopyFS(h.path(name+to), os.DirFS(h.path(name+from))); err != nil {
			h.t.Fatal(err)
		}
	}
}

// objects are all of the repository, by what they are.
func (h *quietHost) objects() map[string]string {
	h.t.Helper()
	out := map[string]string{}
	find := func(what, pattern string) {
		found, err := filepath.Glob(h.path("repo/" + pattern))
		if err != nil || len(found) != 1 {
			h.t.Fatal(what, found, err)
		}
		out[what] = found[0]
	}
	stream := map[string]string{}
	for id, word := range h.words {
		stream[word] = id
	}
	find("repository", "repository")
	find("event", "meta/ledger/*1")
	find("lease", "meta/leases/*")
	find("oldest point", "meta/points/*1")
	find("newest point", "meta/points/*4")
	for what, word := range map[string]string{"full stream": "STREAM1", "increment": "STREAM3"} {
		find("manifest, "+what, "meta/streams/"+stream[word]+".*")
		find("segment, "+what, "data/"+stream[word]+"/*")
	}
	return out
}

// ways are what can happen to an object; siblings are the others of its kind.
func ways() []string { return []string{"flipped", "cut", "swapped", "older", "removed"} }

// spoilt does it. It is false where it does not apply.
func (h *quietHost) spoilt(file, way string) bool {
	h.t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		h.t.Fatal(err)
	}
	pattern := filepath.Dir(file) + "/*"
	if strings.Contains(file, "/data/") {
		pattern = filepath.Dir(filepath.Dir(file)) + "/*/*"
	}
	kind, err := filepath.Glob(pattern)
	if err != nil {
		h.t.Fatal(err)
	}
	at := slices.Index(kind, file)
	switch way {
	case "flipped":
		at := len(body) / 2
		if !strings.Contains(file, "/data/") {
			// Always in the same word, behind the lines of the signature.
			at = bytes.Index(body, []byte("\n{")) + len("\n{\"format")
		}
		body[at] ^= 0x10
	case "cut":
		body = body[:len(body)/2]
	case "removed":
		err = os.Remove(file)
		body = nil
	default:
		at += map[string]int{"swapped": 1, "older": -1}[way]
		if at < 0 || at >= len(kind) || filepath.Base(file) == "repository" {
			return false
		}
		body, err = os.ReadFile(kind[at])
	}
	if err == nil && body != nil {
		err = os.Chmod(file, 0o600)
		if err == nil {
			err = os.WriteFile(file, body, 0o600)
		}
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return true
}

// plainly gives what changes from run to run one name.
func (h *quietHost) plainly(text string) string {
	for id, word := range h.words {
		text = strings.ReplaceAll(text, id, word)
	}
	text = strings.ReplaceAll(text, h.dir, "")
	for _, change := range [][2]string{
		{`[0-9a-f]{63,64}`, "DIGEST"},
		{`(/[0-9]{8})-[0-9a-f]{16}`, "$1-HASH"},
		{`\b[0-9a-hjkmnp-tv-z]{16}\b`, "ID"},
		{`"[0-9a-f]{32} `, `"REPOSITORY `},
		{`[0-9.]+ (B|KiB)\b`, "N B"},
		{`[0-9]+( bytes long, signed for )[0-9]+`, "N${1}N"},
		{`than the [0-9]+ bytes`, "than the N bytes"},
		{`in [0-9.]+ s\b`, "in N s"},
		{`(meta/streams/[A-Z0-9]+)\.[^:,"\s]*`, "$1.…"},
		{`RW[A-Za-z0-9+/]{54}`, "KEY"},
		{`20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}(:[0-9]{2})?`, "TIME"},
		// Which bit flips, and which of two versions is longer, is chance.
		{`(object|segment) (data/[^:]*): damaged: (longer than the N bytes it may have|N bytes long, signed for N|its SHA-256 is DIGEST, signed for DIGEST)`, "segment $2: damaged: DIFFERS"},
		{`signature does not verify: it is damaged, or was not signed by KEY|damaged: its first four lines are no minisign signature|damaged: it has no four lines of signature`, "damaged: its signature"},
		{`snapshot [a-z0-9]{26}`, "snapshot GUID"},
		{`  +(\S)`, "  $1"},
		{`\n\s*\n`, "\n"},
	} {
		text = regexp.MustCompile(change[0]).ReplaceAllString(text, change[1])
	}
	return strings.ReplaceAll(text, "\n  ", "\n        ")
}

// said is what a person reads first of a command: its exit status, what it found
// or did, why it failed, and what to do.
func (h *quietHost) said(words ...string) string {
	out, errs, status := h.call(words...)
	lines := []string{fmt.Sprint(status)}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "POINT ") {
			lines = append(lines, "> "+line)
			break
		}
	}
	warned := false
	for line := range strings.Lines(errs) {
		warning := strings.HasPrefix(line, "warning:")
		if !warning || !warned {
			lines = append(lines, "! "+line)
		}
		warned = warned || warning
	}
	return h.plainly(strings.Join(lines, "\n        "))
}

// states is what list says of each point.
func (h *quietHost) states() string {
	out, errs, status := h.call("list")
	lines := []string{fmt.Sprint(status)}
	var words []string
	for line := range strings.Lines(out) {
		cells := regexp.MustCompile(` {2,}`).Split(strings.TrimSpace(line), -1)
		if len(cells) == 8 && cells[6] != "ok" && cells[0] != "POINT" {
			words = append(words, cells[0]+" "+cells[6])
		}
	}
	lines = append(lines, "> "+strings.Join(words, ", "))
	for line := range strings.Lines(errs) {
		lines = append(lines, "! "+line)
	}
	return h.plainly(strings.Join(lines, "\n        "))
}

// attention is what status says.
func (h *quietHost) attention() string {
	out, _, status := h.call("--json", "status")
	var st struct {
		Attention []string
		Groups    []struct{ Attention []string }
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	lines := []string{fmt.Sprint(status)}
	for _, a := range st.Attention {
		lines = append(lines, "> "+a)
	}
	for _, g := range st.Groups {
		for _, a := range g.Attention {
			lines = append(lines, "> shop: "+a)
		}
	}
	return h.plainly(strings.Join(lines, "\n        "))
}

// restorable says which points come back as they were.
func (h *quietHost) restorable() string {
	h.t.Helper()
	var whole []string
	for _, n := range []int{0, 2, 3} {
		to := h.path("back")
		_, _, status := h.call("--kit", h.path("kit"), "restore", string(h.points[n]), "--to", "btrfs:"+to)
		if status == 0 {
			fstest.CompareTrees(h.t, h.trees[n], fstest.ReadTree(h.t, to))
			whole = append(whole, fmt.Sprint("POINT", n+1))
		}
		if err := os.RemoveAll(to); err != nil {
			h.t.Fatal(err)
		}
	}
	return strings.Join(whole, ", ")
}

// TestWhatCommandsSayOfDamage damages each object of a repository in each way,
// one at a time, and compares what every command says of it with what a person
// has read and found true and of use (testdata/damage.golden; SNAPD_UPDATE_DAMAGE=1
// writes it anew, to be read again). Each command meets the damage by itself;
// then come a verify and one run, and what is whole again.
func TestWhatCommandsSayOfDamage(t *testing.T) {
	h := damagedHost(t)
	h.save()
	found := map[string][]string{} // by what is said
	for what, file := range h.objects() {
		for _, way := range ways() {
			h.log.Reset()
			if said, ok := h.meets(file, way); ok {
				found[said] = append(found[said], what+" "+way)
				t.Logf("%s %s\n%s", what, way, h.log.String())
			}
		}
	}
	var parts []string
	for said, whats := range found {
		slices.Sort(whats)
		parts = append(parts, "# "+strings.Join(whats, "; ")+"\n"+said)
	}
	slices.Sort(parts)
	got := strings.Join(parts, "\n")
	const golden = "testdata/damage.golden"
	if os.Getenv("SNAPD_UPDATE_DAMAGE") != "" {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		if !strings.Contains(string(want)+"\n", part) {
			t.Errorf("what is said of damage is now\n%s", part)
		}
	}
	if got != string(want) {
		t.Errorf("%d parts are said of damage, in %d bytes, and %s has %d bytes", len(parts), len(got), golden, len(want))
	}
}

// meets is what every command says of one damage.
func (h *quietHost) meets(file, way string) (string, bool) {
	h.t.Helper()
	var said strings.Builder
	tell := func(command, text string) { fmt.Fprintf(&said, "%-8s%s\n", command, strings.TrimSpace(text)) }
	commands := map[string]func() string{
		"verify": func() string { return h.said("verify") },
		"list":   h.states,
		"status": func() string { h.call("list"); return h.attention() },
		"ship":   func() string { return h.said("ship", "shop") },
		"prune":  func() string { return h.said("prune") },
		"restore": func() string {
			return h.said("--kit", h.path("kit"), "restore", string(h.points[2]), "--to", "btrfs:"+h.path("back"))
		},
	}
	for _, command := range slices.Sorted(maps.Keys(commands)) {
		h.load()
		if !h.spoilt(file, way) {
			return "", false
		}
		tell(command, commands[command]())
		if err := os.RemoveAll(h.path("back")); err != nil {
			h.t.Fatal(err)
		}
	}
	h.load()
	h.spoilt(file, way)
	h.call("verify")
	tell("run", h.said("run", "shop"))
	tell("then", h.attention())
	tell("verify", h.said("verify"))
	if _, _, status := h.call("verify"); status != 0 {
		tell("repair", h.said("repair"))
		tell("verify", h.said("verify"))
	}
	tell("whole", h.restorable())
	return said.String(), true
}
