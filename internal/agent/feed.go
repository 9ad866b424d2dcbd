package agent

import (
	"context"
	"errors"
	"fmt"
	"io"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// feeding is one chain on its way into a receiver.
type feeding struct {
	*Agent
	src      *source
	dataset  string
	chain    []*ship.Manifest
	receiver fs.Receiver
	total    int64 // of the streams
	before   int64 // of those that are there
	read     int64 // from the repository
}

// apply feeds the receiver with the chain of a dataset and returns how many
// bytes of it were read.
func (a *Agent) apply(ctx context.Context, src *source, d point.Dataset, driver fs.Driver, receiver fs.Receiver) (int64, error) {
	if src.repo == nil {
		return a.applyLocal(ctx, d, driver, receiver)
	}
	chain, err := src.repo.Chain(ctx, src.ids[d.GUID], src.view)
	if err != nil {
		return 0, err
	}
	f := &feeding{Agent: a, src: src, dataset: d.Dataset, chain: chain, receiver: receiver}
	for _, m := range chain {
		f.total += m.SentBytes
	}
	err = f.all(ctx)
	if c, ok := receiver.(fs.Continuer); ok && err != nil {
		if at := c.Kept(); at != "" {
			err = fmt.Errorf("%w (what was received is kept for a week in %s)", err, at)
			err = advice.With(err, "%srun the same command again: it goes on with what was received", andThen(advice.Of(err)))
		}
	}
	return f.read, err
}

// andThen is what to do before something else, "" when that is nothing.
func andThen(do string) string {
	if do == "" {
		return ""
	}
	return do + "; then "
}

func (f *feeding) all(ctx context.Context) error {
	whole, err := f.goOn(ctx)
	if err != nil {
		return err
	}
	for i := whole; i < len(f.chain); i++ {
		f.step("", "%s: stream %d of %d", f.dataset, i+1, len(f.chain))
		r, _, err := f.open(ctx, f.chain[i], 0)
		if err != nil {
			return err
		}
		err = errors.Join(f.receiver.Apply(ctx, r, f.chain[i].GUID, f.chain[i].BaseGUID), r.Close())
		if err != nil {
			return err
		}
		f.before += f.chain[i].SentBytes
	}
	return nil
}

// goOn goes on with what an interrupted restore left, and returns how many
// streams need not be applied any more.
func (f *feeding) goOn(ctx context.Context) (whole int, err error) {
	c, ok := f.receiver.(fs.Continuer)
	if !ok {
		return 0, nil
	}
	var guids []string
	for _, m := range f.chain {
		guids = append(guids, m.GUID)
	}
	whole, part, err := c.Continue(ctx, guids)
	if err != nil {
		return 0, err
	}
	for _, m := range f.chain[:whole] {
		f.before += m.SentBytes
	}
	if whole > 0 || part {
		f.step("", "%s: going on with what an interrupted restore left: %d of %s %s there%s",
			f.dataset, whole, plural(len(f.chain), "stream", "streams"), map[bool]string{true: "is", false: "are"}[whole == 1], map[bool]string{true: ", and a part of the next"}[part])
	}
	if !part {
		return whole, nil
	}
	m := f.chain[whole]
	err = c.ApplyRest(ctx, func(from int64) (io.ReadCloser, int64, error) { return f.open(ctx, m, from) }, m.GUID, m.BaseGUID)
	switch {
	case err == nil:
		f.before += m.SentBytes
		return whole + 1, nil
	case ctx.Err() != nil || c.Kept() != "":
		return whole, err
	}
	f.warnOfError("", fmt.Errorf("%w; it is received anew", err))
	return whole, nil
}

// open reads a stream, and reports how far the whole is.
func (f *feeding) open(ctx context.Context, m *ship.Manifest, from int64) (io.ReadCloser, int64, error) {
	var begin, last int64
	r, begin, err := f.src.repo.ReadFrom(ctx, m, from, func(p ship.Progress) {
		f.read += p.SentBytes - last
		last = p.SentBytes
		f.Report(Event{Kind: Progress, Text: f.dataset, Bytes: f.before + begin + p.SentBytes, Total: f.total})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("stream %s: %w", m.ID, err)
	}
	return r, begin, nil
}
