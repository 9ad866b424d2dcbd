package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// flagsOfOthers are string literals below cmd that name a flag which snapd has
// too, or looks like one of its, and why they may: by the file they stand in.
// "--" alone stands for every flag in that file.
func flagsOfOthers() map[string][]string {
	return map[string][]string{
		"internal/config/kit.go":          {"--kit", "--to"}, // a recovery kit is read where no snapd explains it
		"internal/fs/lvm/report.go":       {"--config"},      // lvs
		"internal/fs/lvm/prepare.go":      {"--config"},      // lvcreate
		"internal/ship/shiptest/minio.go": {"--"},            // MinIO
		"internal/demo/repository.go":     {"--"},            // MinIO
		"internal/workload/groups.go":     {"--all"},         // docker ps, docker compose ls
		"internal/doctor/service.go":      {"--now"},         // systemctl enable
		"internal/host/listen.go":         {"--now"},         // systemctl enable
	}
}

// flags of snapd's commands, as cmd/snapd registers them.
func flags(t *testing.T) []string {
	t.Helper()
	var out []string
	registers := regexp.MustCompile(`^(String|Bool|Int|Duration|StringSlice|StringArray)VarP?$`)
	each(t, filepath.Join("..", "..", "cmd", "snapd"), func(_ string, n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) < 3 {
			return
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && registers.MatchString(sel.Sel.Name) {
			if name, ok := text(call.Args[1]); ok {
				out = append(out, "--"+name)
			}
		}
	})
	if len(out) < 15 || !slices.Contains(out, "--to") || !slices.Contains(out, "--kit") {
		t.Fatalf("only these flags were found: %q", out)
	}
	return append(out, "--help")
}

// Only cmd knows flags: what is said below it also reaches callers who have
// none, and a flag that is renamed would be wrong in places that no compiler
// looks at.
func TestNoFlagIsNamedBelowCmd(t *testing.T) {
	known := flags(t)
	each(t, "..", func(file string, n ast.Node) {
		said, ok := text(n)
		if !ok {
			return
		}
		for _, flag := range named(said, known) {
			if !allowed(file, flag) {
				t.Errorf("%s: %q names %s; what helps is for cmd/snapd/advice.go to say", file, said, flag)
			}
		}
	})
}

var word = regexp.MustCompile(`(^|[^-\w])(--[a-z][a-z-]*)`)

// named are the flags of snapd in a text.
func named(said string, known []string) (out []string) {
	for _, m := range word.FindAllStringSubmatch(said, -1) {
		if slices.Contains(known, m[2]) {
			out = append(out, m[2])
		}
	}
	return out
}

func allowed(file, flag string) bool {
	for place, flags := range flagsOfOthers() {
		if strings.HasPrefix(file, place) && (slices.Contains(flags, flag) || slices.Contains(flags, "--")) {
			return true
		}
	}
	return false
}

// verbs begin advice.
var verbs = `run|use|add|remove|make|set|write|name|start|give|wait|choose|mount|unmount|umount|free|raise|look|see|check|move|install|try|restart|repair|correct|mend|update|export|import|take|pick|leave|list|call|stop|restore|ship|create|delete|rename|repeat|begin|say|tell|activate|extend|enable|load|attach|widen|grow|compare|release|upgrade|lower|put|let|edit|copy|show|pull|bring|close|enlarge|increase`

// advises finds advice in the text of an error: an imperative after a
// semicolon, a dash, a colon or in a parenthesis, or a command to be run.
var advises = regexp.MustCompile(`(;|—|–| - |\(|: )\s*(please |then |or |and |first |just )?(` + verbs + `)\b[ :]|\bdid you mean\b|; (snapd|zfs|zpool|lvs|vgs|docker|systemctl|btrfs|"systemctl|"snapd)\b`)

// What to do stands beside an error, where a program finds it too, and never in
// its text.
func TestNoAdviceInTheTextOfAnError(t *testing.T) {
	found := 0
	for _, root := range []string{"..", filepath.Join("..", "..", "cmd")} {
		each(t, root, func(file string, n ast.Node) {
			said, ok := errorText(n)
			if !ok {
				return
			}
			found++
			if m := advises.FindString(said); m != "" {
				t.Errorf("%s: the text %q has advice in it (%q): it belongs into advice.With", file, said, m)
			}
		})
	}
	if found < 500 {
		t.Errorf("only %d errors were looked at", found)
	}
}

// errorText is what an error is made of, or the text of an advice.With's error.
func errorText(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return "", false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Errorf", "New", "Usagef"}, sel.Sel.Name) {
		return "", false
	}
	if from, ok := sel.X.(*ast.Ident); !ok || !slices.Contains([]string{"fmt", "errors", "advice"}, from.Name) {
		return "", false
	}
	return text(call.Args[0])
}

// text is a string that is written out, also in several parts.
func text(n ast.Node) (string, bool) {
	switch e := n.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		a, aok := text(e.X)
		b, bok := text(e.Y)
		return a + b, aok || bok
	}
	return "", false
}

// each visits the nodes of the Go files below a folder, but for tests, their
// engine and the guest machine, which no user sees.
func each(t *testing.T, root string, visit func(file string, n ast.Node)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "vmtest" || d.Name() == "dockertest" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.ToSlash(path), "../")
		if name = strings.TrimPrefix(name, "../"); !strings.HasPrefix(name, "cmd/") {
			name = "internal/" + name
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if n != nil {
				visit(name, n)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Both rules must be able to fail.
func TestTheRulesOfAdviceFind(t *testing.T) {
	for said, want := range map[string]int{
		"name it with --kit FILE": 1, "--to btrfs:/x or --replace": 2, "lvcreate --addtag x": 0, "well-to-do, --together": 0,
	} {
		if got := named(said, []string{"--kit", "--to", "--replace"}); len(got) != want {
			t.Errorf("%q: found %q", said, got)
		}
	}
	for said, want := range map[string]bool{
		"it is gone; run: snapd thaw":                     true,
		"%s: %w; choose another target":                   true,
		"no such key; did you mean x?":                    true,
		"it is full (remove something)":                   true,
		"there is no unit; \"systemctl list-units\" does": true,
		"it is gone, and what it held is thawed":          false,
		"read the configuration: %w":                      false,
		"it ended with status 1; it said: x":              false,
	} {
		if got := advises.MatchString(said); got != want {
			t.Errorf("%q: got %v", said, got)
		}
	}
}
