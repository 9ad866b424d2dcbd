package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"snapd/internal/point"
)

// Head says what a stream is.
type Head struct {
	Point  point.ID
	Driver string     // "btrfs"
	Format string     // of the stream, such as "btrfs-2"
	Origin string     // guid of the dataset
	GUID   string     // guid of the snapshot that the stream makes
	Base   *StreamRef // what it builds on, nil for a full stream
	Number int        // as retention counts the dataset's streams
	Depth  int        // 0 for a full stream, else one more than the base's
	Host   string     // opaque id
}

// Source opens the stream. Every time it is called it must give the same
// stream, or what was uploaded before cannot be used. It ends in io.EOF only
// if it is complete. The context ends when the upload fails.
type Source func(ctx context.Context) (io.ReadCloser, error)

// Progress is how far a stream has come. Only what is safe counts.
type Progress struct {
	SentBytes   int64 // of the stream
	StoredBytes int64 // of its objects
	ReusedBytes int64 // of those, what an earlier attempt had uploaded
	Segments    int
}

// Stream is a committed stream.
type Stream struct {
	StreamRef
	SentBytes   int64
	StoredBytes int64
	Segments    int
	Uploaded    int    // segments that this call put
	Reused      int    // segments that an earlier attempt had put
	Resumed     string // how an interrupted upload went on, "" if it was not
	Digest      string // of the manifest's object
}

// Upload ships one stream. When it returns nil, the stream is committed; when
// it fails, nothing of it is listed, and the next call with the same head and
// records goes on where it stopped. records may be nil, then it starts again.
// report, if set, is called from one goroutine at a time.
func (r *Repository) Upload(ctx context.Context, head Head, open Source, records *Records, report func(Progress)) (_ Stream, err error) {
	if err := r.checkWritable(); err != nil {
		return Stream{}, err
	}
	ref, baseGUID, err := r.plan(ctx, head)
	if err != nil {
		return Stream{}, fmt.Errorf("ship snapshot %s: %w", head.GUID, err)
	}
	var rec *record
	if records != nil {
		rec, err = records.begin(RecordHead{
			Format: formatVersion, Type: typeRecord, Repository: r.ID, Stream: ref.ID,
			Driver: head.Driver, StreamForm: head.Format, Origin: head.Origin, GUID: head.GUID, Base: ref.Base,
			SliceBytes: r.SliceBytes, Recipients: r.recordRecipients(),
		})
		if err != nil {
			return Stream{}, fmt.Errorf("ship snapshot %s: %w", head.GUID, err)
		}
		ref.ID = rec.head.Stream
		ref.Key = streamKey(ref)
	}
	u := &upload{repo: r, head: head, ref: ref, baseGUID: baseGUID, record: rec, report: report, pending: map[int]Row{}}
	s, err := u.run(ctx, open)
	if err != nil {
		// A record that could not be kept costs the next attempt time, and is
		// no reason to hide why this one failed.
		if cerr := rec.close(); cerr != nil {
			err = fmt.Errorf("%w (and its record was not kept: %w)", err, cerr)
		}
		return Stream{}, fmt.Errorf("ship stream %s of snapshot %s: %w", ref.ID, head.GUID, err)
	}
	if err := rec.finish(); err != nil {
		return s, fmt.Errorf("stream %s is committed, but %w", ref.ID, err)
	}
	return s, nil
}

// recordRecipients never is "" in a repository without recipients.
func (r *Repository) recordRecipients() string {
	if r.Encryption == EncryptionNone {
		return EncryptionNone
	}
	return recipientsDigest(r.recipients)
}

// plan checks the head and its base, and gives the stream a name.
func (r *Repository) plan(ctx context.Context, head Head) (ref StreamRef, baseGUID string, err error) {
	now := time.Now()
	ref = StreamRef{ID: point.NewID(now), Origin: head.Origin, GUID: head.GUID, Number: head.Number, Depth: head.Depth}
	if head.Base != nil {
		ref.Base = head.Base.ID
	}
	if err := ref.check(); err != nil {
		return ref, "", err
	}
	ref.Key = streamKey(ref)
	if head.Base == nil {
		return ref, "", nil
	}
	base, err := r.Manifest(ctx, *head.Base)
	if err != nil {
		return ref, "", fmt.Errorf("check the base: %w", err)
	}
	switch {
	case base.Origin != head.Origin:
		return ref, "", fmt.Errorf("base %s is of dataset %s, not of %s", base.ID, base.Origin, head.Origin)
	case base.GUID == head.GUID:
		return ref, "", fmt.Errorf("base %s already is snapshot %s", base.ID, head.GUID)
	case base.Depth+1 != head.Depth:
		return ref, "", fmt.Errorf("base %s has depth %d, so this has not depth %d", base.ID, base.Depth, head.Depth)
	case base.Driver != head.Driver:
		return ref, "", fmt.Errorf("base %s is of driver %s, not of %s", base.ID, base.Driver, head.Driver)
	}
	return ref, base.GUID, nil
}

// upload is one running Upload.
type upload struct {
	repo     *Repository
	head     Head
	ref      StreamRef
	baseGUID string
	record   *record
	report   func(Progress)

	mu       sync.Mutex
	pending  map[int]Row // acknowledged, but one before them is not
	rows     []Row       // acknowledged without a gap, since the last part
	parts    []partRef
	next     int // number of the first segment that is not in rows or parts
	progress Progress
	uploaded int
	reused   int
}

type slice struct {
	n    int
	data []byte
}

func (u *upload) run(ctx context.Context, open Source) (Stream, error) {
	resumed, committed, err := u.resume(ctx)
	if err != nil {
		return Stream{}, err
	}
	if committed != nil {
		return *committed, nil
	}
	defer u.repo.memory.use()()
	slices := make(chan slice)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(slices)
		return u.cut(gctx, open, slices)
	})
	for range u.repo.memory.workers() {
		g.Go(func() error {
			for s := range slices {
				if err := u.segment(gctx, s); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return Stream{}, ctx.Err()
		}
		return Stream{}, err
	}
	s, err := u.commit(ctx)
	if err != nil {
		return Stream{}, err
	}
	s.Resumed = resumed(u)
	return s, nil
}

type found struct {
	size   int64
	suffix string // of the key
}

// resume finds out what of an earlier attempt is still there.
func (u *upload) resume(ctx context.Context) (how func(*upload) string, committed *Stream, err error) {
	how = func(*upload) string { return "" }
	if !u.record.resumed() {
		return how, nil, nil
	}
	// The earlier attempt may have died after its commit.
	var listed *StreamRef
	err = u.repo.store.List(ctx, prefixStreams+string(u.ref.ID)+".", func(o Object) error {
		if ref, ok := parseStreamKey(o.Key); ok {
			ref.Size, ref.Time = o.Size, o.Time
			listed = &ref
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for an earlier attempt: %w", err)
	}
	if listed != nil {
		m, err := u.repo.Manifest(ctx, *listed)
		if err != nil {
			return nil, nil, fmt.Errorf("an earlier attempt was committed: %w", err)
		}
		return nil, &Stream{
			StreamRef: m.StreamRef, SentBytes: m.SentBytes, StoredBytes: m.StoredBytes, Segments: m.Segments,
			Reused: m.Segments, Resumed: "it was complete already", Digest: m.Digest.String(),
		}, nil
	}
	there := map[int]found{}
	prefix := dataPrefix(u.ref.ID)
	err = u.repo.store.List(ctx, prefix, func(o Object) error {
		number, suffix, ok := strings.Cut(strings.TrimPrefix(o.Key, prefix), "-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n >= len(u.record.done) {
			return nil
		}
		// A slice that changed between attempts lies there twice: only the
		// one that the record names counts.
		if u.record.done[n].object.String()[:16] == suffix {
			there[n] = found{size: o.Size, suffix: suffix}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("look for what an earlier attempt uploaded: %w", err)
	}
	u.record.confirm(there)
	return func(u *upload) string {
		return fmt.Sprintf("went on after an interruption: %d of %d segments were there already, %d were uploaded",
			u.reused, u.reused+u.uploaded, u.uploaded)
	}, nil, nil
}

// cut reads the stream and hands out its slices.
func (u *upload) cut(ctx context.Context, open Source, slices chan<- slice) (err error) {
	in, err := open(ctx)
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	defer func() {
		// Closing early ends the sender, which then has reason to complain.
		if cerr := in.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close the stream: %w", cerr)
		}
	}()
	for n := 0; ; n++ {
		data, err := u.repo.memory.slice(ctx, u.repo.SliceBytes)
		if err != nil {
			return err
		}
		length, last, err := fill(in, data)
		if err != nil {
			u.repo.memory.freeSlice(data)
			return fmt.Errorf("read the stream: %w", err)
		}
		if length == 0 {
			u.repo.memory.freeSlice(data)
			if n == 0 {
				return errors.New("the stream is empty: no storage sends nothing")
			}
			return nil
		}
		select {
		case slices <- slice{n: n, data: data[:length]}:
		case <-ctx.Done():
			u.repo.memory.freeSlice(data)
			return ctx.Err()
		}
		if last {
			return nil
		}
	}
}

// fill is io.ReadFull, except that only io.EOF itself is the end: a source
// that fails with io.ErrUnexpectedEOF, or something around io.EOF, has failed.
func fill(in io.Reader, data []byte) (n int, last bool, err error) {
	idle := 0
	for n < len(data) {
		m, err := in.Read(data[n:])
		n += m
		if err == io.EOF { //nolint:errorlint // on purpose
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
		if idle++; m > 0 {
			idle = 0
		} else if idle == 100 {
			return n, false, io.ErrNoProgress
		}
	}
	return n, false, nil
}

// segment makes one slice safe.
func (u *upload) segment(ctx context.Context, s slice) error {
	m := u.repo.memory
	held := true
	free := func() {
		if held {
			m.freeSlice(s.data[:cap(s.data)])
			held = false
		}
	}
	defer free()

	plain := digestOf(s.data)
	if row, ok := u.record.reuse(s.n, plain, len(s.data)); ok {
		return u.acknowledge(ctx, s.n, row, true)
	}
	object, err := m.buffer(ctx, u.repo.SliceBytes)
	if err != nil {
		return err
	}
	defer m.freeBuffer(object)
	enc, err := m.encoder(ctx)
	if err != nil {
		return err
	}
	err = sealInto(object, s.data, enc, u.repo.recipients)
	digest := digestOf(object.Bytes())
	m.freeEncoder(enc)
	row := Row{Digest: digest, Plain: int64(len(s.data)), Stored: int64(object.Len())}
	free()
	if err != nil {
		return fmt.Errorf("segment %d: %w", s.n, err)
	}
	if row.Stored > maxStored(u.repo.SliceBytes) {
		return fmt.Errorf("segment %d: sealed it has %d bytes, too many: there are too many recipients", s.n, row.Stored)
	}
	// Not "if absent": the name holds the digest, so that what is replaced is
	// the same, or is damaged.
	if err := u.repo.store.Put(ctx, segmentKey(u.ref.ID, s.n, digest), object.Bytes(), false); err != nil {
		return fmt.Errorf("put segment %d: %w", s.n, err)
	}
	u.record.add(recordLine{N: s.n, Plain: plain, Object: digest, PlainBytes: row.Plain, StoredBytes: row.Stored})
	return u.acknowledge(ctx, s.n, row, false)
}

// acknowledge counts a segment that is safe and puts it in its place.
func (u *upload) acknowledge(ctx context.Context, n int, row Row, reused bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pending[n] = row
	u.progress.Segments++
	u.progress.SentBytes += row.Plain
	u.progress.StoredBytes += row.Stored
	if reused {
		u.reused++
		u.progress.ReusedBytes += row.Stored
	} else {
		u.uploaded++
	}
	for {
		row, ok := u.pending[u.next]
		if !ok {
			break
		}
		// A full list goes out only when one more segment follows, so that
		// the manifest itself always ends with some rows.
		if len(u.rows) == rowsPerPart {
			if err := u.putPart(ctx); err != nil {
				return err
			}
		}
		delete(u.pending, u.next)
		u.rows = append(u.rows, row)
		u.next++
	}
	if u.report != nil {
		u.report(u.progress)
	}
	return nil
}

// putPart moves the rows into an object of their own.
func (u *upload) putPart(ctx context.Context) error {
	sum, err := sumRows(u.rows, u.repo.SliceBytes, false)
	if err != nil {
		return err
	}
	k := len(u.parts)
	doc := partDoc{
		header: header{Format: formatVersion, Type: typePart, Repository: u.repo.ID},
		Stream: u.ref.ID, Part: k, Rows: u.rows,
	}
	// The key holds the digest of an object that is signed for its key: the
	// signature is for the key without the digest.
	object, err := sign(u.repo.signer, typePart, u.repo.ID, partName(u.ref.ID, k), &doc)
	if err != nil {
		return err
	}
	sum.Digest = digestOf(object)
	if err := u.repo.store.Put(ctx, partKey(u.ref.ID, k, sum.Digest), object, false); err != nil {
		return fmt.Errorf("put part %d of the manifest: %w", k, err)
	}
	u.parts = append(u.parts, sum)
	u.rows = u.rows[:0]
	return nil
}

// commit puts the manifest: from then on the stream exists.
func (u *upload) commit(ctx context.Context) (Stream, error) {
	r := u.repo
	doc := streamDoc{
		header: header{Format: formatVersion, Type: typeStream, Repository: r.ID},
		Stream: u.ref.ID, Point: u.head.Point, Host: u.head.Host, Time: u.ref.ID.Time(),
		Driver: u.head.Driver, StreamFormat: u.head.Format, Origin: u.head.Origin, GUID: u.head.GUID,
		Base: optional(u.ref.Base), BaseGUID: optional(u.baseGUID),
		Number: u.head.Number, Depth: u.head.Depth, SliceBytes: r.SliceBytes,
		Segments: u.progress.Segments, SentBytes: u.progress.SentBytes, StoredBytes: u.progress.StoredBytes,
		Parts: u.parts, Rows: u.rows,
	}
	if doc.Parts == nil {
		doc.Parts = []partRef{}
	}
	if err := doc.check(); err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	object, err := sign(r.signer, typeStream, r.ID, u.ref.Key, &doc)
	if err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	if _, err := putOnce(ctx, r.store, u.ref.Key, object); err != nil {
		return Stream{}, fmt.Errorf("commit: %w", err)
	}
	ref := u.ref
	ref.Size, ref.Time = int64(len(object)), time.Now().UTC()
	return Stream{
		StreamRef: ref, SentBytes: doc.SentBytes, StoredBytes: doc.StoredBytes, Segments: doc.Segments,
		Uploaded: u.uploaded, Reused: u.reused, Digest: digestOf(object).String(),
	}, nil
}
