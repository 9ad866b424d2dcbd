package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The names are those that systemd-escape --path --suffix=mount prints.
func TestMountUnit(t *testing.T) {
	for path, want := range map[string]string{
		"/srv":            "srv.mount",
		"/srv/data1":      "srv-data1.mount",
		"/srv/a b/x-y":    `srv-a\x20b-x\x2dy.mount`,
		"/.hidden/.x":     `\x2ehidden-.x.mount`,
		"/srv/ä@%n\\":     `srv-\xc3\xa4\x40\x25n\x5c.mount`,
		"/srv/\n[Service": `srv-\x0a\x5bService.mount`,
	} {
		if got := mountUnit(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}

func TestOrderAfterMounts(t *testing.T) {
	w := Wanted{Paths: map[string][]string{
		"shop": {"/srv/data1/a b", "/srv/data1"},
		"two":  {"/srv/data2"},
		"root": {"/"},
		"none": nil,
		"../x": {"/etc"},
		"odd":  {"relative"},
	}}
	files, err := w.files()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"snapd-agent.service.d/50-mounts.conf":          {`After=srv-data1-a\x20b.mount`, "After=srv-data1.mount", "After=srv-data2.mount", "After=srv.mount"},
		"snapd-agent-run@shop.service.d/50-mounts.conf": {`After=srv-data1-a\x20b.mount`, "After=srv-data1.mount", "After=srv.mount"},
		"snapd-agent-run@two.service.d/50-mounts.conf":  {"After=srv-data2.mount", "After=srv.mount"},
	}
	if len(files) != len(want) {
		t.Errorf("got %d files: %v", len(files), files)
	}
	for name, lines := range want {
		var got []string
		for line := range strings.Lines(files[name]) {
			if strings.HasPrefix(line, "After=") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if !slices.Equal(got, lines) || !strings.Contains(files[name], "\n[Unit]\n") {
			t.Errorf("%s: got %q, want %q in\n%s", name, got, lines, files[name])
		}
	}

	// What nothing asks for any more goes; a drop-in of a person's stays.
	dir := t.TempDir()
	if err := Generate(dir, w); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "snapd-agent-run@two.service.d", "mine.conf")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale, err := unwanted(dir, map[string]string{"snapd-agent.service.d/50-mounts.conf": ""})
	slices.Sort(stale)
	if err != nil || !slices.Equal(stale, []string{"snapd-agent-run@shop.service.d/50-mounts.conf", "snapd-agent-run@two.service.d/50-mounts.conf"}) {
		t.Errorf("stale: %q, %v", stale, err)
	}
}

func TestOrderAfterMountsOfMembers(t *testing.T) {
	got := members([]string{"/srv/data1", "/", "/var/lib/docker", "/srv/data1"})
	text := got["snapd-agent.service.d/51-members.conf"]
	if len(got) != 1 || !strings.HasSuffix(text, "[Unit]\nAfter=srv-data1.mount\nAfter=var-lib-docker.mount\n") {
		t.Errorf("got %q", got)
	}
	if got := members([]string{"/"}); len(got) != 0 {
		t.Errorf("for the root alone: %q", got)
	}
}
