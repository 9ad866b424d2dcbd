// Package fs has the words for storage: what a dataset and a snapshot are,
// what a driver promises, and the errors that every driver uses. It has no
// behaviour of its own; zfs, btrfs and lvm below it drive one storage each.
package fs

import (
	"context"
	"errors"
	"io"
	"time"
)

// Dataset is what one driver can snapshot atomically: a ZFS filesystem or
// volume, a Btrfs subvolume, an LVM logical volume.
type Dataset struct {
	Driver string // Btrfs, ZFS or LVM
	Name   string // what a user calls it: "tank/data", the path of a subvolume on this host, "vg/lv"
	GUID   string // the storage's own identity, which survives a rename: subvolume UUID, ZFS guid, LV UUID
	Domain string // datasets with an equal Domain are taken at one instant by one Take
}

// Snapshot is one dataset at one instant, read-only, as the storage keeps it.
type Snapshot struct {
	Dataset Dataset
	Name    string    // ours, see SnapshotName
	GUID    string    // the storage's own identity; never reused
	Order   uint64    // grows from snapshot to snapshot of one dataset (txg, generation)
	Time    time.Time // when the storage made it, UTC
}

// Place says where a path of this host lies.
type Place struct {
	Dataset Dataset
	Path    string   // below the dataset's root, "." for the root itself, never starting with a slash
	Nested  []string // host paths below the given path that are datasets of their own and therefore not in a snapshot of this one
	Foreign []string // such paths that are not among Nested, because they are read-only snapshots that other programs keep
}

// Filesystem is one that this host has mounted on a dataset that is a block
// device: a logical volume, a ZFS volume. A FilesystemLister finds them.
type Filesystem struct {
	Dataset Dataset
	Dir     string // where it is mounted on this host
	Type    string // "ext4", "xfs", …
	Device  uint64 // as st_dev of Dir has it
	// Always says that it has to be frozen for a snapshot even of this
	// dataset alone (a ZFS volume); otherwise only for one instant over
	// several domains (the kernel does it for one logical volume).
	Always bool
	// Refuses says why it must not or cannot be frozen, "" when it can:
	// for example that this kernel takes no snapshot of a frozen one.
	Refuses string
}

// Errors that every driver wraps, so that callers can tell them apart with
// errors.Is. Advice for the user stands beside them (package advice).
var (
	ErrNotMine  = errors.New("not on this driver's storage")
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrNoSpace  = errors.New("no space left")
	ErrBase     = errors.New("base does not fit")
	ErrBusy     = errors.New("in use")
	ErrDamaged  = errors.New("the filesystem is damaged")

	// ErrUnreadable: the storage does not give back what was written to it. Of a
	// stream it means that this snapshot cannot be sent, and that others may.
	ErrUnreadable = errors.New("data is damaged on the disk")
)

// Driver drives one storage system: it takes snapshots, and moves them as
// streams. All methods may be called from several goroutines at once, and every
// one may be repeated after a failure. What only some storages can do is in
// optional.go.
type Driver interface {
	Snapshotter
	Streamer
}

// Snapshotter is the half of a Driver that finds datasets and keeps snapshots.
type Snapshotter interface {
	// Locate finds the dataset that an existing path of this host lies in.
	// Symbolic links must have been resolved by the caller. ErrNotMine when
	// the path lies on storage of another kind.
	Locate(ctx context.Context, path string) (Place, error)

	// Prepare does everything for a snapshot called name that can be done
	// before the window: it resolves and opens, checks that name is free and
	// that there is room, and flushes dirty data. The caller closes the result.
	Prepare(ctx context.Context, name string, datasets []Dataset) (Prepared, error)

	// Snapshots lists our own snapshots of a dataset, oldest first, complete
	// ones only. Those of a dataset that is gone are listed as long as the
	// storage has them; when there are none either, it is ErrNotFound.
	Snapshots(ctx context.Context, dataset Dataset) ([]Snapshot, error)

	// Delete removes one of our snapshots. One that is already gone is no error.
	Delete(ctx context.Context, snapshot Snapshot) error
}

// Streamer is the half of a Driver that moves snapshots as streams.
type Streamer interface {
	// Format is the format of the stream that Send makes of a snapshot, as it
	// stands in a manifest: "btrfs-2". With fixed, all streams of a chain have
	// to have one format; without it a receiver takes them mixed.
	Format(ctx context.Context, snapshot Snapshot) (format string, fixed bool, err error)

	// Send opens the stream from base to snapshot; base nil means the whole
	// of it. The last Read returns io.EOF only if the stream is complete.
	// The caller closes it; closing early ends the sender.
	Send(ctx context.Context, snapshot Snapshot, base *Snapshot) (io.ReadCloser, error)

	// Receive opens a restore into target, which is what stands behind
	// "driver:" on the command line. A target that exists is ErrExists, and
	// nothing was touched, unless the placement says what to do with it.
	Receive(ctx context.Context, target string, placement Placement) (Receiver, error)
}

// Prepared is a snapshot about to be taken.
type Prepared interface {
	// Take makes the snapshots: those of one domain at one instant, domains
	// as nearly together as the storage allows. It runs in the window: it
	// does nothing else, and cannot be cancelled. On error some may exist;
	// Result names those.
	Take() error
	// Result describes what Take made, in the order of the datasets given
	// to Prepare. It is called after the window. After a failed Take it
	// returns only those that exist.
	Result(ctx context.Context) ([]Snapshot, error)
	// Close closes what Prepare opened. It may be called twice.
	Close() error
}

// Placement says what a restore does when its target exists.
type Placement struct {
	// ReplaceSuffix, if not empty, is appended to the name of what exists at
	// the target, which is moved there by Finish and not before.
	ReplaceSuffix string
	// Wanted is the target that was asked for, where that exists and the restore
	// goes to a new name beside it, another one each time: an interrupted restore
	// is known by it. "" when the target is the one that was asked for.
	Wanted string
}

// Receiver builds one dataset from a chain of streams. Nothing is seen at the
// target before Finish.
type Receiver interface {
	// Apply receives one stream, which must make the snapshot guid from the
	// snapshot base ("" for a full stream). When the reader fails or the
	// stream is not whole, what it made is removed and what earlier calls
	// made stays.
	Apply(ctx context.Context, stream io.Reader, guid, base string) error
	// Finish makes the last applied snapshot a writable dataset at the
	// target and says where it lies.
	Finish(ctx context.Context) (Dataset, error)
	// Close removes everything that Finish did not hand over. It works on
	// when ctx of the restore was cancelled, and may be called twice.
	Close() error
}
