package fs

import (
	"context"
	"io"
	iofs "io/fs"
	"os"
)

// What some storages can do beside Driver. Each is used where it is there, and
// nothing else depends on it. All of them stand here, so that a storage is
// written, and a caller read, from two files. Each driver says which it has
// where its Driver is declared, by
//
//	var _ fs.Sweeper = (*Driver)(nil)
//
// so that a method that is gone, or has another signature, does not compile:
// found by a type assertion alone it would silently not be called any more.

// Bookmarker is a driver whose bases outlive their snapshots, as bookmarks do,
// and that can hold what is being shipped. A purpose is a repository's id.
// Every method may be repeated, and a repeated one changes nothing.
type Bookmarker interface {
	// Bases lists what increments of a dataset can build on, oldest first:
	// our snapshots, and what is left of those that were deleted.
	Bases(ctx context.Context, dataset Dataset) ([]Snapshot, error)
	// Bookmarks are the guids of snapshots that need not be kept as bases.
	Bookmarks(ctx context.Context, dataset Dataset) (map[string]bool, error)
	// Protect keeps a snapshot and its base, nil for a full stream, from being
	// destroyed, also after this process has ended.
	Protect(ctx context.Context, purpose string, snapshot Snapshot, base *Snapshot) error
	// Shipped ends what Protect began, and leaves a base behind.
	Shipped(ctx context.Context, purpose string, snapshot Snapshot) error
	// Tidy removes bases and holds for which needed and held say no, and
	// returns what it removed, for users.
	Tidy(ctx context.Context, dataset Dataset, needed func(guid string) bool, held func(purpose, guid string) bool) ([]string, error)
}

// Resumer is a driver that can open a stream in its middle.
type Resumer interface {
	// Resume opens the stream of Send with the same snapshot and base from byte
	// at on. state is what the stream said there in an earlier attempt, as a
	// Stater. It returns only when what it opened is known to continue that very
	// stream; after any error the stream can be opened from its beginning.
	Resume(ctx context.Context, snapshot Snapshot, base *Snapshot, at int64, state string) (io.ReadCloser, error)
}

// Estimator is a driver that knows about how large a stream will be.
type Estimator interface {
	// Estimate is about how many bytes Send will give, base nil for a full
	// stream. An error means that it is not known, and is no reason not to send.
	Estimate(ctx context.Context, snapshot Snapshot, base *Snapshot) (bytes int64, err error)
}

// Describer is a driver whose datasets have properties that users set.
type Describer interface {
	// Properties are those that were set on the datasets themselves, by the
	// datasets' guids. They are kept in a point, and an Expecter is told them.
	Properties(ctx context.Context, datasets []Dataset) (map[string]map[string]string, error)
}

// Sweeper is a driver whose work leaves something behind when it is killed.
type Sweeper interface {
	// Sweep removes what killed processes left half made, and returns what it
	// removed. What a living process works on, and what an interrupted restore
	// can go on with, stays. Where there is none of this storage it does nothing.
	Sweep(ctx context.Context) ([]string, error)
}

// Tender is a driver whose storage is endangered by snapshots while they live,
// as a pool is that they fill.
type Tender interface {
	// Tend looks after that, and returns what users have to be told, also of
	// what other calls did since the last Tend of any process.
	Tend(ctx context.Context) (told []string, err error)
	// Watch is Tend for a caller that comes every few seconds, on one Driver: it
	// is cheap where nothing is to be done. What it tells it tells once, and
	// leaves it for the next Tend. live says that there is something to be
	// watched on.
	Watch(ctx context.Context) (told []string, live bool, err error)
	// Live tells whether there may be something to watch. It asks no program,
	// needs no rights, and is right also after a boot.
	Live() bool
}

// Unsuspender is a driver whose commands, when they are killed, can leave
// datasets suspended, so that every program that writes there waits.
type Unsuspender interface {
	// Unsuspend resumes them, with all that the same command may have suspended
	// beside them, and returns what that was. Outside the window only.
	Unsuspend(ctx context.Context, datasets []Dataset) ([]string, error)
}

// FilesystemLister is a driver whose datasets are block devices.
type FilesystemLister interface {
	// Filesystems lists what this host has mounted on the datasets, one for each
	// that is mounted. Outside the window only.
	Filesystems(ctx context.Context, datasets []Dataset) ([]Filesystem, error)
}

// OwnLister is a driver that finds our snapshots without being told of which
// datasets: those that no record of this host names any more.
type OwnLister interface {
	// Ours lists what Snapshots does, of every dataset that can be seen now, and
	// of those that are gone and have left snapshots, by dataset and then oldest
	// first. Where there is none of this storage it is empty. After an error
	// nothing follows from what the list lacks. It removes and changes nothing.
	Ours(ctx context.Context) ([]Snapshot, error)
}

// InterruptedLister is a driver whose restores leave something behind when they
// are interrupted.
type InterruptedLister interface {
	// Interrupted says, a sentence each, which restores were interrupted, what
	// they left, and what becomes of that: whether it can be gone on with (its
	// receivers are Continuers then), and until when.
	Interrupted(ctx context.Context) ([]string, error)
}

// Checker is a driver that can have the filesystem on a restored dataset checked
// by its own tool, without changing it.
type Checker interface {
	// CheckFilesystem returns what the tool said. It is ErrDamaged where that
	// found damage, and ErrNotMine where there is no filesystem that it knows; any
	// other error says that nothing was found out.
	CheckFilesystem(ctx context.Context, dataset Dataset) (said string, err error)
}

// Opener is a driver that shows what a snapshot holds without a restore.
type Opener interface {
	// Open opens a snapshot of ours for reading, and changes nothing in it. One that
	// is gone is ErrNotFound; one that this driver cannot show, as of a disk without
	// a filesystem, is ErrNotMine. The caller closes the result. As long as it is open
	// Delete of that snapshot may be ErrBusy. What a killed process had opened goes
	// with it, or with the next Open or Sweep.
	Open(ctx context.Context, snapshot Snapshot) (Opened, error)
}

// Opened is a snapshot that is open for reading.
type Opened interface {
	// Root is its root directory, until Close. Nothing leads out of it, nothing can
	// be written there, and reading sets no time.
	Root() *os.Root
	// Absent tells of an entry, by what Lstat says of it, that it is only the place
	// of a dataset of its own, of which the snapshot has nothing. Where a storage
	// leaves no trace of that the answer is no.
	Absent(entry iofs.FileInfo) bool
	// Attach shows it at a directory of this host (nosuid, nodev, noexec, read-only),
	// until it is unmounted there. It is called once at most. No process has to stay,
	// and Close does not end it.
	Attach(dir *os.File) error
	// Close closes it. It may be called twice.
	Close() error
}

// HealthTeller is a driver whose storage counts errors, and knows what it lacks.
type HealthTeller interface {
	// Health says what is wrong with what the datasets lie on, as the storage
	// knows it already: it reads no data, repairs nothing and resets no count. Each
	// thing is told once, however many of the datasets it concerns. Of a dataset
	// that is not here now, or whose storage is well, it says nothing; an error
	// says that some of it is not known, beside what is. A device that hangs may
	// keep it from coming back, even when ctx has ended: the caller holds no lock,
	// and leaves it behind. Outside the window only.
	Health(ctx context.Context, datasets []Dataset) ([]Finding, error)
}

// Finding is one thing that is wrong with a storage.
type Finding struct {
	On       string   // what it is about, for users: "Btrfs at /srv", "pool tank"
	Datasets []string // the names of those that it concerns, of those that were given
	What     string   // what is wrong with it, as what follows a colon
	Do       string   // advice, "" when there is none
	// Grave: something is missing, damaged or cannot be written now. Otherwise it
	// was counted once, and may have been repaired.
	Grave bool
}

// TopOpener is a driver of a storage whose filesystems hold several datasets, and
// need not be mounted where all of them are seen.
type TopOpener interface {
	// OpenTop opens the directory at the top of the filesystem that a dataset lies
	// on, through a mount that is seen nowhere. The caller closes it soon: until
	// then the filesystem is in use. The error of another storage's dataset is
	// ErrNotMine.
	OpenTop(ctx context.Context, dataset Dataset) (*os.File, error)
}

// What some receivers and streams can do.

// Expecter is a receiver that wants to know what the dataset was like.
type Expecter interface {
	// Expect is called once at most, before the first stream, with what a
	// Describer said of the dataset. An error means that it cannot be restored.
	Expect(ctx context.Context, properties map[string]string) error
}

// Roomer is a receiver that knows how much room its dataset needs.
type Roomer interface {
	// Room is asked after Expect and before the first stream. needed is what the
	// dataset will take at least, beside what an interrupted restore has left of it,
	// and free what there is now, in bytes. Receivers with the same place share what
	// is free. place is for users too, and "" when the room is not known.
	Room() (place string, needed, free int64)
}

// Continuer is a receiver that goes on with what an interrupted restore to the
// same target left, and leaves such in turn when its source fails or its
// context ends.
type Continuer interface {
	// Continue is called once, before the first stream, with the guids of the
	// snapshots that the streams make. It returns how many of the streams are
	// there whole, and whether the one after them is there in part.
	Continue(ctx context.Context, chain []string) (whole int, part bool, err error)
	// ApplyRest is Apply of the stream that is there in part; open reads it
	// from the byte wanted or a little before. After an error without Kept
	// the part is gone, and the stream can be applied whole.
	ApplyRest(ctx context.Context, open func(from int64) (r io.ReadCloser, at int64, err error), guid, base string) error
	// Kept says where what was received is kept, "" when it is not.
	Kept() string
}

// Noter is a receiver or a stream with something that users should know.
type Noter interface {
	// Notes are sentences: of a receiver after Finish what is locked, not mounted
	// or could not be set again; of a stream, once it is open, what it costs to
	// find out what to send.
	Notes() []string
}

// Stater is a stream that can say where it is, for a Resumer. ship has the same
// interface, since it knows no storage.
type Stater interface {
	// State is what Resume needs to go on from the byte that was read last, ""
	// when it could not. It is called between Reads.
	State() string
}

// Denser is a stream that knows what of it would not shrink. ship has the same
// interface, since it knows no storage.
type Denser interface {
	// Dense counts the bytes so far that the storage had compressed or encrypted,
	// so that nothing is gained by compressing them again. It is called between
	// Reads.
	Dense() int64
}
