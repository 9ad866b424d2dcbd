package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"snapd/internal/advice"
	"snapd/internal/fs/zfs/zfsstream"
)

// Stream is a send stream on its way. Every byte of it is checked as it
// passes; io.EOF means that it is whole.
type Stream struct {
	pump   *pump
	rest   io.Reader // what is read: the sender, or what was stitched on
	follow *zfsstream.Walker
	want   *asked // what it must be; nil when that was compared already
	err    error
}

func newStream(ctx context.Context, a asked, from io.ReadCloser) *Stream {
	p := newPump(ctx, a, from)
	return &Stream{pump: p, rest: p, follow: &zfsstream.Walker{}, want: &a}
}

func (s *Stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.rest.Read(p)
	if n > 0 {
		if _, bad := s.follow.Write(p[:n]); bad != nil {
			s.err = fmt.Errorf("zfs send wrote what is no stream: %w", bad)
			return 0, s.err
		}
		if s.want != nil && s.follow.Began {
			if s.err = s.want.check(&s.follow.Begin); s.err != nil {
				return 0, s.err
			}
			s.want = nil
		}
	}
	if errors.Is(err, io.EOF) && !s.follow.Ended {
		err = fmt.Errorf("zfs send succeeded and its stream is not whole: %w", s.follow.Damaged("it is cut off"))
	}
	s.err = err
	return n, err
}

// check refuses a stream of something else: the snapshot could have been
// destroyed and made anew between looking and sending.
func (a asked) check(b *zfsstream.Head) error {
	if b.ToGUID() != a.snap.guid || b.FromGUID() != a.baseGUID() {
		return advice.With(fmt.Errorf("zfs send made snapshot %d on %d, not %d on %d: they were replaced meanwhile", b.ToGUID(), b.FromGUID(), a.snap.guid, a.baseGUID()), "run the same command again")
	}
	return nil
}

// State is what Resume wants to know to go on from the byte that was read
// last, "" when it could not. It may be asked for at multiples of 4 bytes.
func (s *Stream) State() string { return s.follow.Position() }

// Dense counts the bytes so far that ZFS had compressed or encrypted: nothing
// is gained by compressing them again.
func (s *Stream) Dense() int64 { return s.follow.DenseSoFar() }

// Close ends the sender if it still runs; it may be called twice.
func (s *Stream) Close() error {
	err := s.pump.Close()
	if s.err == nil || errors.Is(s.err, io.EOF) {
		s.err = s.pump.err
	}
	return err
}
