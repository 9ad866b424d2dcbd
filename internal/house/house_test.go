// Package house checks the house rules that a compiler does not: which package
// may import which, and that each says what it is for. The same rules stand in
// .golangci.yml with a reason each; these need no linter.
package house

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport lists what each package may import of ours, and foreign packages
// that only it may use.
func mayImport() map[string][]string {
	everything := []string{"*"}
	return map[string][]string{
		"cmd/snapd":              everything,
		"internal/demo":          everything,
		"internal/agent":         {"config", "plan", "point", "workload", "freeze", "freeze/hold", "fs", "inside", "ship", "retain"},
		"internal/api":           {"agent", "point"},
		"internal/advice":        {},
		"internal/proc":          {},
		"internal/durable":       {},
		"internal/show":          {},
		"internal/quote":         {},
		"internal/config":        {},
		"internal/plan":          {"config", "point", "fs"},
		"internal/retain":        {"point"},
		"internal/point":         {},
		"internal/workload":      {"config", "fs", "cgroup"},
		"internal/freeze":        {"cgroup"},
		"internal/freeze/hold":   {},
		"internal/fs":            {},
		"internal/fs/fstest":     {"fs"},
		"internal/fs/hidden":     {"fs"},
		"internal/inside":        {"fs"},
		"internal/ship":          {"point"},
		"internal/ship/s3":       {"ship"},
		"internal/ship/dir":      {"ship"},
		"internal/ship/shiptest": {"ship"},
		"internal/run":           {},
		"internal/cgroup":        {},
		"internal/house":         {},
		"packaging":              {},
		"internal/host":          {},
		"internal/vmtest":        {},
		"internal/daemon":        {"api", "agent", "config", "point", "host"},
		"internal/doctor":        {"agent", "config", "fs", "host", "ship", "ship/s3", "workload"},
		// For tests, the demo and benches only.
		"internal/workload/dockertest": {},
	}
}

// ofStorage is what a package that drives a storage, or is its stream codec, may
// import: all storages have one rule, and know nothing of each other.
func ofStorage(name string) (allowed []string, is bool) {
	storage, below := strings.CutPrefix(name, "internal/fs/")
	if !below {
		return nil, false
	}
	if storage, codec, nested := strings.Cut(storage, "/"); nested {
		return []string{"fs"}, codec == storage+"stream"
	}
	return []string{"fs", "run", "fs/hidden", "fs/" + storage + "/" + storage + "stream"}, true
}

// everywhere lists the leaves that every package may import: how advice
// travels, what this host's tables say, how something is written durably, what is
// quoted of others, and how their text is shown.
func everywhere() []string { return []string{"advice", "proc", "durable", "quote", "show"} }

// onlyHere lists foreign modules that one place alone knows.
func onlyHere() map[string][]string {
	return map[string][]string{
		"github.com/docker/docker":     {"internal/workload"},
		"github.com/minio/minio-go":    {"internal/ship/s3", "internal/ship/shiptest"},
		"github.com/coreos/go-systemd": {"internal/host"},
		"github.com/mistifyio/go-zfs":  {"internal/fs/zfs"},
		"github.com/godbus/dbus":       {"internal/host"},
		"github.com/moby/sys":          {"internal/proc"},
	}
}

type listed struct {
	ImportPath, Doc string
	Imports         []string
	GoFiles         []string
}

func TestImportsPointDownTheHouse(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "snapd/")
		allowed, known := mayImport()[name]
		if !known {
			allowed, known = ofStorage(name)
		}
		if strings.HasPrefix(name, "tools/") || strings.HasPrefix(name, "bench") || strings.HasPrefix(name, "internal/vmtest/") {
			continue
		}
		if !known {
			t.Errorf("%s has no line in mayImport: say what it may import", name)
			continue
		}
		for _, imported := range p.Imports {
			short, ours := strings.CutPrefix(imported, "snapd/internal/")
			if ours && !slices.Contains(everywhere(), short) && !slices.Contains(allowed, "*") && !slices.Contains(allowed, short) {
				t.Errorf("%s imports %s; it may import only %v", name, short, allowed)
			}
			for module, places := range onlyHere() {
				if strings.HasPrefix(imported, module) && !slices.ContainsFunc(places, func(p string) bool { return strings.HasPrefix(name, p) }) {
					t.Errorf("%s imports %s; only %v knows it", name, imported, places)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && len(strings.Fields(p.Doc)) < 5 {
			t.Errorf("%s: the package comment says %q", p.ImportPath, p.Doc)
		}
	}
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports,GoFiles", "snapd/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages were listed", len(all))
	}
	return all
}
