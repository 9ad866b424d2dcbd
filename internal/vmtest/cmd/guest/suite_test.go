package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSuitesAreReadFromTheFiles(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"a/x_guest_test.go":          "//go:build guest\n\npackage a\n\nfunc TestOne(t *testing.T) {}\nfunc Test(t *testing.T) {}\nfunc Testimony() {}\nfunc TestMain(m *testing.M) {}\n",
		"a/y_guest_test.go":          "//go:build linux && guest\n\npackage a\n\nfunc TestTwo(t *testing.T) {}\n",
		"a/z_outside_test.go":        "//go:build outside\n\npackage a\n\nfunc TestThree(t *testing.T) {}\n",
		"a/plain_test.go":            "package a\n\nfunc TestFour(t *testing.T) {}\n",
		"a/testdata/q_guest_test.go": "not Go",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	got, err := findSuites(".")
	want := []suite{{"a", tagGuest, []string{"TestOne", "Test", "TestTwo"}}, {"a", tagOutside, []string{"TestThree"}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if err := os.WriteFile("a/untagged_guest_test.go", []byte("package a\n\nfunc TestFive(t *testing.T) {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := findSuites("."); err == nil || !strings.Contains(err.Error(), "//go:build guest") {
		t.Errorf("a file without its build tag: %v", err)
	}
}

func TestWhatDidNotRunIsAFailure(t *testing.T) {
	s := suite{dir: "internal/x", tag: tagGuest, tests: []string{"TestA", "TestB"}}
	const passA = `{"Action":"pass","Test":"TestA","Elapsed":0.1}` + "\n"
	for _, run := range []struct {
		name, output, shown string
		bad                 int
	}{
		{"all", passA + `{"Action":"pass","Test":"TestB"}` + "\n" + `{"Action":"pass"}` + "\n", "ok   internal/x: TestA, TestB", 0},
		{"one never ran", passA + `{"Action":"pass"}` + "\n", "TestB has not passed", 1},
		{"one skipped", passA + `{"Action":"skip","Test":"TestB"}` + "\n", "TestB was skipped", 1},
		{"a part skipped", passA + `{"Action":"skip","Test":"TestB/part"}` + "\n" + `{"Action":"pass","Test":"TestB"}` + "\n", "TestB/part was skipped", 1},
		{"one failed", passA + `{"Action":"output","Test":"TestB","Output":"because\n"}` + "\n" + `{"Action":"fail","Test":"TestB"}` + "\n" + `{"Action":"fail"}` + "\n", "because", 1},
		{"does not compile", "x.go:1: no\n" + `{"Action":"fail"}` + "\n", "x.go:1: no", 2},
		{"the package fails after its tests", passA + `{"Action":"pass","Test":"TestB"}` + "\n" + `{"Action":"fail"}` + "\n", "FAIL internal/x", 1},
	} {
		t.Run(run.name, func(t *testing.T) {
			var shown bytes.Buffer
			o := outcome{passed: make(map[string]bool)}
			if err := o.read(strings.NewReader(run.output), false, &shown); err != nil {
				t.Fatal(err)
			}
			if got := o.report(&shown, s); got != run.bad {
				t.Errorf("%d bad, want %d", got, run.bad)
			}
			if !strings.Contains(shown.String(), run.shown) {
				t.Errorf("shown: %s", shown.String())
			}
		})
	}
}
