package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/run"
)

// flags are those of zfs send for a format. Embedded blocks (-e) are never
// asked for: sending them damages some (openzfs#18239); raw streams have none,
// since nothing that is encrypted is embedded. Properties (-p) would make
// packages that cannot be resumed.
func flags(format string) []string {
	if format == zfsstream.FormatRaw {
		return []string{"-w"}
	}
	return []string{"-L", "-c"}
}

// Format implements fs.Driver: raw of an encrypted dataset, whose key is then
// not needed and never leaves the host. It does not change in a dataset's life,
// so that a chain goes on as it began.
func (d *Driver) Format(ctx context.Context, s fs.Snapshot) (format string, fixed bool, err error) {
	found, err := d.find(ctx, s.Dataset)
	if err != nil {
		return "", true, fmt.Errorf("ask for the stream format: %w", err)
	}
	format, err = formatOf(ctx, found[0])
	return format, true, err
}

func formatOf(ctx context.Context, o object) (string, error) {
	rows, err := table(ctx, o.pool(), 1, "zfs", "get", "-Hp", "-o", "value", "encryption", o.name)
	if err != nil {
		return "", err
	}
	if len(rows) == 1 && rows[0][0] != "off" && rows[0][0] != "-" {
		return zfsstream.FormatRaw, nil
	}
	return zfsstream.FormatClear, nil
}

// asked is what is to be sent, as it is called now.
type asked struct {
	pool   string
	format string
	snap   instant
	base   *instant
}

// ask finds a snapshot and its base by their guids.
func (d *Driver) ask(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (asked, error) {
	found, err := d.find(ctx, s.Dataset)
	if err != nil {
		return asked{}, err
	}
	all, err := instantsOf(ctx, found[0], "snapshot,bookmark")
	if err != nil {
		return asked{}, err
	}
	a := asked{pool: found[0].pool()}
	m, there := instantWith(all, s.GUID)
	if !there || m.bookmark() {
		return asked{}, fmt.Errorf("the snapshot (guid %s): %w", s.GUID, fs.ErrNotFound)
	}
	a.snap = m
	if base != nil {
		b, there := instantWith(all, base.GUID)
		switch {
		case !there:
			return asked{}, fmt.Errorf("base %s (guid %s): %w: neither the snapshot nor a bookmark of it is left", base.Name, base.GUID, fs.ErrBase)
		case b.createTXG >= m.createTXG:
			return asked{}, fmt.Errorf("base %s: %w: it is not older", b.name, fs.ErrBase)
		}
		a.base = &b
	}
	a.format, err = formatOf(ctx, found[0])
	return a, err
}

func (a asked) argv(more ...string) []string {
	argv := append([]string{"zfs", "send"}, flags(a.format)...)
	argv = append(argv, more...)
	if a.base != nil {
		argv = append(argv, "-i", a.base.name)
	}
	return append(argv, a.snap.name)
}

func (a asked) baseGUID() uint64 {
	if a.base == nil {
		return 0
	}
	return a.base.guid
}

// Send implements fs.Driver. The base may live on as a bookmark only. What it
// returns is a Stream.
func (d *Driver) Send(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	a, err := d.ask(ctx, s, base)
	if err == nil {
		var r io.ReadCloser
		if r, err = run.Pipe(ctx, a.argv()...); err == nil {
			return newStream(ctx, a, r), nil
		}
	}
	return nil, fmt.Errorf("send snapshot %s of %s: %w", s.Name, s.Dataset.Name, explain(err))
}

// Resume opens the stream that Send opened, from byte at on, without reading
// what comes before; state is what Stream.State said when it had given that
// many bytes. Everything that can be compared with the first part is, before
// it returns: an error means that the stream has to be made again from its
// beginning.
func (d *Driver) Resume(ctx context.Context, s fs.Snapshot, base *fs.Snapshot, at int64, state string) (io.ReadCloser, error) {
	r, err := d.resume(ctx, s, base, at, state)
	if err != nil {
		return nil, fmt.Errorf("go on with sending snapshot %s of %s at byte %d: %w", s.Name, s.Dataset.Name, at, explain(err))
	}
	return r, nil
}

func (d *Driver) resume(ctx context.Context, s fs.Snapshot, base *fs.Snapshot, at int64, state string) (io.ReadCloser, error) {
	p, err := zfsstream.ParsePosition(state, at)
	if err != nil {
		return nil, err
	}
	a, err := d.ask(ctx, s, base)
	if err != nil {
		return nil, err
	}
	t := zfsstream.Token{
		Name: a.snap.name, ToGUID: a.snap.guid, FromGUID: a.baseGUID(),
		Object: p.Anchor.Object, Offset: p.Anchor.Offset, Bytes: uint64(p.Anchor.End), Features: p.Features,
	}
	pipe, err := run.Pipe(ctx, "zfs", "send", "-t", t.String())
	if err != nil {
		return nil, err
	}
	pumped := newPump(ctx, a, pipe)
	rest, err := zfsstream.Stitch(pumped, p, a.snap.guid, a.baseGUID())
	if err != nil {
		return nil, errors.Join(err, pumped.Close())
	}
	return &Stream{pump: pumped, rest: rest, follow: &rest.Follow}, nil
}

// Estimate says about how many bytes Send will give. It can take long when the
// base is only a bookmark: ctx bounds it.
func (d *Driver) Estimate(ctx context.Context, s fs.Snapshot, base *fs.Snapshot) (int64, error) {
	a, err := d.ask(ctx, s, base)
	if err != nil {
		return 0, fmt.Errorf("estimate snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	out, err := output(ctx, a.pool, a.argv("-nP")...)
	if err != nil {
		return 0, fmt.Errorf("estimate snapshot %s of %s: %w", s.Name, s.Dataset.Name, err)
	}
	return parseEstimate(string(out))
}

// parseEstimate reads the line "size" of zfs send -nP.
func parseEstimate(out string) (int64, error) {
	for line := range strings.Lines(out) {
		if size, ok := strings.CutPrefix(line, "size\t"); ok {
			return strconv.ParseInt(strings.TrimSpace(size), 10, 64)
		}
	}
	return 0, fmt.Errorf("zfs send -nP printed %q, and that has no size", out)
}

// pump reads a sender in a goroutine, so that its reader can leave it behind
// when the pool is suspended: the sender then cannot be killed.
type pump struct {
	ctx    context.Context //nolint:containedctx // of the one Send that made it
	pool   string
	snap   string // what is sent, as it is called
	from   io.ReadCloser
	filled chan chunk
	empty  chan []byte
	now    chunk
	rest   []byte
	once   sync.Once
	stop   chan struct{}
	done   chan struct{}
	err    error
}

type chunk struct {
	data []byte
	err  error
}

const (
	pumpSize = 256 << 10 // bytes of one chunk
	pumps    = 4
)

func newPump(ctx context.Context, a asked, from io.ReadCloser) *pump {
	p := &pump{
		ctx: ctx, pool: a.pool, snap: a.snap.name, from: from, stop: make(chan struct{}), done: make(chan struct{}),
		filled: make(chan chunk, pumps), empty: make(chan []byte, pumps),
	}
	for range pumps {
		p.empty <- make([]byte, pumpSize)
	}
	go p.run()
	return p
}

func (p *pump) run() {
	defer close(p.done)
	for {
		var buf []byte
		select {
		case buf = <-p.empty:
		case <-p.stop:
			return
		}
		n, err := p.from.Read(buf[:cap(buf)])
		select {
		case p.filled <- chunk{buf[:n], err}:
		case <-p.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if p.now.data != nil {
			p.empty <- p.now.data
			p.now = chunk{}
		}
		if p.err = p.wait(); p.err != nil && len(p.rest) == 0 {
			return 0, p.err
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// wait gets the next chunk.
func (p *pump) wait() error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case p.now = <-p.filled:
			p.rest = p.now.data
			if p.now.err != nil && !errors.Is(p.now.err, io.EOF) {
				return explainRead(p.ctx, p.snap, p.now.err)
			}
			return p.now.err
		case <-look.C:
			if err := suspended(p.pool); err != nil {
				return err
			}
		}
	}
}

// Close ends the sender. One that cannot be killed, because its pool is
// suspended, is left behind.
func (p *pump) Close() error {
	p.once.Do(func() {
		close(p.stop)
		closed := make(chan struct{})
		go func() {
			_ = p.from.Close() // what a reader that closes early does not want to know
			<-p.done
			close(closed)
		}()
		for waiting := true; waiting; {
			select {
			case <-closed:
				waiting = false
			case <-time.After(lookEvery):
				waiting = suspended(p.pool) == nil
			}
		}
		p.rest, p.now = nil, chunk{}
		if p.err == nil || errors.Is(p.err, io.EOF) {
			p.err = fmt.Errorf("read from a sender: %w", os.ErrClosed)
		}
	})
	return nil
}
