package fstest

import (
	"os"
	"strings"
	"testing"
)

// Holes and written zeros are the same content; anything else differs.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string, at, size int64) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		m := newMaker(t, dir, 0)
		m.truncate(name, size)
		m.writeAt(name, []byte(data), at)
		sum, err := digest(path)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	const size = 1 << 20
	hole := write("hole", "", 0, size)
	if zeros := write("zeros", strings.Repeat("\x00", size), 0, 0); zeros != hole {
		t.Error("written zeros differ from a hole")
	}
	seen := map[string]string{hole: "a hole"}
	for name, at := range map[string]int64{"at the start": 0, "later": 65536, "and later": 65537, "at the end": size - 1} {
		sum := write(name, "x", at, size)
		if other, same := seen[sum]; same {
			t.Errorf("data %s looks like %s", name, other)
		}
		seen[sum] = name
	}
}

func TestDiff(t *testing.T) {
	dir := t.TempDir()
	m := newMaker(t, dir, 0)
	m.file("a", []byte("a"))
	m.file("b", []byte("b"))
	want := ReadTree(t, dir)
	if d := Diff(want, want); len(d) > 0 {
		t.Errorf("a tree differs from itself: %q", d)
	}
	m.chmod("a", 0o600)
	m.remove("b")
	m.link("a", "c")
	got := strings.Join(Diff(want, ReadTree(t, dir)), "\n")
	for _, part := range []string{`"a": mode`, `"b" is missing`, `"c" should not be there`, `".": time`} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not noticed in:\n%s", part, got)
		}
	}
}
