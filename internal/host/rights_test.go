package host

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTheUnitGivesTheRights: the list in this package is the unit's, word for word,
// so that doctor misses what is not there, and each right has a reason.
func TestTheUnitGivesTheRights(t *testing.T) {
	text, err := os.ReadFile("../../systemd/" + AgentService)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		setting, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		words := strings.Fields(value)
		switch setting {
		case deviceAllow:
			words = words[:1]
		case capabilitySet, writablePaths, syscallFilter:
		default:
			continue
		}
		for _, w := range words {
			// What all services have, and what is taken away again, are no rights of ours.
			if w != "@system-service" && !strings.HasPrefix(w, "~") && !strings.HasPrefix(value, "~") {
				given[setting+"="+strings.TrimPrefix(w, "-")] = true
			}
		}
	}
	for _, r := range Rights() {
		if r.Without == "" {
			t.Errorf("%s has no reason", r)
		}
		if key := r.Setting + "=" + r.Value; !given[key] {
			t.Errorf("the unit does not say %s, without which %s", key, r.Without)
		} else {
			delete(given, key)
		}
	}
	for key := range given {
		t.Errorf("the unit says %s, which is in no line of Rights: which test fails without it?", key)
	}
}

func TestRightsThatAUnitDoesNotGive(t *testing.T) {
	whole := func() map[string]any {
		var bits uint64
		var paths, calls []string
		for _, r := range Rights() {
			bits |= 1 << r.bit
			calls = append(calls, r.syscalls...)
			if r.Setting == writablePaths {
				paths = append(paths, "-"+r.Value)
			}
		}
		return map[string]any{
			capabilitySet: bits, writablePaths: paths, "ProtectSystem": "strict", syscallFilter: []any{true, calls},
		}
	}
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   []string
	}{
		"whole":                         {func(map[string]any) {}, nil},
		"no CAP_KILL":                   {func(p map[string]any) { p[capabilitySet] = p[capabilitySet].(uint64) &^ (1 << 5) }, []string{"CAP_KILL"}},
		"no capability":                 {func(p map[string]any) { p[capabilitySet] = uint64(0) }, []string{"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SYS_PTRACE", "CAP_SYS_NICE", "CAP_KILL", "CAP_IPC_LOCK"}},
		"calls that are shut out":       {func(p map[string]any) { p[syscallFilter] = []any{false, []string{"fanotify_init"}} }, []string{"fanotify_init"}},
		"no filter":                     {func(p map[string]any) { p[syscallFilter] = []any{false, []string{}} }, nil},
		"a path":                        {func(p map[string]any) { p[writablePaths] = p[writablePaths].([]string)[1:] }, []string{"/run/snapd-agent"}},
		"no path, and nothing strict":   {func(p map[string]any) { p[writablePaths], p["ProtectSystem"] = nil, "full" }, nil},
		"a systemd that says no such":   {func(p map[string]any) { clear(p) }, nil},
		"a systemd that says it anyhow": {func(p map[string]any) { p[capabilitySet], p[syscallFilter] = "all", 7 }, nil},
	} {
		p := whole()
		c.change(p)
		g := grantOf(p)
		var got []string
		for _, r := range Rights() {
			if !g.has(r) {
				got = append(got, r.Value)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: it lacks %q, want %q", name, got, c.want)
		}
	}
}

func TestRightsOfOneStorage(t *testing.T) {
	r := Right{Storage: "btrfs,lvm"}
	for storage, want := range map[string]bool{"btrfs": true, "lvm": true, "zfs": false} {
		if got := r.usedBy([]string{storage}); got != want {
			t.Errorf("%s: %v", storage, got)
		}
	}
	if !r.usedBy(nil) || !(Right{}).usedBy([]string{"zfs"}) {
		t.Error("a right that all need is missed by none")
	}
}

func TestWhatThisProcessLacks(t *testing.T) {
	for status, want := range map[string][]string{
		"Name:\tsnapd\nCapEff:\t000001ffffffffff\n":   nil,
		"CapEff:\t000001ffffffffdf\nCapBnd:\t00\n":    {"CAP_KILL"},
		"CapEff:\t000001fffffffff7\n":                 {"CAP_FOWNER"},
		"Name:\ta kernel that does not say\nPid: 1\n": nil,
	} {
		got, err := lackingOf(status)
		if err != nil {
			t.Error(err)
		}
		var names []string
		for _, r := range got {
			names = append(names, r.Value)
		}
		if !slices.Equal(names, want) {
			t.Errorf("%q lacks %q, want %q", status, names, want)
		}
	}
	if _, err := lackingOf("CapEff: x\n"); err == nil {
		t.Error("nonsense was understood")
	}
}

// TestDropInsThatSaySomething: a person is told which file took a right away.
func TestDropInsThatSaySomething(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a b.conf": "[Service]\n CapabilityBoundingSet=~CAP_KILL\n", "other.conf": "[Unit]\nAfter=x\n"} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := saying([]string{dir + "/a b.conf", dir + "/other.conf", dir + "/gone"}, capabilitySet); !slices.Equal(got, []string{dir + "/a b.conf"}) {
		t.Errorf("got %q", got)
	}
}
