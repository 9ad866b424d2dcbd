package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"snapd/internal/vmtest"
)

// execute runs a test binary in a fresh guest, in a directory that holds the
// package's testdata, as `go test` would here.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	if len(args) == 0 {
		return 0, errUsage
	}
	binary, args := args[0], args[1:]
	here, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	g, err := vmtest.Boot(ctx, vmtest.Spec{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()

	// The same name as here: tests see where they are.
	dir := "/root/test/" + filepath.Base(here)
	paths := []string{binary}
	if info, err := os.Stat("testdata"); err == nil && info.IsDir() {
		paths = append(paths, "testdata")
	}
	if err := g.CopyIn(ctx, dir, paths...); err != nil {
		return 0, err
	}
	line := []string{"cd", quote(dir), "&&", "exec", "./" + quote(filepath.Base(binary))}
	for _, arg := range args {
		line = append(line, quote(arg))
	}
	return g.Stream(ctx, vmtest.Command{Line: strings.Join(line, " "), Stdout: stdout, Stderr: stderr})
}

// quote makes one shell word of text.
func quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
