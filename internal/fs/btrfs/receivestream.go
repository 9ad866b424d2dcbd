package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs/btrfsstream"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// Apply implements fs.Receiver. The base may be any snapshot that this
// receiver applied before.
func (r *receiver) Apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if r.closed {
		return fmt.Errorf("receive into %s: %w", r.target, os.ErrClosed)
	}
	if err := r.apply(ctx, stream, guid, base); err != nil {
		return fmt.Errorf("receive snapshot %s for %s: %w", guid, r.target, err)
	}
	return nil
}

func (r *receiver) apply(ctx context.Context, stream io.Reader, guid, base string) error {
	want, err := btrfsstream.ParseUUID(guid)
	if err != nil {
		return err
	}
	on, err := r.findBase(base)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("stream-%d", len(r.applied)+1)
	times, err := r.timesOf(on)
	if err != nil {
		return err
	}
	feed, err := btrfsstream.NewRewriter(stream, name, want, on.guid, on.local, times)
	if err != nil {
		return err
	}
	if err := r.runReceive(ctx, feed); err != nil {
		return errors.Join(err, r.discard(name))
	}
	local, err := r.checkReceived(name, want, on.local)
	if err != nil {
		return errors.Join(err, r.discard(name))
	}
	r.applied = append(r.applied, applied{name: name, guid: want, local: local})
	return nil
}

// findBase returns what the stream builds on, the zero value for nothing.
func (r *receiver) findBase(base string) (applied, error) {
	if base == "" {
		return applied{}, nil
	}
	want, err := btrfsstream.ParseUUID(base)
	if err != nil {
		return applied{}, err
	}
	for _, a := range r.applied {
		if a.guid == want {
			return a, nil
		}
	}
	return applied{}, fmt.Errorf("it builds on %s, which was not received before it: %w", base, fs.ErrBase)
}

// timesOf returns the command that sets the root's times as the base has them.
func (r *receiver) timesOf(base applied) ([]byte, error) {
	if base.guid.IsZero() {
		return nil, nil
	}
	root, err := child(r.staging, base.name)
	if err != nil {
		return nil, err
	}
	times, err := btrfsstream.RootTimes(root)
	return times, errors.Join(err, root.Close())
}

// runReceive feeds btrfs receive. With -e it stops at the stream's END; it is
// never given a closed input before that, which it would take for an END.
func (r *receiver) runReceive(ctx context.Context, feed *btrfsstream.Rewriter) error {
	if version := feed.Commands.Version; version > 1 {
		major, err := progsVersion(ctx)
		if err != nil {
			return err
		}
		if major < progsForV2 {
			return advice.With(fmt.Errorf("the stream has protocol %d and this host's btrfs-progs are version %d", version, major), "install btrfs-progs of version %d or later", progsForV2)
		}
	}
	// The mount becomes part of the namespace of the program's thread, and so
	// it needs one for each.
	m, err := openMount(r.parent, topLevelID)
	if err != nil {
		return err
	}
	cover, err := coverable()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	receive := run.Program{
		Argv:   []string{"btrfs", "receive", "-e", cover + "/" + fs.BtrfsDir + "/" + r.stage},
		Stdin:  feed,
		Thread: func() error { return m.attach(cover) },
	}
	_, err = receive.Output(ctx)
	err = errors.Join(explainReceive(err), m.Close())
	if err == nil && !feed.Commands.Ended {
		err = errors.New("btrfs receive ended before its stream did")
	}
	return err
}

// explainReceive finds in what btrfs receive wrote the errors that callers
// test for.
func explainReceive(err error) error {
	failed := (*run.Error)(nil)
	if !errors.As(err, &failed) {
		return err
	}
	switch text := failed.Stderr; {
	case strings.Contains(text, "No space left on device"):
		return advice.With(fmt.Errorf("%w on the target's filesystem: %w", fs.ErrNoSpace, err), "free some, or restore to a larger one")
	case strings.Contains(text, "Disk quota exceeded"):
		return advice.With(fmt.Errorf("%w in the target's quota: %w", fs.ErrNoSpace, err), "raise it, or restore elsewhere")
	}
	return err
}

// coverable is a directory that every host has and btrfs receive does not
// need: in the namespace of its own the filesystem is mounted over it, so none
// has to be made. Nothing is seen of that elsewhere.
func coverable() (string, error) {
	usual := []string{"/mnt", "/media", "/srv", "/opt", "/home", "/tmp"}
	for _, dir := range usual {
		var st unix.Stat_t
		if unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return dir, nil
		}
	}
	return "", advice.With(fmt.Errorf("none of the directories %s exists", strings.Join(usual, ", ")),
		"make one, so that btrfs receive can be given a mount there that only it sees")
}

// attach gives the calling thread a mount namespace of its own and shows the
// mount there over dir. The thread must end afterwards.
func (m *privateMount) attach(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", explain(err))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mount namespace private: %w", err)
	}
	if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount over %s privately: %w", dir, err)
	}
	return nil
}

// checkReceived looks whether what came out is the snapshot wanted, and
// complete: btrfs receive sets the identity and read-only last.
func (r *receiver) checkReceived(name string, guid, base btrfsstream.UUID) (btrfsstream.UUID, error) {
	f, err := child(r.staging, name)
	if err != nil {
		return btrfsstream.UUID{}, err
	}
	info, err := subvolInfo(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return btrfsstream.UUID{}, err
	}
	switch {
	case info.flags&rootReadOnly == 0 || info.receivedUUID.IsZero():
		return btrfsstream.UUID{}, errors.New("btrfs receive left an incomplete subvolume")
	case info.receivedUUID != guid:
		return btrfsstream.UUID{}, fmt.Errorf("btrfs receive made snapshot %s", info.receivedUUID)
	case info.parentUUID != base:
		return btrfsstream.UUID{}, fmt.Errorf("btrfs receive built on %s and not on %s: %w", btrfsstream.OrNothing(info.parentUUID), btrfsstream.OrNothing(base), fs.ErrBase)
	}
	return info.uuid, nil
}

// discard removes what a failed receive made.
func (r *receiver) discard(name string) error {
	if err := removeSubvolume(r.staging, name, ""); err != nil {
		return fmt.Errorf("remove the incomplete subvolume: %w", err)
	}
	return nil
}
