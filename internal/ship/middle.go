package ship

import (
	"context"
	"fmt"
	"io"
)

// open opens the stream: where what an earlier attempt made safe ends, if its
// storage can go on there, else at its beginning. first is the number of the
// segment that comes next.
func (u *upload) open(ctx context.Context, from Sender) (in io.ReadCloser, first int, err error) {
	safe, state := u.record.safe(u.repo.SliceBytes)
	if from.Resume == nil || state == "" {
		in, err = from.Open(ctx)
		return in, 0, err
	}
	at := fullBytes(0, len(safe), u.repo.SliceBytes)
	in, err = from.Resume(ctx, at, state)
	if err != nil && ctx.Err() != nil {
		return nil, 0, err
	}
	if err != nil {
		u.anew = err
		in, err = from.Open(ctx)
		return in, 0, err
	}
	u.continued = at
	for n, row := range safe {
		if err := u.acknowledge(ctx, n, row, true); err != nil {
			_ = in.Close() // the error of the store says more
			return nil, 0, err
		}
	}
	return in, len(safe), nil
}

// how says how an interrupted upload went on.
func (u *upload) how() string {
	counts := fmt.Sprintf("%d of %d segments were there already, %d were uploaded", u.reused, u.reused+u.uploaded, u.uploaded)
	switch {
	case u.continued > 0:
		return fmt.Sprintf("went on at byte %d of the stream without reading what comes before: %s", u.continued, counts)
	case u.anew != nil:
		return fmt.Sprintf("went on after an interruption, with the stream made again (%v) and compared: %s", u.anew, counts)
	}
	return "went on after an interruption, with the stream made again and compared: " + counts
}

// watch asks a reader what it knows of what it has given.
type watch struct {
	in    io.Reader
	dense int64 // at the end of the last slice
}

func watching(in io.Reader) *watch { return &watch{in: in} }

// densePart is how much of a slice must be compressed already for it to be
// stored as it is, in tenths: what is left would not shrink it by much.
const densePart = 9

// slice is what was just read, with what the reader says of it.
func (w *watch) slice(n int, data []byte) slice {
	s := slice{n: n, data: data}
	if r, ok := w.in.(Stater); ok {
		if s.state = r.State(); len(s.state) > maxState {
			s.state = ""
		}
	}
	if r, ok := w.in.(Denser); ok {
		dense := r.Dense()
		s.dense = (dense-w.dense)*10 >= int64(len(data))*densePart
		w.dense = dense
	}
	return s
}
