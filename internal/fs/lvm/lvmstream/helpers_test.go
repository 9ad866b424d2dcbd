package lvmstream

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

const (
	uuidA = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg"
	uuidB = "AAAAAA-1111-2222-3333-4444-5555-666666"
)

func full(size int64) Header {
	return Header{Size: size, Unit: 65536, Snapshot: Instant{UUID: uuidA, ThinID: 3, Transaction: 7}}
}

func increment(size, base int64) Header {
	return Header{Size: size, BaseSize: base, Unit: 65536, Snapshot: Instant{UUID: uuidB, ThinID: 4, Transaction: 9}, Base: Instant{UUID: uuidA, ThinID: 3, Transaction: 7}}
}

// change is a record and its data, in tests.
type change struct {
	Offset, Length int64
	Data           []byte // nil: a discard
}

func encodeAll(t testing.TB, h Header, changes ...change) []byte {
	t.Helper()
	e, out, err := Begin(h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if c.Data != nil {
			out, err = e.Data(out, c.Offset, c.Data)
		} else {
			out, err = e.Discard(out, c.Offset, c.Length)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err = e.End(out); err != nil {
		t.Fatal(err)
	}
	return out
}

func decodeAll(r io.Reader) (Header, []change, error) {
	d, err := NewDecoder(r, nil)
	if err != nil {
		return Header{}, nil, err
	}
	var changes []change
	for {
		r, data, err := d.Next()
		if errors.Is(err, io.EOF) {
			return d.Head, changes, nil
		}
		if err != nil {
			return Header{}, nil, err
		}
		changes = append(changes, change{r.Offset, r.Length, bytes.Clone(data)})
	}
}

func filled(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n) }
