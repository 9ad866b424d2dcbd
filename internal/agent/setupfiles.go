package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"snapd/internal/config"
	"snapd/internal/ship"

	"golang.org/x/sys/unix"
)

// compose writes a first configuration.
func compose(repositories []config.Repository) string {
	var b strings.Builder
	b.WriteString("# snapd configuration; every key is described in docs/snapd.toml.md.\n")
	for _, r := range repositories {
		name := r.Name
		if strings.Contains(name, ".") {
			name = strconv.Quote(name)
		}
		fmt.Fprintf(&b, "\n[repository.%s]\nurl        = %q\n", name, r.URL)
		if r.Endpoint != "" {
			fmt.Fprintf(&b, "endpoint   = %q\n", r.Endpoint)
		}
		if r.Region != "" {
			fmt.Fprintf(&b, "region     = %q\n", r.Region)
		}
		if r.Encryption == config.EncryptionNone {
			b.WriteString("encryption = \"none\"\n")
		} else {
			quoted := make([]string, len(r.Recipients))
			for i, recipient := range r.Recipients {
				quoted[i] = strconv.Quote(recipient)
			}
			fmt.Fprintf(&b, "recipients = [%s]   # who can read; this host cannot\n", strings.Join(quoted, ", "))
		}
		fmt.Fprintf(&b, "signing-key-file = %q\n", r.SigningKeyFile)
	}
	b.WriteString(`
# One group of containers or paths that belong together. Containers can also
# say it themselves with the label snapd.enable=true.
#
# [group.shop]
# compose-project = "shop"       # or containers = ["a", "b"], or paths = ["/srv/data"]
# keep-local      = "24h"
# keep            = "24 hourly, 7 daily, 4 weekly, 12 monthly"
`)
	return b.String()
}

// writeConfiguration is the last step: what stands in it is there by then.
func (s *setup) writeConfiguration(context.Context) error {
	what := "configuration " + s.File
	if !s.fresh {
		s.out.note(&s.out.There, what)
		return nil
	}
	repositories := make([]config.Repository, len(s.places))
	for i, p := range s.places {
		repositories[i] = p.Repository
	}
	text := compose(repositories)
	_, err := config.Parse(s.File, []byte(text))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.File), 0o700)
	}
	if err == nil {
		err = createOnly(s.File, text)
	}
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.out.note(&s.out.Made, what)
	return nil
}

// saveSigner keeps a signing key in a new file.
func saveSigner(signer *ship.Signer, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return signer.Save(file)
}

// createOnly writes a file that must not exist, whole or not at all, readable
// by its owner only.
func createOnly(file, content string) error {
	return written(file, content, func(aside string) error {
		err := os.Link(aside, file) // unlike a rename, it does not replace
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
			// No hard links: FAT, as on a stick that a kit is written to.
			err = unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, file, unix.RENAME_NOREPLACE)
		}
		if err != nil {
			return &fs.PathError{Op: "create", Path: file, Err: err}
		}
		return nil
	})
}

// replace writes a file anew that is there and is ours.
func replace(file, content string) error {
	return written(file, content, func(aside string) error { return os.Rename(aside, file) })
}

// written writes content aside, has it named, and makes both durable.
func written(file, content string, name func(aside string) error) error {
	aside, err := os.CreateTemp(filepath.Dir(file), ".new-") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name()) //nolint:errcheck // under its lasting name it has another link, or no other name is left
	_, err = aside.WriteString(content)
	if err = errors.Join(err, aside.Sync(), aside.Close()); err != nil {
		return err
	}
	if err := name(aside.Name()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	if err = dir.Sync(); errors.Is(err, syscall.EINVAL) {
		err = nil // a filesystem that syncs no directories
	}
	return errors.Join(err, dir.Close())
}
