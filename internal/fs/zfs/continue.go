package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// keptFor is how long what an interrupted restore left is kept for one that
// goes on with it.
const keptFor = 7 * 24 * time.Hour

// Continue takes over what an interrupted restore to the same target left, as
// far as it fits the chain (the guids of the streams' snapshots, in order), and
// removes it when it does not. It returns how many streams are there whole, and
// whether the next one is there in part. What this restore leaves when it is
// interrupted is then kept in turn.
func (r *receiver) Continue(ctx context.Context, chain []string) (whole int, part bool, err error) {
	r.keeps = true
	rows, err := table(ctx, r.pool(), 4, "zfs", "list", "-Hp", "-d", "1", "-t", "filesystem,volume",
		"-o", "name,type,"+fs.PropertyOwner+","+fs.PropertyTarget, r.ancestor)
	if err != nil {
		return 0, false, fmt.Errorf("look for an interrupted restore to %s: %w", r.target, err)
	}
	for _, row := range rows {
		if !fs.IsStageName(path.Base(row[0])) || row[3] != r.wanted || proc.Lives(row[2]) {
			continue
		}
		ours, err := r.claim(ctx, row[0])
		if err == nil && ours {
			err = r.adopt(ctx, chain, row[1])
		}
		if err != nil {
			return 0, false, fmt.Errorf("go on with what an interrupted restore to %s left in %s: %w", r.target, r.stage, err)
		}
		if len(r.applied) > 0 || r.left != nil {
			return len(r.applied), r.left != nil, nil
		}
	}
	return 0, false, nil
}

// claim makes an abandoned stage ours. Of several processes that try, only one
// can rename it.
func (r *receiver) claim(ctx context.Context, stage string) (bool, error) {
	mark := fs.PropertyOwner + "=" + proc.Mark()
	err := command(ctx, r.pool(), "zfs", "set", mark, stage)
	if err == nil {
		err = rename(ctx, stage, r.stage)
	}
	if errors.Is(err, fs.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = command(ctx, r.pool(), "zfs", "set", mark, r.stage) // another process came between
	}
	return err == nil, err
}

// adopt looks at what is in the stage. What does not fit is removed.
func (r *receiver) adopt(ctx context.Context, chain []string, kind string) error {
	instants, err := instantsOf(ctx, object{name: r.stage}, "snapshot")
	if err != nil {
		return err
	}
	fits := len(instants) <= len(chain)
	for i, m := range instants {
		fits = fits && guidText(m.guid) == chain[i] && m.short() == streamName(i+1)
	}
	if !fits {
		return destroyStage(ctx, r.stage)
	}
	if err := r.findLeft(ctx, chain[len(instants):]); err != nil {
		return err
	}
	if len(instants) == 0 && r.left == nil {
		return destroyStage(ctx, r.stage)
	}
	for _, m := range instants {
		r.applied = append(r.applied, applied{name: m.short(), guid: m.guid})
	}
	r.kind = kind
	return nil
}

// findLeft looks for a part of the chain's next stream.
func (r *receiver) findLeft(ctx context.Context, next []string) error {
	props, err := properties(ctx, r.stage, "receive_resume_token")
	if err != nil || len(next) == 0 {
		return err
	}
	text := props["receive_resume_token"]
	if text == "" || text == "-" {
		return nil
	}
	if l, err := zfsstream.ParseToken(text); err == nil && guidText(l.ToGUID) == next[0] {
		r.left = &l
		return nil
	}
	return abort(ctx, r.stage)
}

// ApplyRest receives the rest of a stream of which Continue found a part; open
// reads it from a byte on. When that cannot be, the part is removed and the
// stream has to be applied whole.
func (r *receiver) ApplyRest(ctx context.Context, open func(from int64) (r io.ReadCloser, at int64, err error), guid, base string) error {
	if r.closed {
		return fmt.Errorf("receive into %s: %w", r.target, os.ErrClosed)
	}
	if r.left == nil {
		return fmt.Errorf("receive the rest of snapshot %s for %s: there is no part of it", guid, r.target)
	}
	l := *r.left
	r.left = nil
	from := &source{open: open}
	err := r.applyRest(ctx, from.from, l, guid, base)
	if err != nil {
		err = r.undoOrKeep(ctx, err, from.failed, streamName(len(r.applied)+1))
		return fmt.Errorf("receive the rest of snapshot %s for %s: %w", guid, r.target, err)
	}
	return nil
}

func (r *receiver) applyRest(ctx context.Context, open zfsstream.Opener, l zfsstream.Left, guid, base string) error {
	rest, err := zfsstream.RestOf(open, l)
	if err != nil {
		return err
	}
	defer func() { _ = rest.Close() }() // it is read to its end, or does not matter
	if err := checkWanted(&rest.Begin, guid, base); err != nil {
		return err
	}
	name := streamName(len(r.applied) + 1)
	_, err = unlessSuspended(ctx, r.pool(), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, run.Input(ctx, rest, "zfs", "receive", "-s", "-u", r.stage+"@"+name)
	})
	if err == nil { // zfs receive stops reading at the last record
		_, err = io.Copy(io.Discard, rest)
	}
	if err == nil {
		err = r.checkReceived(ctx, name, &rest.Begin)
	}
	if err == nil {
		r.received(name, &rest.Begin)
	}
	return err
}

// source remembers whether it was the source that failed.
type source struct {
	open   zfsstream.Opener
	failed error
}

func (f *source) from(at int64) (io.ReadCloser, int64, error) {
	r, begin, err := f.open(at)
	if err != nil {
		f.failed = err
		return nil, 0, err
	}
	return &watched{r, &f.failed}, begin, nil
}

type watched struct {
	io.ReadCloser
	failed *error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		*w.failed = err
	}
	return n, err
}

// undoOrKeep removes what a failed receive made, unless it was only
// interrupted: by its source, or by its caller.
func (r *receiver) undoOrKeep(ctx context.Context, err, source error, name string) error {
	if r.keeps && (source != nil || ctx.Err() != nil) {
		r.kept = true
		return err
	}
	//nolint:contextcheck // what failed because ctx ended has to go all the same
	return errors.Join(err, r.discard(r.ctx, name))
}

// Kept says where what was received so far is kept for a restore that goes on
// with it, "" when it is not.
func (r *receiver) Kept() string {
	if !r.kept || r.done {
		return ""
	}
	if there, err := exists(r.ctx, r.stage); err != nil || !there {
		return ""
	}
	return r.stage
}

// waitsUntil is until when a restore may still go on with an abandoned stage,
// the zero time when none can.
func waitsUntil(target, creation string) time.Time {
	seconds, err := strconv.ParseInt(creation, 10, 64)
	if err != nil || !strings.Contains(target, "/") {
		return time.Time{}
	}
	return time.Unix(seconds, 0).Add(keptFor)
}
