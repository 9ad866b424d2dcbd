package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// capabilities is the one file that may ask a value for what has no name.
const capabilities = "internal/fs/optional.go"

// TestNoCapabilityWithoutAName: a type assertion to an interface literal is
// never refuted by a compiler. When the method that it asks for gets another
// signature, it is silently not called any more. An interface with a name is
// asserted where its implementation is declared.
func TestNoCapabilityWithoutAName(t *testing.T) {
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, err := filepath.Rel("../..", path)
		if err != nil || name == capabilities {
			return err
		}
		files++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, at := range assertedLiterals(file) {
			t.Errorf("%s: a type is asserted to be an interface without a name: give it one, for a driver in %s", set.Position(at), capabilities)
		}
		return nil
	})
	if err != nil || files < 100 {
		t.Errorf("%d files were read, %v", files, err)
	}
}

// assertedLiterals finds the type assertions and the cases of type switches that
// name an interface by its methods. An empty one has none that could change.
func assertedLiterals(file *ast.File) (at []token.Pos) {
	look := func(e ast.Expr) {
		if i, ok := ast.Unparen(e).(*ast.InterfaceType); ok && i.Methods.NumFields() > 0 {
			at = append(at, i.Pos())
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeAssertExpr:
			look(n.Type) // nil in a switch
		case *ast.TypeSwitchStmt:
			for _, c := range n.Body.List {
				for _, e := range c.(*ast.CaseClause).List {
					look(e)
				}
			}
		case *ast.CallExpr: // errors.AsType[interface{ … }](err)
			switch f := n.Fun.(type) {
			case *ast.IndexExpr:
				look(f.Index)
			case *ast.IndexListExpr:
				for _, e := range f.Indices {
					look(e)
				}
			}
		}
		return true
	})
	return at
}

// TestLiteralsAreFound: the check above can fail.
func TestLiteralsAreFound(t *testing.T) {
	const text = `package p

type named interface{ M() }

func f(v any, err error) {
	_, _ = v.(named)
	_, _ = v.(any)
	_, _ = v.(interface{ M() })   // 1
	_, _ = v.(interface {         // 2
		M()
	})
	_ = v.((interface{ M() }))    // 3
	switch v.(type) {
	case int, interface{ M() }:   // 4
	case named, interface{}:
	}
	switch w := v.(type) {
	case interface{ M() }:        // 5
		_ = w
	}
	_, _ = errors.AsType[interface{ M() }](err) // 6
	func(interface{ M() }) {}(nil)
}
`
	file, err := parser.ParseFile(token.NewFileSet(), "p.go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(assertedLiterals(file)); got != 6 {
		t.Errorf("%d literals are found, want 6", got)
	}
}
