package demo

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// tree is what a directory holds: for each path what a user would notice.
type tree map[string]string

// readTree reads every file below dir to its last byte.
func readTree(dir string) (tree, error) {
	out := tree{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[name], err = describe(path)
		return err
	})
	return out, err
}

func describe(path string) (string, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: no owner", path)
	}
	text := fmt.Sprintf("%s %d:%d %d", info.Mode(), owner.Uid, owner.Gid, info.ModTime().UnixNano())
	switch {
	case info.Mode().IsRegular():
		sum, err := digest(path)
		return text + " " + sum, err
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return text + " -> " + target, err
	}
	return text, nil
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// differences names paths that are not the same in both.
func differences(want, got tree) []string {
	var out []string
	for path, w := range want {
		if g, there := got[path]; !there {
			out = append(out, path+" is missing")
		} else if g != w {
			out = append(out, fmt.Sprintf("%s is %q, was %q", path, g, w))
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			out = append(out, path+" was not there")
		}
	}
	slices.Sort(out)
	return out
}
