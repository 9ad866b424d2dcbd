package lvm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"

	"golang.org/x/sys/unix"
)

// workBuffer is the decoder's data, and as much to look and write zeros with.
const workBuffer = 2 * lvmstream.DataMax

// work is a volume that streams are written into.
type work struct {
	volume  volume
	pool    volume // zero for a classic volume
	device  *activated
	buf     []byte // workBuffer
	watch   *poolWatch
	budget  int64 // bytes that may be written before the pool is looked at again
	known   int64 // bytes from the start whose contents are known; beyond, a classic volume has garbage
	pos     int64 // where the last record ended
	settled int64 // block of the pool that is in order, plus one; see settle
	undo    *undo // nil when the whole volume can be thrown away
}

func (w *work) thin() bool     { return w.pool.uuid != "" }
func (w *work) data() []byte   { return w.buf[:lvmstream.DataMax:lvmstream.DataMax] }
func (w *work) second() []byte { return w.buf[lvmstream.DataMax:] }

// close deactivates the volume; drop leaves that to the caller, which removes it.
func (w *work) close() error { return w.end(w.device.Close) }
func (w *work) drop() error  { return w.end(w.device.shut) }

func (w *work) end(device func() error) error {
	err := errors.Join(device(), giveBack(w.buf))
	w.buf = nil
	return err
}

// play writes what a stream says, and returns only when it is on the disk.
// known says how much of the volume has contents that the stream builds on.
func (w *work) play(ctx context.Context, d *lvmstream.Decoder, known int64) error {
	w.known, w.pos, w.settled, w.budget = known, 0, 0, 0
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, data, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := w.room(ctx, r.Length); err != nil {
			return err
		}
		if err := w.gap(r.Offset); err != nil {
			return fmt.Errorf("write %s at byte %d: %w", w.volume.full(), w.pos, explainIO(err))
		}
		if r.Kind == lvmstream.RecordData {
			err = w.write(r.Offset, data)
		} else {
			err = w.clear(r.Offset, r.Length)
		}
		if err != nil {
			return fmt.Errorf("write %s at byte %d: %w", w.volume.full(), r.Offset, explainIO(err))
		}
		w.pos = r.Offset + r.Length
	}
	// To the end of the volume, which LVM has rounded up to an extent.
	if err := w.gap(max(d.Head.Size, w.volume.size)); err != nil {
		return fmt.Errorf("write %s at byte %d: %w", w.volume.full(), w.pos, explainIO(err))
	}
	if err := w.device.Sync(); err != nil {
		return fmt.Errorf("write %s through to the disk: %w", w.volume.full(), explainIO(err))
	}
	return nil
}

// room looks at the pool before it can be full: then it is too late.
func (w *work) room(ctx context.Context, length int64) error {
	if !w.thin() {
		return nil
	}
	w.budget -= length
	if w.budget > 0 && time.Now().Before(w.watch.next) {
		return nil
	}
	w.watch.next = time.Time{}
	pool, _, err := w.watch.look(ctx, time.Now())
	if err != nil {
		return err
	}
	if err := pool.roomForRestore(); err != nil {
		return err
	}
	left := int64((refuseData - pool.dataUse) / 100 * float64(pool.size))
	if left < length {
		return advice.With(fmt.Errorf("%w: %s, and %d KiB more would bring it over %d %%", fs.ErrNoSpace, pool.use(), length>>10, refuseData), "%s", pool.widen())
	}
	w.budget = left / 2
	return nil
}

// gap sees to what lies between two records: what no stream has told of reads
// as zeros. A thin volume does so by itself.
func (w *work) gap(to int64) error {
	from := max(w.pos, w.known)
	if w.thin() || from >= to {
		return nil
	}
	return rangeIoctl(w.device.File, unix.BLKZEROOUT, from, to-from)
}

func (w *work) write(offset int64, data []byte) error {
	if err := w.undo.save(w, offset, int64(len(data))); err != nil {
		return err
	}
	if err := w.settle(offset, int64(len(data))); err != nil {
		return err
	}
	_, err := w.device.WriteAt(data, offset)
	return err
}

// clear makes a range read as zeros.
func (w *work) clear(offset, length int64) error {
	if err := w.undo.save(w, offset, length); err != nil {
		return err
	}
	if !w.thin() {
		return rangeIoctl(w.device.File, unix.BLKZEROOUT, offset, length)
	}
	// Only whole blocks of the pool can be discarded.
	block := w.pool.chunk
	from, to := (offset+block-1)/block*block, (offset+length)/block*block
	if from >= to || w.pool.discards == "ignore" {
		return w.zeros(offset, length)
	}
	if err := w.zeros(offset, from-offset); err != nil {
		return err
	}
	if err := rangeIoctl(w.device.File, unix.BLKDISCARD, from, to-from); err != nil {
		if !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		if err := w.zeros(from, to-from); err != nil {
			return err
		}
	}
	return w.zeros(to, offset+length-to)
}

// zeros writes zeros where there are none, so that nothing is allocated for
// them.
func (w *work) zeros(offset, length int64) error {
	for length > 0 {
		piece := w.second()[:min(length, lvmstream.DataMax)]
		if _, err := w.device.ReadAt(piece, offset); err != nil {
			return err
		}
		if !isZero(piece) {
			clear(piece)
			if _, err := w.device.WriteAt(piece, offset); err != nil {
				return err
			}
		}
		offset, length = offset+int64(len(piece)), length-int64(len(piece))
	}
	return nil
}

// settle prepares a pool that was told not to zero new blocks (lvcreate -Zn):
// writing a part of such a block leaves in the rest what another volume had
// there before. So a block that reads as zeros, and may be new, gets zeros.
func (w *work) settle(offset, length int64) error {
	if !w.thin() || w.pool.zero {
		return nil
	}
	block := w.pool.chunk
	for at := offset / block; at*block < offset+length; at++ {
		from, to := at*block, min((at+1)*block, w.volume.size)
		if at < w.settled || from >= offset && to <= offset+length {
			continue
		}
		w.settled = at + 1
		if empty, err := w.empty(from, to); err != nil || !empty {
			if err != nil {
				return err
			}
			continue
		}
		clear(w.second())
		for ; from < to; from += lvmstream.DataMax {
			if _, err := w.device.WriteAt(w.second()[:min(lvmstream.DataMax, to-from)], from); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) empty(from, to int64) (bool, error) {
	for ; from < to; from += lvmstream.DataMax {
		piece := w.second()[:min(lvmstream.DataMax, to-from)]
		if _, err := w.device.ReadAt(piece, from); err != nil || !isZero(piece) {
			return false, err
		}
	}
	return true, nil
}

// undo keeps what a stream overwrites in a classic volume, which has no
// cheaper way back. It need not survive us: then the whole volume goes.
type undo struct {
	f *os.File
	w *bufio.Writer
}

func newUndo(dir string) (*undo, error) {
	f, err := os.CreateTemp(dir, "undo-")
	if err != nil {
		return nil, fmt.Errorf("keep what is overwritten: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &undo{f: f, w: bufio.NewWriterSize(f, lvmstream.DataMax)}, nil
}

// save may be called on nil, and then does nothing.
func (u *undo) save(w *work, offset, length int64) error {
	if u == nil {
		return nil
	}
	for end := min(offset+length, w.known); offset < end; offset += lvmstream.DataMax {
		piece := w.second()[:min(end-offset, lvmstream.DataMax)]
		if _, err := w.device.ReadAt(piece, offset); err != nil {
			return err
		}
		var head [16]byte
		binary.BigEndian.PutUint64(head[:], uint64(offset))
		binary.BigEndian.PutUint64(head[8:], uint64(len(piece)))
		_, err1 := u.w.Write(head[:])
		_, err2 := u.w.Write(piece)
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("keep what is overwritten: %w", err)
		}
	}
	return nil
}

// back writes everything back.
func (u *undo) back(w *work) error {
	if err := u.w.Flush(); err != nil {
		return err
	}
	if _, err := u.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r := bufio.NewReader(u.f)
	for {
		var head [16]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return w.device.Sync()
		} else if err != nil {
			return err
		}
		piece := w.second()[:binary.BigEndian.Uint64(head[8:])]
		if _, err := io.ReadFull(r, piece); err != nil {
			return err
		}
		if _, err := w.device.WriteAt(piece, int64(binary.BigEndian.Uint64(head[:]))); err != nil {
			return err
		}
	}
}

// Close may be called on nil.
func (u *undo) Close() error {
	if u == nil {
		return nil
	}
	return u.f.Close()
}
