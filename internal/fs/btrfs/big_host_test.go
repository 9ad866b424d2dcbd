//go:build host && long

package btrfs

import (
	"testing"

	"snapd/internal/fs/fstest"
)

// TestBig takes a minute or two and 7 GiB under TMPDIR.
func TestBig(t *testing.T) { fstest.RunBig(t, harness(newFilesystem(t, 10<<30))) }
