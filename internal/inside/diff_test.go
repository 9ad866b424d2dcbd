package inside

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs/fstest"
)

func differences(t *testing.T, old, recent Tree, name string, text bool) (out []Difference) {
	t.Helper()
	err := Compare(t.Context(), old, recent, name, text, func(d Difference) error {
		out = append(out, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestCompare: what was added, removed and changed, a folder in one line; what was only
// touched is no difference.
func TestCompare(t *testing.T) {
	old, recent := t.TempDir(), t.TempDir()
	for _, dir := range []string{old, recent} {
		for name, text := range map[string]string{"same": "x", "touched": "x", "a\nname": "one\ntwo\n", "binary": "\x00a", "rights": "x", "kind": "x"} {
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chtimes(recent+"/touched", time.Time{}, time.Now().Add(-time.Hour)),
		os.WriteFile(recent+"/a\nname", []byte("one\n2\n"), 0o600),
		os.WriteFile(recent+"/binary", []byte("\x00b"), 0o600),
		os.Chmod(recent+"/rights", 0o644),
		os.Remove(recent+"/kind"), os.Symlink("/etc", recent+"/kind"),
		os.MkdirAll(recent+"/new/deep", 0o755), os.WriteFile(recent+"/new/deep/file", []byte("12345"), 0o600),
		os.MkdirAll(old+"/gone", 0o755), os.Symlink("/etc", old+"/gone/link"))
	var got []string
	all := differences(t, treeAt(t, old), treeAt(t, recent), ".", true)
	for _, d := range all {
		got = append(got, fmt.Sprint(d.What, " ", d.Path, " ", d.Kind, " ", d.Was, ">", d.Is, " ", d.Files))
	}
	want := "changed a\nname file 8>6 0|changed binary file 2>2 0|removed gone folder 0>0 0|removed kind file 1>0 0|added kind link 0>0 0|added new folder 0>5 1|rights rights file 1>1 0"
	if strings.Join(got, "|") != want {
		t.Errorf("got  %q\nwant %q", strings.Join(got, "|"), want)
	}
	if !strings.Contains(all[0].Text, "\n-two\n+2\n") || all[1].Text != "" {
		t.Errorf("texts are %q and %q", all[0].Text, all[1].Text)
	}
	if one := differences(t, treeAt(t, old), treeAt(t, recent), "new/deep/file", false); len(one) != 1 || one[0].What != Added {
		t.Errorf("of one file: %+v", one)
	}
	if err := Compare(t.Context(), treeAt(t, old), treeAt(t, recent), "none", false, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what neither has: %v", err)
	}
}

// TestCompareTheSame: a tree does not differ from its copy.
func TestCompareTheSame(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	fstest.WriteNastyTree(t, dir)
	if _, err := treeAt(t, dir).Copy(t.Context(), ".", to+"/copy", CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := differences(t, treeAt(t, dir), treeAt(t, to+"/copy"), ".", false); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
}
