package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRemovalNamesWhatNothingWatches: snapshots on LVM outlive the package, by their
// tag and not by their name, and the removal says how they are removed.
func TestRemovalNamesWhatNothingWatches(t *testing.T) {
	const snapshots = "  vg data \n  v-g snapd_x_1 snapd,snapd.origin=a,snapd.order=7\n  vg snapd_named mine\n  vg other snapd.temporary,snapdragon\n  vg two mine,snapd\n"
	for name, c := range map[string]struct {
		lvs, action string
		want        []string
	}{
		"some":         {"printf '" + snapshots + "'", "remove", []string{"  lvremove v-g/snapd_x_1", "  lvremove vg/two"}},
		"none":         {"printf '  vg data \\n'", "remove", nil},
		"lvs fails":    {"echo broken >&2; exit 5", "remove", nil},
		"an upgrade":   {"printf '" + snapshots + "'", "upgrade", nil},
		"lvs in parts": {"printf '" + snapshots + "'; exit 5", "remove", []string{"  lvremove v-g/snapd_x_1", "  lvremove vg/two"}},
	} {
		bin := t.TempDir()
		for program, text := range map[string]string{"lvs": c.lvs, "systemctl": "exit 0"} {
			if err := os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("sh", "postrm", c.action)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "lvremove") {
				got = append(got, strings.TrimRight(line, "\n"))
			}
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") || strings.Contains(string(out), "no program looks after them") != (len(c.want) > 0) {
			t.Errorf("%s: %s", name, out)
		}
	}
}
