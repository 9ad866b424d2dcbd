package zfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/run"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

// ErrKey says that a dataset's encryption key is not loaded and needed.
var ErrKey = errors.New("encryption key is not loaded")

// complaint is something that zfs says, what it means to callers, and the
// advice for the user.
type complaint struct {
	says []string
	is   error
	do   string
}

// complaints are in order: what is more exact comes first.
func complaints() []complaint {
	return []complaint{
		{[]string{"pool I/O is currently suspended", "I/O is currently suspended"}, ErrSuspended, "look with zpool status which devices do not answer, and when they are back, run: zpool clear POOL"},
		{[]string{"IV set guid mismatch", "IV set guid missing"}, fs.ErrBase, "ship a full stream: an increment that was not sent raw is in the chain, or the target was changed"},
		{
			[]string{"incremental send stream requires -L"},
			fs.ErrBase, "ship a full stream: the chain was begun with large blocks and goes on without",
		},
		{
			[]string{
				"does not match incremental source", "not an earlier snapshot", "Invalid cross-device link",
				"most recent snapshot of", "has been modified", "incremental source", "is not a descendant",
			},
			fs.ErrBase, "",
		},
		{[]string{"out of space", "No space left on device", "quota exceeded", "Disk quota", "Disc quota"}, fs.ErrNoSpace, "free some, raise the quota, or take another pool (zfs list -o space shows where it went)"},
		{[]string{"Key must be loaded", "key must be loaded", "key not loaded", "Key not loaded", "encryption key", "keys are not loaded"}, ErrKey, "load it with: zfs load-key DATASET"},
		{[]string{"already exists", "must specify -F to overwrite", "' exists"}, fs.ErrExists, ""},
		{[]string{"being held"}, fs.ErrBusy, "see which holds it has with: zfs holds SNAPSHOT"},
		{[]string{"is busy", "dependent clones", "has children", "filesystem is mounted", "cannot unmount"}, fs.ErrBusy, "see which programs and clones use it (fuser -vm; zfs list -o name,origin), and try again"},
		{[]string{"does not exist", "no such pool", "no longer exists", "no such snapshot", "could not find any"}, fs.ErrNotFound, ""},
		{
			[]string{"checksum mismatch", "invalid backup stream", "incomplete stream", "invalid stream", "bad magic", "failed to read from stream", "stream is damaged"},
			zfsstream.ErrInvalid, "",
		},
		{[]string{"modules cannot be auto-loaded", "modules are not loaded", "/dev/zfs"}, nil, "load them with: modprobe zfs; if that fails, the package zfs-dkms or zfs-modules of this kernel is missing"},
		{[]string{"is read-only", "read only pool", "Read-only file system"}, nil, "import the pool for writing"},
		{[]string{"unsupported feature", "feature to be enabled", "upgrade the pool", "pool must be upgraded"}, nil, "enable the feature with zpool upgrade, or restore to a pool that has it"},
	}
}

// explain adds to an error of a command the sentinel that callers test for and
// the advice for the user.
func explain(err error) error {
	if failed, ok := errors.AsType[*run.Error](err); ok {
		failed.Stderr, _, _ = strings.Cut(failed.Stderr, "\nusage:") // of no use to a user who never typed it
	}
	said, ok := stderr(err)
	if !ok {
		return err
	}
	for _, c := range complaints() {
		for _, words := range c.says {
			if strings.Contains(said, words) {
				return c.around(err)
			}
		}
	}
	if os.Geteuid() != 0 && (strings.Contains(said, "ermission denied") || strings.Contains(said, "not permitted")) {
		return advice.With(err, "run this as root")
	}
	return err
}

func (c complaint) around(err error) error {
	switch {
	case c.is == nil:
		return advice.With(err, "%s", c.do)
	case errors.Is(err, c.is):
		return err
	case c.do == "":
		return fmt.Errorf("%w: %w", c.is, err)
	}
	return advice.With(fmt.Errorf("%w: %w", c.is, err), "%s", c.do)
}

// stderr is what a failed command wrote, through whatever it was run.
func stderr(err error) (string, bool) {
	if failed := (*run.Error)(nil); errors.As(err, &failed) {
		return failed.Stderr, true
	}
	if failed := (*gozfs.Error)(nil); errors.As(err, &failed) {
		return failed.Stderr, true
	}
	return "", false
}

// missing tells whether the program itself is not there.
func missing(err error) bool { return errors.Is(err, exec.ErrNotFound) }
