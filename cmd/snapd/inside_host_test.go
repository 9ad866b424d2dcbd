//go:build host

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs/fstest"
)

// TestLookInside is what a user types who needs a file back: in a point of two datasets,
// one of which was deleted since.
func TestLookInside(t *testing.T) {
	h := newHost(t, "")
	shop, wiki := h.subvolume("shop and more"), h.subvolume("wiki")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	fstest.WriteNastyTree(t, shop)
	write(wiki+"/page\x1b[2J", "as it was\n\x1b[2J\xff")
	write(wiki+"/same", "same")
	command(t, "btrfs", "subvolume", "create", wiki+"/nested")
	h.configure(fmt.Sprintf("[group.two]\npaths = [%q, %q]\nfreeze = \"none\"\nrepositories = []", shop, wiki))
	h.snapd("snapshot", "two") // done in part: the nested subvolume is not covered
	want := fstest.ReadTree(t, shop)
	if out := h.must("ls", "latest:two"); !strings.Contains(out, ":"+shop+"\n") || !strings.Contains(out, ":"+wiki+"\n") {
		t.Errorf("the datasets are %s", out)
	}
	out := h.must("ls", "latest:two:"+wiki)
	if strings.Contains(out, "\x1b") || !strings.Contains(out, `page\u001b[2J`) || !strings.Contains(out, "nested/ (not in this point") {
		t.Errorf("it prints %q", out)
	}
	if out := h.must("cat", "latest:two:"+wiki+"/page\x1b[2J"); out != "as it was\n\x1b[2J\xff" {
		t.Errorf("cat prints %q", out)
	}
	write(wiki+"/page\x1b[2J", "new\n")
	write(wiki+"/more", "12345")
	out = h.must("diff", "latest:two:"+wiki)
	if !strings.Contains(out, "+ "+wiki+"/more (5 B)\n") || !strings.Contains(out, `~ `+wiki+`/page\u001b[2J (15 B -> 4 B)`) || !strings.HasSuffix(out, "\n1 added, 0 removed, 1 changed, 0 with another owner or mode\n") {
		t.Errorf("diff prints %s", out)
	}
	command(t, "btrfs", "subvolume", "delete", shop)
	to := h.path("copied")
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	h.must("cp", "latest:two:"+shop, to) // into the folder, as cp does
	fstest.CompareTrees(t, want, fstest.ReadTree(t, filepath.Join(to, "shop and more")))
	h.refused(1, []string{"cp", "latest:two:" + shop, to}, "already exists", "What to do: name another place, or say --replace")
	at := filepath.Join(h.dir, "at")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	h.refused(2, []string{"mount", "latest:two", at}, "has 2 datasets", ":"+wiki)
	h.must("mount", "latest:two:"+shop, at)
	fstest.CompareTrees(t, want, fstest.ReadTree(t, at))
	h.refused(2, []string{"mount", "latest:two:" + wiki, at}, "is not empty")
	command(t, "umount", at)
	h.refused(1, []string{"ls", "latest:two:" + wiki + "/none/x"}, "there is nothing", "snapd ls ")
}
