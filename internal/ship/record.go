package ship

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"snapd/internal/point"
)

// Records keeps what unfinished uploads have achieved, one file each, in a
// folder of this host. It can be lost: then a stream starts again. It holds
// digests of plain data, which is why it never leaves the host.
type Records struct{ dir string }

// OpenRecords makes the folder if need be, readable by its owner only.
func OpenRecords(dir string) (*Records, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open ship records: %w", err)
	}
	return &Records{dir: dir}, nil
}

const recordSuffix = ".jsonl"

// Active lists the uploads that were begun and not forgotten: those that are
// unfinished, and those whose point was not put yet. A prune keeps their
// segments.
func (r *Records) Active() ([]RecordHead, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list ship records: %w", err)
	}
	var heads []RecordHead
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok || parseStored(point.ID(id)) != nil {
			continue
		}
		head, err := r.head(point.ID(id))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrDamaged) {
			continue // just finished, or died before its first line was whole
		}
		if err != nil {
			return nil, err
		}
		heads = append(heads, head)
	}
	return heads, nil
}

// Keep names the streams that a prune of a repository must not touch: those
// being uploaded, and what they build on. It is for PruneOptions.Keep.
func (r *Records) Keep(repository string) ([]point.ID, error) {
	heads, err := r.Active()
	if err != nil {
		return nil, err
	}
	var keep []point.ID
	for _, h := range heads {
		if h.Repository != repository {
			continue
		}
		keep = append(keep, h.Stream)
		if h.Base != "" {
			keep = append(keep, h.Base)
		}
	}
	return keep, nil
}

// Forget removes a record. It is for a caller that has noted elsewhere what the upload
// made, which until then only the record finds again after a crash; of an
// unfinished one the stream will start again, and what it uploaded is removed
// by a prune. One that is gone is no error.
func (r *Records) Forget(stream point.ID) error {
	if err := parseStored(stream); err != nil {
		return err
	}
	if err := os.Remove(r.file(stream)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget ship record: %w", err)
	}
	return nil
}

func (r *Records) file(stream point.ID) string {
	return filepath.Join(r.dir, string(stream)+recordSuffix)
}

func (r *Records) head(stream point.ID) (RecordHead, error) {
	f, err := os.Open(r.file(stream))
	if err != nil {
		return RecordHead{}, fmt.Errorf("read ship record: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	head, _, err := readRecord(f, stream, nil)
	return head, err
}

// statesKept is how many states are remembered while resuming: the last ones,
// since all segments before those are there unless they were deleted from outside.
const statesKept = 64

// done is one acknowledged segment, as kept in memory while resuming: 88
// bytes, 5.5 MiB for each TiB of the stream.
type done struct {
	plain, object Digest
	etag          [16]byte // shortened; zero when the store told none
	plainBytes    uint32
	storedBytes   uint32 // 0: not acknowledged
}

// record is an open one. Its methods may be called on nil, which records
// nothing.
type record struct {
	head RecordHead
	name string
	done []done // from before, by number of the segment

	begun bool // by an earlier attempt, which may have put its lease

	states map[int]string // of the last of them
	keys   []string       // at which it may have been committed before
	lease  int            // the highest count of a lease that may have been put

	mu     sync.Mutex
	file   *os.File
	synced time.Time
	broken error // writing failed; the upload goes on without
}

// syncEvery bounds what a power cut can take from a record. A killed process
// takes nothing: its writes are the kernel's.
const syncEvery = time.Second

// begin continues the record of an upload that is equal to want, or makes one
// for the new stream id in want.
func (r *Records) begin(want RecordHead) (*record, error) {
	heads, err := r.Active()
	if err != nil {
		return nil, err
	}
	for _, h := range heads {
		same := h
		same.Stream = want.Stream
		if same != want || want.Recipients == "" {
			continue
		}
		rec, err := r.resume(h.Stream)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return rec, err
	}
	return r.create(want)
}

func (r *Records) create(head RecordHead) (*record, error) {
	f, err := os.OpenFile(r.file(head.Stream), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make ship record: %w", err)
	}
	rec := &record{head: head, name: f.Name(), file: f, synced: time.Now()}
	if err := rec.lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := rec.write(head); err != nil {
		return nil, errors.Join(fmt.Errorf("make ship record: %w", err), rec.discard())
	}
	return rec, nil
}

func (r *Records) resume(stream point.ID) (*record, error) {
	f, err := os.OpenFile(r.file(stream), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("continue ship record: %w", err)
	}
	rec := &record{name: f.Name(), file: f, synced: time.Now(), begun: true}
	if err := rec.lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	head, whole, err := readRecord(f, stream, rec.remember)
	if err == nil {
		// Cut a torn line off, or the next would be glued to it.
		err = f.Truncate(whole)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("continue ship record: %w", err), f.Close())
	}
	rec.head = head
	return rec, nil
}

// lock keeps two processes from shipping one stream at once.
func (r *record) lock() error {
	if err := syscall.Flock(int(r.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("ship record %s: %w by another process: %w", r.name, ErrBusy, err)
	}
	return nil
}

func (r *record) remember(l recordLine) {
	if l.Commit != "" {
		r.keys = append(r.keys, l.Commit)
		return
	}
	if l.Lease != 0 {
		r.lease = max(r.lease, l.Lease)
		return
	}
	for len(r.done) <= l.N {
		if l.N > len(r.done)+rowsPerPart {
			return // no upload of ours runs so far ahead
		}
		r.done = append(r.done, done{})
	}
	if r.states == nil {
		r.states = make(map[int]string)
	}
	r.states[l.N] = l.State
	delete(r.states, len(r.done)-1-statesKept)
	r.done[l.N] = done{plain: l.Plain, object: l.Object, etag: shortETag(l.ETag), plainBytes: uint32(l.PlainBytes), storedBytes: uint32(l.StoredBytes)}
}

// continued tells whether an earlier attempt may have left a lease.
func (r *record) continued() bool { return r != nil && r.begun }

// resumed tells whether an earlier attempt achieved anything.
func (r *record) resumed() bool { return r != nil && len(r.done) > 0 }

// leased is the highest count of a lease that an earlier attempt, or this one,
// may have put; 0 if none.
func (r *record) leased() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lease
}

// leasing records that a lease with that count is about to be put: a listing may
// hide the one that is there, and a key is never used twice.
func (r *record) leasing(count int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease = max(r.lease, count)
	if r.broken == nil {
		r.broken = r.write(leaseLine{count})
	}
}

// commits are the keys at which an earlier attempt may have put its manifest;
// key is where this one would.
func (r *record) commits(key string) []string {
	keys := slices.Clone(r.keys)
	if !slices.Contains(keys, key) {
		keys = append(keys, key)
	}
	return keys
}

// committing records durably that the manifest is about to be put at key.
func (r *record) committing(key string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken == nil {
		r.broken = r.write(commitLine{key})
	}
	if r.broken == nil {
		r.broken = r.file.Sync()
	}
}

// safe are the segments from the first on that are whole and there, as far as
// the state at the end of the last one is known. state is "" when none is.
func (r *record) safe(sliceBytes int) (rows []Row, state string) {
	if r == nil {
		return nil, ""
	}
	last := 0
	for n, d := range r.done {
		if d.storedBytes == 0 || int(d.plainBytes) != sliceAt(n, sliceBytes) {
			break
		}
		rows = append(rows, Row{Digest: d.object, Plain: int64(d.plainBytes), Stored: int64(d.storedBytes)})
		if r.states[n] != "" {
			last, state = n+1, r.states[n]
		}
	}
	return rows[:last], state
}

// reuse returns the row of a slice that was uploaded before with this content.
func (r *record) reuse(n int, plain Digest, length int) (Row, bool) {
	if r == nil || n >= len(r.done) {
		return Row{}, false
	}
	d := r.done[n]
	if d.storedBytes == 0 || d.plain != plain || int(d.plainBytes) != length {
		return Row{}, false
	}
	return Row{Digest: d.object, Plain: int64(d.plainBytes), Stored: int64(d.storedBytes)}, true
}

// add records an acknowledged segment. When that fails (a full disk) the
// upload goes on, and a later one starts from what was recorded so far.
func (r *record) add(l recordLine) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken != nil {
		return
	}
	r.broken = r.write(l)
	if r.broken == nil && time.Since(r.synced) >= syncEvery {
		r.broken = r.file.Sync()
		r.synced = time.Now()
	}
}

func (r *record) write(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = r.file.Write(append(line, '\n'))
	return err
}

// close keeps the record for the next attempt.
func (r *record) close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.broken, r.file.Sync(), r.file.Close())
}

// discard removes the record: nothing of the stream can be used.
func (r *record) discard() error {
	if r == nil {
		return nil
	}
	if err := os.Remove(r.name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("remove ship record: %w", err), r.file.Close())
	}
	return r.file.Close()
}
