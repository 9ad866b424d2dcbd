package zfsstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestRest: what is made of a stored stream for a receiver that has a part of
// it is what stitching takes for a sender's words, so that both together give
// the stream again, for every record with which a receiver can go on.
func TestRest(t *testing.T) {
	for _, name := range whole {
		data := recorded(t, name)
		tried := 0
		var w Walker
		at := 0
		for _, raw := range recordsOf(t, data) {
			_, _ = w.Write(raw)
			at += len(raw)
			h := Head(raw[:HeadSize])
			if !h.canAnchor() || w.anchor.End != int64(at) {
				continue
			}
			tried++
			l := Left{ToGUID: w.Begin.ToGUID(), fromGUID: w.Begin.FromGUID(), object: w.anchor.Object, offset: w.anchor.Offset, bytes: uint64(at)}
			p, err := ParsePosition(w.Position(), int64(at))
			if err != nil {
				t.Fatal(err)
			}
			var n int64
			r, err := RestOf(from(data, 1<<20, &n), l)
			if err != nil {
				t.Fatalf("%s at %d (%+v): %v", name, at, l, err)
			}
			said, err := io.ReadAll(r)
			if err := firstError(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			if err := checkAll(said); err != nil {
				t.Fatalf("%s at %d: %v", name, at, err)
			}
			s, err := Stitch(bytes.NewReader(said), p, l.ToGUID, l.fromGUID)
			if err != nil {
				t.Fatalf("%s at %d (%+v): %v", name, at, l, err)
			}
			again, err := io.ReadAll(s)
			if err != nil || !bytes.Equal(again, data[at:]) {
				t.Fatalf("%s at %d (%+v): %d bytes, want %d, or they differ: %v", name, at, l, len(again), len(data)-at, err)
			}
		}
		if tried < 3 {
			t.Errorf("%s: only %d positions", name, tried)
		}
	}
}

// checkAll walks a stream with the same eyes as a receiver's.
func checkAll(data []byte) error {
	var w Walker
	if _, err := w.Write(data); err != nil {
		return err
	}
	if !w.Ended {
		return errors.New("it has no end")
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestRestSeeks: of a large stream only a little before the position is read.
func TestRestSeeks(t *testing.T) {
	data, l := longStream(t, 700)
	var n int64
	r, err := RestOf(from(data, 16<<20, &n), l)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(r)
	if err := firstError(err, r.Close(), checkAll(said)); err != nil {
		t.Fatal(err)
	}
	all := int64(len(data))
	t.Logf("%d of %d bytes were read for the last %d", n, all, len(said))
	if n > all-int64(l.bytes)+stepBack+20<<20 {
		t.Error("that is too much")
	}
	if want := 70 * 128 << 10; len(said) < want || len(said) > want+64<<10 {
		t.Errorf("the rest has %d bytes, want a little more than %d", len(said), want)
	}
	// One that is not in it is said.
	l.object = 1 << 40
	if _, err := RestOf(from(data, 16<<20, &n), l); !errors.Is(err, errPassed) {
		t.Errorf("got %v", err)
	}
}

// longStream is a stream of one large object, written by hand, and the position
// of a receiver that has nearly all of it.
func longStream(t *testing.T, blocks int) ([]byte, Left) {
	t.Helper()
	const block = 128 << 10
	source := recorded(t, "volume")
	var out []byte
	var sum fletcher
	var l Left
	for _, raw := range recordsOf(t, source) {
		h := Head(raw[:HeadSize])
		if h.Kind() == kindBegin {
			out = append(out, raw...)
			sum.add(raw)
			l.ToGUID = h.ToGUID()
			continue
		}
		if h.Kind() == kindWrite && l.object == 0 {
			l.object = h.Object()
			for i := range blocks {
				one := append(bytes.Clone(raw[:HeadSize]), bytes.Repeat([]byte{byte(i), byte(i >> 8), 1, 2}, block/4)...)
				binary.LittleEndian.PutUint64(one[24:], uint64(i*block))
				binary.LittleEndian.PutUint64(one[32:], block)
				one[50] = 0 // not compressed
				stamp(&sum, one)
				out = append(out, one...)
				if i == blocks*9/10 {
					l.offset, l.bytes = uint64(i*block), uint64(len(out))
				}
			}
		}
		if h.Kind() != kindWrite {
			raw = bytes.Clone(raw)
			stamp(&sum, raw)
			out = append(out, raw...)
		}
	}
	if err := checkAll(out); err != nil {
		t.Fatal(err)
	}
	return out, l
}

// TestParseToken reads a token that the kernel made.
func TestParseToken(t *testing.T) {
	want := Left{ToGUID: 0x956bb7a240f38cfd, object: 0x25, bytes: 0x37a0} // testdata/token.means
	got, err := ParseToken(strings.TrimSpace(string(recorded(t, "token"))))
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "-", "1-2-3", "2-0-0-00", "1-0-ffffffff-00", "1-0-10-zz", "1-0-10-789c"} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestRestNeedsItsRange: of a raw stream, reading that began after the
// OBJECT_RANGE of an object goes further back.
func TestRestNeedsItsRange(t *testing.T) {
	data := recorded(t, "raw")
	var ranges, object []byte
	for _, raw := range recordsOf(t, data) {
		switch h := Head(raw[:HeadSize]); h.Kind() {
		case kindObjectRange:
			ranges = raw
		case kindObject:
			object = raw
		}
	}
	h := Head(object[:HeadSize])
	n := h.Object()
	other := bytes.Clone(ranges)
	binary.LittleEndian.PutUint64(other[8:], n+32)
	if !covers(ranges[:HeadSize], n) || covers(other[:HeadSize], n) || covers(nil, n) {
		t.Error("it is not seen which range an object is of")
	}
	r := Rest{Left: Left{object: n}, Begin: Head(data[:HeadSize]), ranges: other[:HeadSize]}
	r.in.head = h
	if found, _, err := r.look(object[HeadSize:], true); found || !errors.Is(err, errPassed) {
		t.Errorf("got %v, %v", found, err)
	}
	r.ranges = ranges[:HeadSize]
	if found, _, err := r.look(object[HeadSize:], true); !found || err != nil || len(r.opening) != 2 {
		t.Errorf("got %v, %v", found, err)
	}
}

// FuzzRest: whatever lies in a bucket and whatever a receiver asks for, there
// is an answer, and what is given out is a stream or an error.
func FuzzRest(f *testing.F) {
	for _, name := range whole {
		data := recorded(f, name)
		var w Walker
		_, _ = w.Write(data[:len(data)/2])
		f.Add(data, w.Begin.ToGUID(), w.anchor.Object, w.anchor.Offset, uint64(len(data)/2))
	}
	f.Fuzz(func(t *testing.T, data []byte, guid, object, offset, bytes uint64) {
		var n int64
		r, err := RestOf(from(data, 1<<12, &n), Left{ToGUID: guid, object: object, offset: offset, bytes: bytes})
		if err != nil {
			return
		}
		defer r.Close()
		if said, err := io.ReadAll(r); err == nil && checkAll(said) != nil {
			t.Errorf("%d bytes are given out as a stream, and are none: %v", len(said), checkAll(said))
		}
	})
}

// FuzzToken: the words of a receiver may be anything.
func FuzzToken(f *testing.F) {
	f.Add(string(recorded(f, "token")))
	f.Fuzz(func(t *testing.T, text string) {
		if l, err := ParseToken(text); err == nil && l.ToGUID == 0 {
			t.Errorf("%q is a position in no stream", text)
		}
	})
}
