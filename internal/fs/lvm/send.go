package lvm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"

	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
)

// Send implements fs.Driver. Thin snapshots are compared by the pool's
// metadata, classic ones by digests of their blocks.
func (d *Driver) Send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	r, err := d.send(ctx, s, base)
	if err != nil {
		return nil, fmt.Errorf("send snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return r, nil
}

// comparer tells what changed where LVM's metadata does not.
type comparer interface {
	differs(offset int64, piece []byte) (bool, error)
	Close() error
}

// sending is a stream that is made as it is read.
type sending struct {
	ctx      context.Context //nolint:containedctx // of the one Send that made it
	driver   *Driver
	device   *activated
	head     lvmstream.Header
	encode   *lvmstream.Encoder
	out      []byte // made and not read yet
	buf      []byte // of the device, dataMax
	extents  interface{ next() (extent, error) }
	spool    *spool // behind extents; nil
	now      extent // what is left of the present one
	compare  comparer
	digests  *digestWriter
	piece    int64 // bytes that are looked at by themselves
	notes    []string
	watching *streamWatch
	giveUp   context.CancelCauseFunc
	relieve  func() error // a pool, after a stream was given up; nil for a classic volume

	mu       sync.Mutex // of what follows, the device and compare
	err      error      // what Read returns from now on
	closed   bool
	closeErr error
}

func (d *Driver) send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (_ *sending, err error) {
	all, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	v, err := all.snapshot(s)
	if err != nil {
		return nil, err
	}
	w := &sending{driver: d, piece: leastUnit, head: lvmstream.Header{Size: v.size, Unit: leastUnit, Snapshot: v.instant()}}
	w.ctx, w.giveUp = context.WithCancelCause(ctx)
	defer func() {
		if err == nil {
			return
		}
		if w.ctx.Err() != nil {
			err = context.Cause(w.ctx)
		}
		err = errors.Join(err, w.Close())
	}()
	if w.buf, err = pages(lvmstream.DataMax); err != nil {
		return nil, err
	}
	if w.device, err = d.open(ctx, v, os.O_RDONLY); err != nil {
		return nil, err
	}
	w.watching = w.watch(v) //nolint:contextcheck // its own context ends with the stream
	if v.thin() {
		err = w.openThin(all, v, base) //nolint:contextcheck // it has the stream's
	} else {
		err = w.openClassic(all, v, s, base)
	}
	if err != nil {
		return nil, err
	}
	w.encode, w.out, err = lvmstream.Begin(w.head, nil)
	return w, err
}

// openThin asks the pool's metadata what to send.
func (w *sending) openThin(all volumes, v volume, base *fs.Snapshot) error {
	pool, err := all.pool(v)
	if err != nil {
		return err
	}
	w.relieve = func() error { return w.driver.relieveNow(context.WithoutCancel(w.ctx), pool.uuid) }
	left := v.thinID
	var was volume
	if base != nil {
		if was, err = all.thinBase(v, *base); err != nil {
			return fmt.Errorf("base %s: %w: %w", base.Name, fs.ErrBase, err)
		}
		left = was.thinID
		w.head.Base, w.head.BaseSize = was.instant(), was.size
	}
	w.head.Unit = uint32(pool.chunk)
	w.spool, err = w.driver.changed(w.ctx, pool, left, v.thinID)
	switch {
	case err == nil:
		w.extents = &plan{mappings: w.spool, block: w.spool.block, head: w.head}
		return nil
	case base == nil && errors.Is(err, errThinDelta), base == nil && errors.Is(err, exec.ErrNotFound):
		w.extents = once(v.size)
		w.noteRead(v.size)
		return w.driver.notice("%s was read whole, all %d MiB of it, since the pool could not be asked which blocks it has: %v", v.full(), v.size>>20, err)
	case errors.Is(err, errThinDelta), errors.Is(err, exec.ErrNotFound):
		if err := w.compareWith(was); err != nil {
			return err
		}
		w.noteRead(v.size + was.size)
		return w.driver.notice("%s and its base were read whole, %d MiB, and compared, since the pool could not be asked which blocks changed: %v", v.full(), (v.size+was.size)>>20, err)
	}
	return err
}

// thinBase checks that base is a thin snapshot of the same volume, in the same
// pool.
func (all volumes) thinBase(of volume, base fs.Snapshot) (volume, error) {
	b, err := all.snapshot(base)
	if err != nil {
		return volume{}, err
	}
	origin, _ := of.tag(tagOrigin)
	baseOrigin, _ := b.tag(tagOrigin)
	switch {
	case baseOrigin != origin:
		return volume{}, errors.New("it is a snapshot of another volume")
	case b.poolUUID != of.poolUUID:
		return volume{}, errors.New("it lies in another thin pool")
	case b.uuid == of.uuid:
		return volume{}, errors.New("it is the same snapshot")
	}
	return b, nil
}

// compareWith has all blocks read, here and in the base.
func (w *sending) compareWith(base volume) error {
	buf, err := pages(lvmstream.DataMax)
	if err != nil {
		return err
	}
	f, err := w.driver.open(w.ctx, base, os.O_RDONLY)
	if err != nil {
		return errors.Join(err, giveBack(buf))
	}
	w.compareBy(&baseReader{f: f, size: base.size, buf: buf, done: f.Close})
	w.extents = once(w.head.Size)
	return nil
}

// openClassic reads everything and writes digests.
func (w *sending) openClassic(all volumes, v volume, s fs.Snapshot, base *fs.Snapshot) error {
	w.extents = once(v.size)
	w.piece = unitFor(v.size)
	w.noteRead(v.size)
	if base != nil {
		if base.Dataset.GUID != s.Dataset.GUID || base.GUID == s.GUID {
			return fmt.Errorf("base %s: %w: it is a snapshot of another volume, or the same one", base.Name, fs.ErrBase)
		}
		if err := w.classicBase(all, *base); err != nil {
			return fmt.Errorf("base %s: %w: %w", base.Name, fs.ErrBase, err)
		}
	}
	w.head.Unit = uint32(w.piece)
	var err error
	w.digests, err = w.driver.writeDigests(s, v.size, w.piece)
	return err
}

func (w *sending) classicBase(all volumes, base fs.Snapshot) error {
	known, err := w.driver.openDigests(base)
	if err == nil {
		w.compareBy(known)
		w.piece = known.head.Unit
		w.head.Base, w.head.BaseSize = lvmstream.Instant{UUID: base.GUID}, known.head.Size
		return nil
	}
	if !errors.Is(err, fs.ErrNotFound) {
		return err
	}
	b, err := all.snapshot(base)
	if err != nil {
		return err
	}
	w.head.Base, w.head.BaseSize = b.instant(), b.size
	w.noteRead(w.head.Size + b.size) // the digests are lost
	return w.compareWith(b)
}

// noteRead says what it costs that LVM does not know what changed.
func (w *sending) noteRead(bytes int64) {
	w.notes = []string{fmt.Sprintf("%d MiB are read to find what to send", bytes>>20)}
}

// Notes says what it costs to find out what to send, where that is more than
// what is sent.
func (w *sending) Notes() []string { return w.notes }

func (w *sending) compareBy(c comparer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.compare = c
}

// once is one extent over everything.
func once(size int64) *onceExtent {
	return &onceExtent{extent{kind: lvmstream.RecordData, length: size}}
}

type onceExtent struct{ extent }

func (o *onceExtent) next() (extent, error) {
	e := o.extent
	o.extent = extent{}
	if e.length == 0 {
		return e, io.EOF
	}
	return e, nil
}

// Read implements io.Reader. It returns io.EOF only when the stream is
// complete, and its digests, if any, are on the disk.
func (w *sending) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, os.ErrClosed
	}
	for w.err == nil && len(w.out) == 0 {
		w.err = w.step()
	}
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	if len(w.out) == 0 {
		return 0, w.err
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}

// step makes more of the stream.
func (w *sending) step() error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	if w.now.length == 0 {
		e, err := w.extents.next()
		if errors.Is(err, io.EOF) {
			return w.finish()
		}
		if err != nil {
			return err
		}
		w.now = e
	}
	w.out = w.out[:0]
	if w.now.kind == lvmstream.RecordDiscard {
		e := w.now
		w.now = extent{}
		var err error
		w.out, err = w.encode.Discard(w.out, e.offset, e.length)
		return err
	}
	// Up to the next full MiB, so that pieces lie alike in every stream.
	n := min(w.now.length, lvmstream.DataMax-w.now.offset%lvmstream.DataMax)
	data := w.buf[:n]
	if _, err := w.device.ReadAt(data, w.now.offset); err != nil {
		return fmt.Errorf("read %s at byte %d: %w", w.device.volume.full(), w.now.offset, err)
	}
	offset := w.now.offset
	w.now.offset, w.now.length = offset+n, w.now.length-n
	return w.carry(offset, data)
}

// finish writes the end. The digests are kept first: a stream that is whole
// must be able to serve as a base.
func (w *sending) finish() error {
	if w.digests != nil {
		if err := w.digests.commit(); err != nil {
			return err
		}
	}
	var err error
	if w.out, err = w.encode.End(w.out[:0]); err != nil {
		return err
	}
	return io.EOF
}

// What becomes of a piece.
const (
	skipped byte = iota
	asData
	asDiscard
)

// carry puts what has to be told of data into the stream, in runs of like
// pieces.
func (w *sending) carry(offset int64, data []byte) error {
	end := int64(len(data))
	run, from := skipped, int64(0)
	for at := int64(0); at < end; at += w.piece {
		kind, err := w.classify(offset+at, data[at:min(at+w.piece, end)])
		if err != nil {
			return err
		}
		if kind == run {
			continue
		}
		if err := w.emit(run, offset+from, data[from:at]); err != nil {
			return err
		}
		run, from = kind, at
	}
	return w.emit(run, offset+from, data[from:])
}

func (w *sending) emit(run byte, offset int64, data []byte) (err error) {
	switch {
	case len(data) == 0:
	case run == asData:
		w.out, err = w.encode.Data(w.out, offset, data)
	case run == asDiscard:
		w.out, err = w.encode.Discard(w.out, offset, int64(len(data)))
	}
	return err
}

func (w *sending) classify(offset int64, piece []byte) (byte, error) {
	if w.digests != nil {
		if err := w.digests.add(digestOf(piece)); err != nil {
			return skipped, fmt.Errorf("write digests: %w", err)
		}
	}
	if w.compare != nil {
		if changed, err := w.compare.differs(offset, piece); err != nil || !changed {
			return skipped, err
		}
	}
	switch {
	case !isZero(piece):
		return asData, nil
	case w.head.Increment():
		return asDiscard, nil
	}
	return skipped, nil // a full stream begins with zeros everywhere
}

// release closes what keeps snapshots from being removed.
func (w *sending) release() error {
	err := w.device.Close()
	if w.compare != nil {
		err = errors.Join(err, w.compare.Close())
		w.compare = nil
	}
	return err
}

// Close implements io.Closer. It may be called twice.
func (w *sending) Close() error {
	w.watching.end() // it takes the lock
	w.giveUp(os.ErrClosed)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.closeErr
	}
	w.closed = true
	w.closeErr = errors.Join(w.closeErr, w.release(), w.spool.Close(), w.digests.Close(), giveBack(w.buf))
	w.buf = nil
	return w.closeErr
}
