package house

import (
	"cmp"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module      = "../.."
	sliceLimit  = 10 // minutes
	slicesLimit = 25 // so that every one runs within about twenty commits
)

// line is one of scripts/slices.
type line struct {
	slice, tier, dir, test, part string
	minutes                      int
	why                          string
}

// TestEveryLongTestIsInASlice: a test that make test never runs rots.
func TestEveryLongTestIsInASlice(t *testing.T) {
	all := readSlices(t)
	for _, fault := range checkSlices(all, longTests(t)) {
		t.Error(fault)
	}
	for _, l := range all {
		if !declares(t, l) {
			t.Errorf("%s has no test %s of tier %s", l.dir, l.test, l.tier)
		}
	}
}

// TestSlicesCanBeWrong: the check above finds what it is for.
func TestSlicesCanBeWrong(t *testing.T) {
	long := map[string]bool{"host ./a TestA": true, "host ./a TestB": true}
	a, b := line{slice: "1", tier: "host", dir: "./a", test: "TestA", minutes: 5}, line{slice: "2", tier: "host", dir: "./a", test: "TestB", minutes: 5}
	if faults := checkSlices([]line{a, b}, long); len(faults) > 0 {
		t.Errorf("a right list has %q", faults)
	}
	part, slow, unexplained := a, b, b
	part.part, slow.minutes, unexplained.slice = "x", 11, "-"
	for name, wrong := range map[string][]line{
		"missing": {a}, "twice": {a, b, a}, "whole and part": {a, part, b}, "too long": {a, slow}, "no reason": {a, unexplained},
	} {
		if faults := checkSlices(wrong, long); len(faults) != 1 {
			t.Errorf("%s: found %q", name, faults)
		}
	}
}

func checkSlices(all []line, long map[string]bool) (faults []string) {
	minutes, seen := map[string]int{}, map[string][]string{}
	for _, l := range all {
		key := l.tier + " " + l.dir + " " + l.test
		if l.slice == "-" {
			if l.why == "" {
				faults = append(faults, key+" is left out without a reason")
			}
		} else {
			minutes[l.slice] += l.minutes
		}
		if parts := seen[key]; slices.Contains(parts, l.part) || len(parts) > 0 && (l.part == "" || slices.Contains(parts, "")) {
			faults = append(faults, key+" is in more than one slice")
		}
		seen[key] = append(seen[key], l.part)
	}
	for slice, n := range minutes {
		if n > sliceLimit {
			faults = append(faults, "slice "+slice+" takes "+strconv.Itoa(n)+" minutes")
		}
	}
	if len(minutes) > slicesLimit {
		faults = append(faults, "there are too many slices")
	}
	for test := range long {
		if len(seen[test]) == 0 {
			faults = append(faults, test+" is in no slice of scripts/slices")
		}
	}
	return faults
}

func readSlices(t *testing.T) (out []line) {
	t.Helper()
	text, err := os.ReadFile(module + "/scripts/slices")
	if err != nil {
		t.Fatal(err)
	}
	for text := range strings.Lines(string(text)) {
		f := strings.Fields(text)
		if len(f) == 0 || f[0] == "#" || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 6 {
			t.Fatalf("scripts/slices: %q has too few words", text)
		}
		l := line{slice: f[0], tier: f[1], dir: f[2], why: strings.Join(f[6:], " ")}
		l.test, l.part, _ = strings.Cut(f[3], "/")
		if l.minutes, err = strconv.Atoi(f[4]); err != nil {
			t.Fatalf("scripts/slices: %q: %v", text, err)
		}
		out = append(out, l)
	}
	return out
}

// longTests are the tests of files that are built with the tag long alone, by
// tier, folder and name.
func longTests(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(module, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		tags, tests := testsOf(t, path)
		if tags == nil || !built(tags, "long") || built(tags, "") {
			return nil
		}
		dir, err := filepath.Rel(module, filepath.Dir(path))
		tier := cmp.Or(tierOf(tags), "no tier")
		for _, test := range tests {
			out[tier+" ./"+filepath.ToSlash(dir)+" "+test] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 30 {
		t.Fatalf("only %d long tests were found", len(out))
	}
	return out
}

func declares(t *testing.T, l line) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(module, l.dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(path string) bool {
		tags, tests := testsOf(t, path)
		return slices.Contains(tests, l.test) && (tags == nil || tags.Eval(func(tag string) bool { return tag == l.tier || tag == "long" }))
	})
}

// testsOf reads which tests a file has, and when it is built; nil means always.
func testsOf(t *testing.T, path string) (tags constraint.Expr, tests []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() < file.Package && constraint.IsGoBuild(c.Text) {
				if tags, err = constraint.Parse(c.Text); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
			tests = append(tests, f.Name.Name)
		}
	}
	return tags, tests
}

// built tells whether a file is built on some tier with this tag more.
func built(tags constraint.Expr, more string) bool {
	return slices.ContainsFunc(tiers(), func(tier string) bool {
		return tags.Eval(func(tag string) bool { return tag == tier || tag == more || tag == "linux" })
	})
}

func tierOf(tags constraint.Expr) string {
	for _, tier := range tiers() {
		if tags.Eval(func(tag string) bool { return tag == tier || tag == "long" || tag == "linux" }) {
			return tier
		}
	}
	return ""
}

func tiers() []string { return []string{"host", "guest", "outside"} }
