package vmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// inventoryName is the file that lists what a finished cache entry consists of.
// It is written last: an entry without it is unfinished. It has an older name,
// because another one would make every cached image anew.
const inventoryName = "seal.json"

// listed is one file of an entry. Reading gigabytes before every test would
// take longer than the guest does to start, so a file is read again only if
// its size or time of change is another than when it was listed.
type listed struct {
	Size    int64  `json:"size"`     // bytes
	Changed int64  `json:"mtime_ns"` // nanoseconds since 1970
	SHA256  string `json:"sha256"`
}

// writeInventory lists every file in dir.
func writeInventory(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the files of %s: %w", dir, err)
	}
	files := make(map[string]listed)
	for _, entry := range entries {
		if !entry.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("list the files of %s: %w", path, err)
		}
		files[entry.Name()] = listed{Size: info.Size(), Changed: info.ModTime().UnixNano(), SHA256: sum}
	}
	text, err := json.MarshalIndent(files, "", "\t")
	if err != nil {
		return fmt.Errorf("list the files of %s: %w", dir, err)
	}
	aside := filepath.Join(dir, "."+inventoryName)
	file, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("list the files of %s: %w", dir, err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("list the files of %s: %w", dir, err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("list the files of %s: %w", dir, err)
	}
	return os.Rename(aside, filepath.Join(dir, inventoryName))
}

// checkInventory says whether dir is complete and unharmed: nil, an error that is
// fs.ErrNotExist if there is nothing, or what is wrong with it.
func checkInventory(dir string) error { return check(dir, false) }

// discardDamaged reads the entries whole and removes those whose files are not
// the listed ones, to be made again. It tells whether there was one.
func (c cache) discardDamaged(dirs ...string) bool {
	found := false
	for _, dir := range dirs {
		if err := check(dir, true); err != nil {
			fmt.Fprintf(os.Stderr, "guest: %s is made again: %v\n", filepath.Base(dir), err)
			found = os.Remove(filepath.Join(dir, inventoryName)) == nil || found
		}
	}
	return found
}

func check(dir string, whole bool) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, inventoryName))
	if err != nil {
		return fmt.Errorf("%s is unfinished (no %s)", dir, inventoryName)
	}
	var files map[string]listed
	if err := json.Unmarshal(text, &files); err != nil {
		return fmt.Errorf("%s/%s: %w", dir, inventoryName, err)
	}
	if len(files) == 0 {
		return fmt.Errorf("%s/%s names no file", dir, inventoryName)
	}
	for name, want := range files {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("%s is missing", name)
		}
		if info.Size() != want.Size {
			return fmt.Errorf("%s has %d bytes, not %d", name, info.Size(), want.Size)
		}
		if !whole && info.ModTime().UnixNano() == want.Changed {
			continue
		}
		sum, err := fileSum(path)
		if err != nil {
			return err
		}
		if sum != want.SHA256 {
			return fmt.Errorf("%s is damaged: its SHA-256 is %s, not %s", name, sum, want.SHA256)
		}
	}
	return nil
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("checksum: %w", err)
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("checksum %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
