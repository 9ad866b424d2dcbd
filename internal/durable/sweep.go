package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Sweep removes from a directory the files aside that killed processes left there,
// when they were not written to for an age, in which every living one has ended. How
// old a file is says the clock of the filesystem: this host's may be wrong by years.
// Only what Begin names so goes, and only plain files.
func Sweep(dir string, age time.Duration) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var now time.Time
	var faults []error
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), Prefix)
		if !ours || digits == "" || strings.Trim(digits, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		if now.IsZero() {
			if now, err = clockOf(dir); err != nil {
				return errors.Join(append(faults, err)...)
			}
		}
		info, err := e.Info()
		if err == nil && now.Sub(info.ModTime()) > age {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// clockOf is what the filesystem says of a file that was just made.
func clockOf(dir string) (time.Time, error) {
	a, err := Begin(dir)
	if err != nil {
		return time.Time{}, err
	}
	info, err := a.file.Stat()
	if err = errors.Join(err, a.Close()); err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
