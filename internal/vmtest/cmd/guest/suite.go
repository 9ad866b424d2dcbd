package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The two kinds of tests that need a guest, by build tag; the file's name ends
// in the same word.
const (
	tagGuest   = "guest"   // run inside
	tagOutside = "outside" // run here and drive guests
)

// suite is the tests of one kind in one package, as its files name them.
type suite struct {
	dir   string // relative to the module's
	tag   string
	tests []string
}

// findSuites reads which tests there must be, from the files alone.
func findSuites(root string) ([]suite, error) {
	found := make(map[[2]string][]string)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); path != root && (name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		for _, tag := range []string{tagGuest, tagOutside} {
			if !strings.HasSuffix(path, "_"+tag+"_test.go") {
				continue
			}
			tests, err := testsOf(path, tag)
			if err != nil {
				return err
			}
			key := [2]string{filepath.Dir(path), tag}
			found[key] = append(found[key], tests...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for guest tests: %w", err)
	}
	var suites []suite
	for key, tests := range found {
		suites = append(suites, suite{dir: filepath.ToSlash(key[0]), tag: key[1], tests: tests})
	}
	slices.SortFunc(suites, func(a, b suite) int {
		return cmp.Or(cmp.Compare(a.tag, b.tag), cmp.Compare(a.dir, b.dir))
	})
	return suites, nil
}

// testsOf returns the tests of one file, which must carry the build tag that
// its name promises: without it they would run, and fail, on every machine.
func testsOf(path, tag string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	if !tagged(file, tag) {
		return nil, fmt.Errorf("%s: its name asks for the line //go:build %s", path, tag)
	}
	var tests []string
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if ok && function.Recv == nil && isTest(function.Name.Name) {
			tests = append(tests, function.Name.Name)
		}
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("%s holds no test", path)
	}
	return tests, nil
}

func tagged(file *ast.File, tag string) bool {
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if !constraint.IsGoBuild(comment.Text) {
				continue
			}
			expression, err := constraint.Parse(comment.Text)
			if err != nil {
				return false
			}
			with := expression.Eval(func(t string) bool { return t == tag || t == "linux" || t == "amd64" })
			without := expression.Eval(func(t string) bool { return t == "linux" || t == "amd64" })
			return with && !without
		}
	}
	return false
}

// isTest is go test's own rule.
func isTest(name string) bool {
	rest, found := strings.CutPrefix(name, "Test")
	if !found || name == "TestMain" {
		return false
	}
	if rest == "" {
		return true
	}
	first, _ := utf8.DecodeRuneInString(rest)
	return !unicode.IsLower(first)
}
