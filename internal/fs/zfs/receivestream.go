package zfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/proc"
	"snapd/internal/run"
)

// streamName is the name of the n-th snapshot that a restore receives.
func streamName(n int) string { return fmt.Sprintf("snapd-stream-%d", n) }

// Apply implements fs.Receiver. The stream is checked on its way; a stream
// that is not what it should be, or that the pool cannot take, is refused
// before zfs receive sees it.
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
	if err := r.checkOrder(guid, base); err != nil {
		return err
	}
	feed := &feed{from: bufio.NewReaderSize(stream, 256<<10)}
	begin, err := feed.peek()
	if err != nil {
		return err
	}
	if err := checkWanted(begin, guid, base); err != nil {
		return err
	}
	if r.left != nil { // what is there of it was not asked for
		r.left = nil
		if err := r.undo(ctx, streamName(len(r.applied)+1)); err != nil {
			return err
		}
	}
	if len(r.applied) == 0 {
		if err := r.preflight(ctx, begin); err != nil {
			return err
		}
	}
	name := streamName(len(r.applied) + 1)
	argv := []string{"zfs", "receive", "-s", "-u"}
	if len(r.applied) == 0 {
		argv = append(argv, r.stageOptions(begin)...)
	}
	argv = append(argv, r.stage+"@"+name)
	_, err = unlessSuspended(ctx, r.pool(), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, run.Input(ctx, feed, argv...)
	})
	if err == nil {
		err = feed.finish()
	}
	if err == nil {
		err = r.checkReceived(ctx, name, begin)
	}
	if err != nil {
		return r.undoOrKeep(ctx, err, feed.failed, name)
	}
	r.received(name, begin)
	return nil
}

// received notes that a snapshot is there.
func (r *receiver) received(name string, begin *zfsstream.Head) {
	r.applied = append(r.applied, applied{name: name, guid: begin.ToGUID()})
	if begin.DatasetType() == zfsstream.TypeVolume {
		r.kind = volume
	} else {
		r.kind = filesystem
	}
}

// checkOrder wants a full stream first, then streams on what was received
// last: zfs receive takes no others without undoing what it has.
func (r *receiver) checkOrder(guid, base string) error {
	if _, err := parseGUID(guid); err != nil {
		return fmt.Errorf("%w: %w", fs.ErrBase, err)
	}
	switch {
	case base == "" && len(r.applied) > 0:
		return fmt.Errorf("a full stream after another: %w", fs.ErrBase)
	case base == "":
		return nil
	case len(r.applied) == 0:
		return fmt.Errorf("it builds on %s, which was not received before it: %w", base, fs.ErrBase)
	}
	if last := r.applied[len(r.applied)-1]; guidText(last.guid) != base {
		return fmt.Errorf("it builds on %s, and %d was received before it: %w", base, last.guid, fs.ErrBase)
	}
	return nil
}

// checkWanted compares what a stream says of itself with what it must be.
func checkWanted(b *zfsstream.Head, guid, base string) error {
	got := ""
	if b.FromGUID() != 0 {
		got = guidText(b.FromGUID())
	}
	if guidText(b.ToGUID()) != guid || got != base {
		return fmt.Errorf("the stream makes snapshot %d on %q, not %s on %q: %w", b.ToGUID(), got, guid, base, fs.ErrBase)
	}
	return nil
}

// stageOptions are what a new dataset gets at once: the mark of the process that
// builds it, and that it is not mounted or shared by itself and, as a volume,
// shows no device.
func (r *receiver) stageOptions(b *zfsstream.Head) []string {
	out := []string{"-o", fs.PropertyOwner + "=" + proc.Mark()}
	if r.keeps {
		out = append(out, "-o", fs.PropertyTarget+"="+r.wanted)
	}
	if b.DatasetType() == zfsstream.TypeVolume {
		return append(out, "-o", "volmode=none")
	}
	return append(out, "-o", "canmount=noauto", "-o", "sharenfs=off", "-o", "sharesmb=off")
}

// checkReceived looks whether what came out is the snapshot wanted.
func (r *receiver) checkReceived(ctx context.Context, name string, b *zfsstream.Head) error {
	instants, err := instantsOf(ctx, object{name: r.stage}, "snapshot")
	if err != nil {
		return err
	}
	m, there := instantWith(instants, guidText(b.ToGUID()))
	if !there || m.short() != name {
		return fmt.Errorf("zfs receive succeeded and made no snapshot %d", b.ToGUID())
	}
	return nil
}

// discard removes what a failed receive made; what was received before stays.
func (r *receiver) discard(ctx context.Context, name string) error {
	err := r.undo(ctx, name)
	if err != nil {
		err = fmt.Errorf("remove what was received in part: %w", err)
	}
	return err
}

func (r *receiver) undo(ctx context.Context, name string) error {
	there, err := exists(ctx, r.stage)
	if err != nil || !there {
		return err
	}
	if len(r.applied) == 0 {
		return destroyStage(ctx, r.stage)
	}
	if err := abort(ctx, r.stage); err != nil {
		return err
	}
	instants, err := instantsOf(ctx, object{name: r.stage}, "snapshot")
	if err != nil {
		return err
	}
	for _, m := range instants {
		if m.short() == name { // received whole, and then something was wrong
			last := r.stage + "@" + r.applied[len(r.applied)-1].name
			return command(ctx, r.pool(), "zfs", "rollback", "-r", last)
		}
	}
	return nil
}

// abortPatience is how long the kernel may take to end a receive after its
// program was killed.
const abortPatience = 30 * time.Second

// abort drops the part of a stream that an interrupted receive has kept.
func abort(ctx context.Context, stage string) error {
	return patiently(ctx, func() error {
		props, err := properties(ctx, stage, "receive_resume_token")
		if err != nil || props["receive_resume_token"] == "-" || props["receive_resume_token"] == "" {
			return ignoreGone(err)
		}
		return ignoreGone(command(ctx, poolOf(stage), "zfs", "receive", "-A", stage))
	})
}

// destroyStage removes a dataset in which a restore was built, with all in it.
func destroyStage(ctx context.Context, stage string) error {
	if err := abort(ctx, stage); err != nil {
		return err
	}
	return patiently(ctx, func() error {
		return ignoreGone(command(ctx, poolOf(stage), "zfs", "destroy", "-r", stage))
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotFound) {
		return nil
	}
	return err
}

// patiently tries again while something is only busy.
func patiently(ctx context.Context, step func() error) error {
	deadline := time.Now().Add(abortPatience)
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := step()
		if !errors.Is(err, fs.ErrBusy) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// feed is a stream on its way into zfs receive, checked as it passes.
type feed struct {
	from   *bufio.Reader
	walk   zfsstream.Walker
	failed error // of what it reads from
}

// peek returns the stream's BEGIN without taking it.
func (f *feed) peek() (*zfsstream.Head, error) {
	raw, err := f.from.Peek(zfsstream.HeadSize)
	if errors.Is(err, io.EOF) {
		return nil, (&zfsstream.Walker{}).Damaged("it is cut off in its first record")
	}
	if err != nil {
		return nil, err
	}
	h := zfsstream.Head(raw)
	if err := h.CheckBegin(); err != nil {
		return nil, (&zfsstream.Walker{}).Damaged("%v", err)
	}
	return &h, nil
}

func (f *feed) Read(p []byte) (int, error) {
	n, err := f.from.Read(p)
	if n > 0 {
		if _, bad := f.walk.Write(p[:n]); bad != nil {
			return 0, bad
		}
	}
	if errors.Is(err, io.EOF) && !f.walk.Ended {
		return n, f.walk.Damaged("it is cut off")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.failed = err
	}
	return n, err
}

// finish makes sure that the stream ended well and that nothing follows it:
// zfs receive stops reading at its last record.
func (f *feed) finish() error {
	_, err := io.Copy(io.Discard, struct{ io.Reader }{f})
	return err
}
