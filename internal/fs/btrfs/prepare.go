package btrfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"

	"golang.org/x/sys/unix"
)

const (
	// roomNeeded is the least free space with which a snapshot is taken, in
	// bytes. A snapshot costs little by itself, but keeps everything that is
	// overwritten from then on.
	roomNeeded = 4 << 20

	// Dirty data is flushed until a flush is short or this many were made:
	// what is written meanwhile would be flushed in the window.
	flushRounds = 3
	flushShort  = 30 * time.Millisecond
)

// Prepare implements fs.Driver.
func (d *Driver) Prepare(ctx context.Context, name string, datasets []fs.Dataset) (fs.Prepared, error) {
	if _, _, err := fs.ParseSnapshotName(name); err != nil {
		return nil, fmt.Errorf("prepare snapshot: %w", err)
	}
	p := &prepared{name: name, start: make(chan struct{})}
	for _, dataset := range datasets {
		one, err := d.prepareOne(ctx, name, dataset)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("prepare snapshot %s of %s: %w", name, dataset.Name, err), p.Close())
		}
		p.each = append(p.each, one)
	}
	if err := p.flush(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare snapshot %s: %w", name, err), p.Close())
	}
	p.wait()
	return p, nil
}

// prepared is a snapshot of several subvolumes about to be taken.
type prepared struct {
	name    string
	each    []*pending
	start   chan struct{} // closed: the waiting goroutines take theirs, or end if cancel is set
	taking  sync.WaitGroup
	cancel  bool // set before start is closed
	started bool
	closed  bool
}

// pending is one subvolume's snapshot about to be taken.
type pending struct {
	dataset fs.Dataset
	fsid    btrfsstream.UUID
	source  *os.File // root of the subvolume
	ours    *os.File // fs.BtrfsDir at the filesystem's top
	folder  *os.File // in there: where the snapshot goes, locked with a shared lock
	number  string   // the folder's name
	args    *volArgsV2
	// complete means that the snapshot is taken writable and made read-only
	// afterwards: a read-only one of a received subvolume would inherit its
	// received_uuid, and streams from it would carry that identity.
	complete bool
	err      error // of the ioctl; valid after Take
	taken    bool
}

func (d *Driver) prepareOne(ctx context.Context, name string, dataset fs.Dataset) (*pending, error) {
	id, err := d.identify(ctx, dataset)
	if err != nil {
		return nil, err
	}
	f, err := openFilesystem(id.fsid)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	one := &pending{dataset: dataset, fsid: id.fsid}
	if err := one.open(f, id, name); err != nil {
		return nil, errors.Join(err, one.Close())
	}
	return one, nil
}

func (p *pending) open(f *os.File, id identity, name string) error {
	source, info, err := openSource(f, id, p.dataset)
	if err != nil {
		return err
	}
	p.source = source
	if readOnly, err := isReadOnly(source); err != nil || readOnly {
		return errors.Join(err, explain(unix.EROFS))
	}
	if err := checkRoom(source); err != nil {
		return err
	}
	top, err := openSubvolume(f, topLevelID)
	if err != nil {
		return err
	}
	defer func() { _ = top.Close() }()
	if p.ours, err = openOurs(top, true); err != nil {
		return err
	}
	p.number = id.folder()
	if p.folder, err = lockFolder(p.ours, p.number, unix.LOCK_SH); err != nil {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(int(p.folder.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		return fmt.Errorf("snapshot %s: %w", name, fs.ErrExists)
	case !errors.Is(err, unix.ENOENT):
		return &os.PathError{Op: "stat", Path: p.folder.Name() + "/" + name, Err: err}
	}
	p.complete = !info.receivedUUID.IsZero()
	flags := uint64(subvolReadOnly)
	if p.complete {
		flags = 0
	}
	p.args, err = snapshotArgs(source, name, flags)
	return err
}

// checkRoom refuses a snapshot on a filesystem that is as good as full.
func checkRoom(f *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	if free := st.Bavail * uint64(st.Bsize); free < roomNeeded {
		return advice.With(fmt.Errorf("%w: the filesystem has %d KiB left, and a snapshot would keep it full", fs.ErrNoSpace, free>>10), "free some space or add a device")
	}
	return nil
}

// flush writes dirty data of every filesystem, again while that takes long.
func (p *prepared) flush(ctx context.Context) error {
	for range flushRounds {
		begin := time.Now()
		flushed := make(map[btrfsstream.UUID]bool)
		for _, one := range p.each {
			if err := ctx.Err(); err != nil {
				return err
			}
			if flushed[one.fsid] {
				continue
			}
			flushed[one.fsid] = true
			if err := unix.Syncfs(int(one.source.Fd())); err != nil {
				return fmt.Errorf("flush %s: %w", one.dataset.Name, explain(err))
			}
		}
		if time.Since(begin) < flushShort {
			break
		}
	}
	return nil
}

// wait puts a goroutine behind each subvolume but the first, which Take does
// itself.
func (p *prepared) wait() {
	if len(p.each) < 2 {
		return
	}
	for _, one := range p.each[1:] {
		p.taking.Go(func() {
			<-p.start
			if !p.cancel {
				one.take()
			}
		})
	}
}

func (p *pending) take() {
	p.err = snapshot(p.folder, p.args)
	p.taken = p.err == nil
}

// Take implements fs.Prepared.
func (p *prepared) Take() error {
	if p.started || p.closed {
		return errors.New("take snapshot: taken or closed already")
	}
	p.started = true
	close(p.start)
	if len(p.each) > 0 {
		p.each[0].take()
	}
	p.taking.Wait()
	var failed error
	for _, one := range p.each {
		if one.err != nil {
			failed = errors.Join(failed, fmt.Errorf("take snapshot %s of %s: %w", p.name, one.dataset.Name, one.explain()))
		}
	}
	return failed
}

func (p *pending) explain() error {
	if errors.Is(p.err, unix.EEXIST) {
		return fmt.Errorf("%w: %w", fs.ErrExists, p.err)
	}
	return explain(p.err)
}

// Result implements fs.Prepared.
func (p *prepared) Result(ctx context.Context) ([]fs.Snapshot, error) {
	var made []fs.Snapshot
	for _, one := range p.each {
		if !one.taken {
			continue
		}
		if err := ctx.Err(); err != nil {
			return made, err
		}
		s, err := one.result(p.name)
		if err != nil {
			return made, fmt.Errorf("read snapshot %s of %s: %w", p.name, one.dataset.Name, err)
		}
		made = append(made, s)
	}
	return made, nil
}

func (p *pending) result(name string) (fs.Snapshot, error) {
	root, err := child(p.folder, name)
	if err != nil {
		return fs.Snapshot{}, notFound(err)
	}
	defer func() { _ = root.Close() }()
	if p.complete {
		if err := setReadOnly(root); err != nil {
			return fs.Snapshot{}, err
		}
		p.complete = false
	}
	info, err := subvolInfo(root)
	if err != nil {
		return fs.Snapshot{}, err
	}
	return describeSnapshot(info, name, p.dataset), nil
}

// Close implements fs.Prepared. A snapshot that Result never completed goes.
func (p *prepared) Close() error {
	if p.closed {
		return nil
	}
	p.closed = true
	if !p.started {
		p.cancel = true
		close(p.start)
	}
	p.taking.Wait()
	var err error
	for _, one := range p.each {
		if one.taken && one.complete {
			err = errors.Join(err, removeSubvolume(one.folder, p.name, ""))
		}
		err = errors.Join(err, one.Close())
	}
	return err
}

func (p *pending) Close() error {
	var err error
	if p.folder != nil {
		err = removeFolder(p.ours, p.folder, p.number) // if nothing came to lie in it
	}
	for _, f := range []*os.File{p.source, p.ours, p.folder} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
