package ship_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// tracked is a source's reader that can say where it is.
type tracked struct {
	io.Reader
	at    int64
	dense func(at int64) int64
}

func (r *tracked) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.at += int64(n)
	return n, err
}

func (r *tracked) State() string { return "at " + strconv.FormatInt(r.at, 10) }

func (r *tracked) Dense() int64 {
	if r.dense == nil {
		return 0
	}
	return r.dense(r.at)
}

func (*tracked) Close() error { return nil }

// sender opens data, in its middle too, and counts what is read.
type sender struct {
	data   []byte
	cut    int64 // fails there, once everything before is recorded; 0: never
	b      *bench
	t      *testing.T
	read   int64
	refuse error // of Resume
}

func (s *sender) open(at int64) io.ReadCloser {
	end, tail := int64(len(s.data)), io.Reader(strings.NewReader(""))
	if s.cut > 0 {
		end, tail = s.cut, &waitThenFail{b: s.b, t: s.t, lines: int(s.cut) / slice}
	}
	counted := io.TeeReader(bytes.NewReader(s.data[at:end]), counting(&s.read))
	return &tracked{Reader: io.MultiReader(counted, tail), at: at}
}

type counter64 struct{ n *int64 }

func (c counter64) Write(p []byte) (int, error) { *c.n += int64(len(p)); return len(p), nil }

func counting(n *int64) io.Writer { return counter64{n} }

func (s *sender) sender() ship.Sender {
	return ship.Sender{
		Open: func(context.Context) (io.ReadCloser, error) { return s.open(0), nil },
		Resume: func(_ context.Context, at int64, state string) (io.ReadCloser, error) {
			if want := "at " + strconv.FormatInt(at, 10); state != want {
				s.t.Errorf("the state at byte %d is %q", at, state)
			}
			if s.refuse != nil {
				return nil, s.refuse
			}
			return s.open(at), nil
		},
	}
}

// TestContinue: what is safe is not read again, twice in a row; the stream is
// whole; the record of the stream says how.
func TestContinue(t *testing.T) {
	const segments = 40
	store := shiptest.NewMemory()
	b := newBench(t, store)
	s := &sender{data: noise(8, segments*slice), b: b, t: t}
	for _, cut := range []int64{12 * slice, 25 * slice} {
		s.cut = cut
		if _, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil); !errors.Is(err, errScripted) {
			t.Fatalf("got %v", err)
		}
	}
	if s.read != 25*slice {
		t.Errorf("%d bytes were read, want %d: none twice", s.read, 25*slice)
	}
	s.cut, s.read = 0, 0
	done, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.read != 15*slice || done.Reused != 25 || done.Uploaded != 15 || !strings.Contains(done.Resumed, fmt.Sprint("byte ", 25*slice)) {
		t.Errorf("%d bytes were read; %+v", s.read, done)
	}
	if got, err := b.read(b.reader(), done.ID); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestContinueRefused: what cannot be continued is made again and compared.
func TestContinueRefused(t *testing.T) {
	b := newBench(t, shiptest.NewMemory())
	s := &sender{data: noise(9, 20*slice), b: b, t: t, cut: 10 * slice}
	if _, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil); !errors.Is(err, errScripted) {
		t.Fatalf("got %v", err)
	}
	s.cut, s.read, s.refuse = 0, 0, errors.New("the anchor is gone")
	done, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.read != 20*slice || done.Reused != 10 || !strings.Contains(done.Resumed, "the anchor is gone") {
		t.Errorf("%d bytes were read; %+v", s.read, done)
	}
	if got, err := b.read(b.reader(), done.ID); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestContinueAfterLoss: a segment that was deleted behind its back is made again, and
// so is what comes after it.
func TestContinueAfterLoss(t *testing.T) {
	store := shiptest.NewMemory()
	b := newBench(t, store)
	s := &sender{data: noise(10, 20*slice), b: b, t: t, cut: 16 * slice}
	if _, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil); !errors.Is(err, errScripted) {
		t.Fatalf("got %v", err)
	}
	for _, key := range store.Keys("data/") {
		if strings.Contains(key, "/00000006-") {
			if err := store.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.cut, s.read = 0, 0
	done, err := b.host().UploadFrom(t.Context(), full("g1"), s.sender(), b.records, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.read != 14*slice || done.Reused != 15 || done.Uploaded != 5 {
		t.Errorf("%d bytes were read; %+v", s.read, done)
	}
	if got, err := b.read(b.reader(), done.ID); err != nil || !bytes.Equal(got, s.data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

// TestDense: what the storage has compressed is stored as it is, in frames
// that any reader of zstd takes; the rest is compressed.
func TestDense(t *testing.T) {
	b := newBench(t, shiptest.NewMemory())
	data := bytes.Repeat([]byte("compressible "), 8*slice/13+1)[:8*slice]
	half := int64(len(data) / 2)
	open := func(context.Context) (io.ReadCloser, error) {
		return &tracked{Reader: bytes.NewReader(data), dense: func(at int64) int64 { return min(at, half) }}, nil
	}
	s, err := b.host().Upload(t.Context(), full("g1"), open, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.StoredBytes < half || s.StoredBytes > half+half/4+8*400 {
		t.Errorf("%d bytes are stored, of which %d should be as they were", s.StoredBytes, half)
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
}

func TestOneFormat(t *testing.T) {
	b := newBench(t, shiptest.NewMemory())
	first, err := b.host().Upload(t.Context(), full("g1"), source([]byte("one")), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := on(first, "g2")
	h.Format, h.OneFormat = "other-1", true
	if _, err := b.host().Upload(t.Context(), h, source([]byte("two")), nil, nil); !errors.Is(err, ship.ErrOtherFormat) {
		t.Errorf("got %v, want ErrOtherFormat", err)
	}
}
