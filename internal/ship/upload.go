package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"snapd/internal/point"

	"golang.org/x/sync/errgroup"
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
	// OneFormat refuses a base whose stream has another format, with
	// ErrOtherFormat: not every storage takes such a chain.
	OneFormat bool
	// Full says why a stream without a base has none, where one could be
	// expected: that the recipients changed, that a base is damaged.
	Full string
}

// ErrOtherFormat says that a stream cannot build on its base, which has
// another format. A full one can be shipped.
var ErrOtherFormat = errors.New("the base has another stream format")

// Source opens the stream. Every time it is called it must give the same
// stream, or what was uploaded before cannot be used. It ends in io.EOF only
// if it is complete. The context ends when the upload fails.
//
// The reader may be a Stater and a Denser too.
type Source func(ctx context.Context) (io.ReadCloser, error)

// Stater is a reader that can say where it is: State is what Sender.Resume needs
// to go on from the byte that was read last, "" when it could not. It is called
// between Reads.
type Stater interface{ State() string }

// Denser is a reader that knows what of it would not shrink: Dense counts the
// bytes so far that the storage had compressed or encrypted, so that nothing is
// gained by compressing them again. It is called between Reads.
type Denser interface{ Dense() int64 }

// Sender opens a stream, and perhaps opens it again in its middle.
type Sender struct {
	Open Source
	// Resume opens the stream that Open opens, from byte at on; state is what
	// its reader said there in an earlier attempt. It returns only when what it
	// opened is known to continue that very stream; on any error the stream is
	// opened from its beginning. nil when the storage cannot.
	Resume func(ctx context.Context, at int64, state string) (io.ReadCloser, error)
}

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
	Full        string // why it has no base, as its Head says
	Digest      string // of the manifest's object
}

// Upload ships one stream. When it returns nil, the stream is committed; when
// it fails, nothing of it is listed, and the next call with the same head and
// records goes on where it stopped. records may be nil, then it starts again.
// Record and lease stay, until Records.Forget and EndLease are called because
// a point names the stream. report, if set, is called from one goroutine at a
// time. *UnfitBase and ErrOtherFormat ask for another base.
func (r *Repository) Upload(ctx context.Context, head Head, open Source, records *Records, report func(Progress)) (Stream, error) {
	return r.UploadFrom(ctx, head, Sender{Open: open}, records, report)
}

// UploadFrom is Upload of a stream that can perhaps be continued: after an
// interruption what is safe is then not even read again.
func (r *Repository) UploadFrom(ctx context.Context, head Head, from Sender, records *Records, report func(Progress)) (Stream, error) {
	if err := r.checkWritable(); err != nil {
		return Stream{}, err
	}
	s, err := r.uploadOnce(ctx, head, from, records, report)
	if records != nil && (errors.Is(err, errLost) || errors.Is(err, errSpoilt)) {
		// Once more: what is lacking is put again, or all of it under another
		// name.
		s, err = r.uploadOnce(ctx, head, from, records, report)
	}
	return s, err
}

func (r *Repository) uploadOnce(ctx context.Context, head Head, from Sender, records *Records, report func(Progress)) (_ Stream, err error) {
	began := instant{time.Now()}
	ref, baseGUID, err := r.plan(ctx, head)
	if err != nil {
		return Stream{}, fmt.Errorf("ship snapshot %s: %w", head.GUID, err)
	}
	var rec *record
	if records != nil {
		rec, err = records.begin(RecordHead{
			Format: recordFormat, Type: typeRecord, Repository: r.ID, Stream: ref.ID,
			Driver: head.Driver, StreamForm: head.Format, Origin: head.Origin, GUID: head.GUID, Base: ref.Base,
			SliceBytes: r.SliceBytes, Recipients: r.recordRecipients(),
		})
		if err != nil {
			return Stream{}, fmt.Errorf("ship snapshot %s: %w", head.GUID, err)
		}
		ref.ID = rec.head.Stream
		ref.Key = streamKey(ref)
	}
	u := &upload{repo: r, head: head, ref: ref, baseGUID: baseGUID, began: began, record: rec, report: report, pending: map[int]Row{}}
	s, err := u.run(ctx, from)
	end := rec.close
	if errors.Is(err, errSpoilt) {
		end = func() error { return errors.Join(r.EndLease(ctx, ref.ID), rec.discard()) } // nothing will go on with it
	}
	cerr := end()
	if err != nil {
		// A record that could not be kept costs the next attempt time, and is
		// no reason to hide why this one failed.
		if cerr != nil {
			err = fmt.Errorf("%w (and its record was not kept: %w)", err, cerr)
		}
		return Stream{}, fmt.Errorf("ship stream %s of snapshot %s: %w", ref.ID, head.GUID, err)
	}
	s.Full = head.Full
	return s, nil // its record is not needed to find it, only to find it without the caller
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
	base, err := r.base(ctx, head)
	if err != nil {
		return ref, "", err
	}
	return ref, base.GUID, nil
}

// upload is one running Upload.
type upload struct {
	repo     *Repository
	head     Head
	ref      StreamRef
	baseGUID string
	began    instant // before the base was checked
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

	continued int64 // byte at which the stream was taken up in its middle; 0: it was not
	anew      error // why it could not be
}

type slice struct {
	n     int
	data  []byte
	state string // of the reader, at the slice's end
	dense bool   // nothing is gained by compressing it
}

func (u *upload) run(ctx context.Context, from Sender) (Stream, error) {
	resumed, committed, err := u.resume(ctx)
	if err != nil {
		return Stream{}, err
	}
	if committed != nil {
		return *committed, nil
	}
	lease, err := u.repo.beginLease(ctx, u.ref.ID, u.ref.Base, u.head.Host, u.record)
	if err != nil {
		return Stream{}, err
	}
	defer lease.keepLease(ctx)()
	defer u.repo.memory.use()()
	slices := make(chan slice)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(slices)
		return u.cut(gctx, from, slices)
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

// cut reads the stream and hands out its slices.
func (u *upload) cut(ctx context.Context, from Sender, slices chan<- slice) (err error) {
	in, first, err := u.open(ctx, from)
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	defer func() {
		// Closing early ends the sender, which then has reason to complain.
		if cerr := in.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close the stream: %w", cerr)
		}
	}()
	watch := watching(in)
	for n := first; ; n++ {
		data, err := u.repo.memory.slice(ctx, u.repo.SliceBytes)
		if err != nil {
			return err
		}
		length, last, err := fill(in, data[:sliceAt(n, u.repo.SliceBytes)])
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
		case slices <- watch.slice(n, data[:length]):
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
		if err == io.EOF {
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
	if s.dense {
		err = storeInto(object, s.data, u.repo.recipients)
	} else {
		err = sealInto(object, s.data, enc, u.repo.recipients)
	}
	digest := digestOf(object.Bytes())
	m.freeEncoder(enc)
	row := Row{Digest: digest, Plain: int64(len(s.data)), Stored: int64(object.Len())}
	free()
	if err != nil {
		return fmt.Errorf("segment %d: %w", s.n, err)
	}
	if row.Stored > maxStored(u.repo.SliceBytes) {
		return fmt.Errorf("segment %d: encrypted it has %d bytes, too many: there are too many recipients", s.n, row.Stored)
	}
	// Not "if absent": the name holds the digest, so that what is replaced is
	// the same, or is damaged.
	etag, err := putDigest(ctx, u.repo.store, segmentKey(u.ref.ID, s.n, digest), object.Bytes(), false, digest)
	if err != nil {
		return fmt.Errorf("put segment %d: %w", s.n, err)
	}
	u.record.add(recordLine{N: s.n, Plain: plain, Object: digest, PlainBytes: row.Plain, StoredBytes: row.Stored, State: s.state, ETag: etag})
	return u.acknowledge(ctx, s.n, row, false)
}
