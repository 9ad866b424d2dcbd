// Command tree makes the files that the ship benchmark ships, from those of
// this machine, and changes one per cent of them.
//
//	tree make DIR FILES BYTES  FILES files of BYTES together
//	tree folders DIR PERCENT SEED  rewrite all files in that part of the folders
//	tree files DIR PERCENT SEED    rewrite that part of the files, all over the tree
//	tree bytes DIR BYTES SEED      write that much into ten files
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
		return errors.New("usage: tree make DIR FILES BYTES | tree folders|files DIR PERCENT SEED | tree bytes DIR BYTES SEED")
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
	case "folders", "files":
		return change(args[1], a, b, args[0] == "folders")
	case "bytes":
		return write(args[1], a, b)
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
	word := words()
	for len(out) < size {
		out = fmt.Appendf(out, "%s=%d ", word[r.IntN(len(word))], r.IntN(100000))
	}
	return out[:size]
}

func words() []string {
	return []string{"order", "customer", "amount", "shipped", "status", "created", "updated", "total", "currency", "reference", "invoice", "payment"}
}

// makeTree copies files of this machine, a mixture of programs, sources and
// documents as servers hold them: FILES small ones, then large ones until there
// are BYTES. What the machine lacks is made up.
func makeTree(dir string, files, bytes int) error {
	small, large, err := machineFiles()
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(small), func(i, j int) { small[i], small[j] = small[j], small[i] })
	total := 0
	for i := 0; i < files || total < bytes; i++ {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i%600))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		from := ""
		switch {
		case i < files && i < len(small):
			from = small[i]
		case i >= files && i-files < len(large):
			from = large[i-files]
		}
		text := content(r, bytes/files/2+r.IntN(bytes/files))
		if from != "" {
			if text, err = os.ReadFile(from); err != nil {
				return err
			}
		}
		total += len(text)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("%06d.dat", i)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// machineFiles lists regular files of up to 200 KB, and larger ones of up to
// 20 MB, in the order of their names.
func machineFiles() (small, large []string, err error) {
	for _, root := range []string{"/usr", filepath.Join(os.Getenv("HOME"), "go/pkg/mod")} {
		err = errors.Join(err, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			info, err := e.Info()
			switch {
			case err != nil || info.Size() > 20e6:
				return err
			case info.Size() > 200e3:
				large = append(large, path)
			default:
				small = append(small, path)
			}
			return nil
		}))
	}
	return small, large, err
}

// change rewrites that part of the files: those of whole folders, as where the
// newest orders, logs or mails lie, or files all over the tree, which is the
// worst case for a program that compares trees.
func change(dir string, percent, seed int, folders bool) error {
	r := rand.New(rand.NewPCG(3, uint64(seed)))
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != dir && folders && r.IntN(100) >= percent {
			return filepath.SkipDir
		}
		if !e.Type().IsRegular() || !folders && r.IntN(100) >= percent {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(path, content(r, int(info.Size())), 0o644)
	})
}

// write is what databases and logs do: much into few files.
func write(dir string, bytes, seed int) error {
	r := rand.New(rand.NewPCG(5, uint64(seed)))
	for i := range 10 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("table %d.ibd", i)), content(r, bytes/10), 0o644); err != nil {
			return err
		}
	}
	return nil
}
