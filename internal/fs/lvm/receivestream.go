package lvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// Apply implements fs.Receiver. A stream builds on the one applied before it.
func (r *receiver) Apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if r.closed {
		return fmt.Errorf("receive into %s: %w", r.target, os.ErrClosed)
	}
	err := r.failed
	if err == nil {
		err = r.apply(ctx, stream, guid, base)
	}
	if err != nil {
		return fmt.Errorf("receive snapshot %s for %s: %w", guid, r.target, err)
	}
	return nil
}

func (r *receiver) apply(ctx context.Context, stream io.Reader, guid, base string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := lvmstream.NewDecoder(stream, nil)
	if err != nil {
		return err
	}
	if err := r.fits(d.Head, guid, base); err != nil {
		return err
	}
	switch {
	case !d.Head.Increment():
		return r.replace(ctx, d, 0, func() (*work, error) { return r.create(ctx, d.Head.Size) })
	case r.pool != "":
		return r.replace(ctx, d, d.Head.BaseSize, func() (*work, error) { return r.branch(ctx, d.Head.Size) })
	}
	return r.inPlace(ctx, d)
}

// fits refuses every stream but the one that was asked for.
func (r *receiver) fits(h lvmstream.Header, guid, base string) error {
	switch {
	case h.Snapshot.UUID != guid:
		return fmt.Errorf("%w: the stream makes snapshot %s", fs.ErrBase, h.Snapshot)
	case h.Base.UUID != base:
		return fmt.Errorf("%w: the stream builds on %s, not on %s", fs.ErrBase, orNothing(h.Base.String()), orNothing(base))
	case !h.Increment():
		return nil
	case r.built == nil:
		return fmt.Errorf("%w: the stream builds on %s, and nothing was received before it", fs.ErrBase, h.Base)
	case h.Base != r.last.Snapshot || h.BaseSize != r.last.Size:
		return fmt.Errorf("%w: the stream builds on %s of %d bytes, and the one received before it made %s of %d bytes",
			fs.ErrBase, h.Base, h.BaseSize, r.last.Snapshot, r.last.Size)
	}
	return nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// replace plays a stream into a new volume, which takes the place of what was
// built before only when it is whole.
func (r *receiver) replace(ctx context.Context, d *lvmstream.Decoder, known int64, make func() (*work, error)) error {
	w, err := make()
	if err != nil {
		return err
	}
	d.Buf = w.data()
	if err := w.play(ctx, d, known); err != nil {
		return errors.Join(err, r.discard(ctx, w))
	}
	if err := r.shrink(ctx, w, d.Head.Size); err != nil {
		return errors.Join(err, r.discard(ctx, w))
	}
	before := r.built
	r.built, r.last = w, d.Head
	return r.discard(ctx, before)
}

// inPlace plays an increment into a classic volume, and takes it back if it
// does not come to its end.
func (r *receiver) inPlace(ctx context.Context, d *lvmstream.Decoder) (err error) {
	dir, err := r.driver.stateDir("spool")
	if err != nil {
		return err
	}
	w := r.built
	if w.undo, err = newUndo(dir); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, w.undo.Close())
		w.undo = nil
	}()
	d.Buf = w.data()
	err = r.resize(ctx, &w.volume, d.Head.Size)
	if err == nil {
		err = w.play(ctx, d, d.Head.BaseSize)
	}
	if err == nil {
		err = r.shrink(ctx, w, d.Head.Size)
	}
	if err != nil {
		if backErr := w.undo.back(w); backErr != nil {
			r.failed = advice.With(fmt.Errorf("what an incomplete stream had changed in %s cannot be taken back: %w", w.volume.full(), backErr), "begin the restore again")
			err = errors.Join(err, r.failed)
		}
		return err
	}
	r.last = d.Head
	return nil
}

// shrink makes a volume smaller when its origin was made smaller. What lay
// behind its new end must not come up again if it grows later.
func (r *receiver) shrink(ctx context.Context, w *work, size int64) error {
	rounded := (size + w.volume.extent - 1) / w.volume.extent * w.volume.extent
	if rounded >= w.volume.size {
		return nil
	}
	if w.thin() {
		if err := w.clear(rounded, w.volume.size-rounded); err != nil {
			return fmt.Errorf("make %s smaller: %w", w.volume.full(), explainIO(err))
		}
	}
	argv := []string{"lvreduce", "-q", "-f", "--fs", "ignore", "-L", strconv.FormatInt(rounded, 10) + "b", w.volume.full()}
	err := r.driver.change(ctx, argv...)
	if failed := (*run.Error)(nil); errors.As(err, &failed) && strings.Contains(failed.Stderr, "unrecognized option") {
		argv = append(argv[:3], argv[5:]...) // LVM before 2.03.17 looks at no filesystem
		err = r.driver.change(ctx, argv...)
	}
	if err != nil {
		return fmt.Errorf("make %s smaller: %w", w.volume.full(), err)
	}
	w.volume.size = rounded
	return nil
}

// Finish implements fs.Receiver. The volume is not active, and is not
// activated at boot either: a second filesystem with the UUID of the first
// must not come up by itself. lvchange -ay -K activates it, lvchange -kn for
// good.
func (r *receiver) Finish(ctx context.Context) (fs.Dataset, error) {
	if r.closed {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, os.ErrClosed)
	}
	dataset, err := r.finish(ctx)
	if err != nil {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, err)
	}
	return dataset, nil
}

func (r *receiver) finish(ctx context.Context) (fs.Dataset, error) {
	if r.failed != nil {
		return fs.Dataset{}, r.failed
	}
	if r.built == nil {
		return fs.Dataset{}, errors.New("nothing was received")
	}
	if err := ctx.Err(); err != nil {
		return fs.Dataset{}, err
	}
	if err := r.built.close(); err != nil {
		return fs.Dataset{}, err
	}
	whole := context.WithoutCancel(ctx) // few and short steps, which belong together
	undo, err := r.moveAside(whole)
	if err != nil {
		return fs.Dataset{}, err
	}
	v := r.built.volume
	if err := r.rename(whole, v.name, r.name); err != nil {
		return fs.Dataset{}, errors.Join(err, undo())
	}
	if err := r.driver.change(whole, "lvchange", "-q", "--deltag", tagTemporary, "--deltag", tagOwner+proc.Mark(), r.vg+"/"+r.name); err != nil {
		return fs.Dataset{}, errors.Join(err, r.rename(whole, r.name, v.name), undo())
	}
	r.built = nil
	v.name = r.name
	r.notes = []string{
		fmt.Sprintf("%s is not active, now or at boot, since its filesystem has the UUID of the original; lvchange -a y -K %[1]s activates it, lvchange -k n %[1]s lets it come up at boot", v.full()),
		fmt.Sprintf("its filesystem can be checked by the restore itself or, once it is active, by e2fsck -f /dev/%s; XFS replays its log when mounted (-o nouuid beside the original), then xfs_repair -n", v.full()),
	}
	return datasetOf(v), nil
}

// moveAside renames what is at the target, if the placement says so.
func (r *receiver) moveAside(ctx context.Context) (undo func() error, err error) {
	undo = func() error { return nil }
	if r.suffix == "" {
		return undo, nil
	}
	all, err := r.driver.list(ctx, r.vg)
	if err != nil {
		return nil, err
	}
	if _, there := all.named(r.vg, r.name); !there {
		return undo, nil
	}
	if err := r.rename(ctx, r.name, r.name+r.suffix); err != nil {
		return nil, err
	}
	return func() error { return r.rename(ctx, r.name+r.suffix, r.name) }, nil
}

func (r *receiver) rename(ctx context.Context, from, to string) error {
	return r.driver.change(ctx, "lvrename", "-q", r.vg, from, to)
}
