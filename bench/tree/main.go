// Command tree makes the files that the ship benchmark ships, and changes one
// per cent of them. The same seed gives the same bytes.
//
//	tree make DIR FILES BYTES     FILES files of BYTES together
//	tree change DIR PERCENT SEED  rewrite that part of them
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("usage: tree make DIR FILES BYTES | tree change DIR PERCENT SEED")
	}
	a, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	b, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	switch args[0] {
	case "make":
		return makeTree(args[1], a, b)
	case "change":
		return change(args[1], a, b)
	}
	return fmt.Errorf("no such word: %s", args[0])
}

// content is what servers hold: two thirds text, one third that does not
// compress.
func content(r *rand.Rand, size int) []byte {
	out := make([]byte, 0, size+16)
	if r.IntN(3) == 0 {
		for len(out) < size {
			out = append(out, byte(r.Uint32()))
		}
		return out
	}
	for len(out) < size {
		out = fmt.Appendf(out, "%s=%d ", words[r.IntN(len(words))], r.IntN(100000))
	}
	return out[:size]
}

var words = []string{"order", "customer", "amount", "shipped", "status", "created", "updated", "total", "currency", "reference", "invoice", "payment"}

func makeTree(dir string, files, bytes int) error {
	r := rand.New(rand.NewPCG(1, 2))
	mean := bytes / files
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i%600))
		if i < 600 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		size := mean/2 + r.IntN(mean)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%06d.dat", i)), content(r, size), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func change(dir string, percent, seed int) error {
	r := rand.New(rand.NewPCG(3, uint64(seed)))
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || r.IntN(100) >= percent {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(path, content(r, int(info.Size())), 0o644)
	})
}
