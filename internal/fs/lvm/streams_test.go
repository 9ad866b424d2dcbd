package lvm

import (
	"bytes"
	"testing"

	"snapd/internal/fs/lvm/lvmstream"
)

const (
	uuidA = "aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg"
	uuidB = "AAAAAA-1111-2222-3333-4444-5555-666666"
)

func full(size int64) lvmstream.Header {
	return lvmstream.Header{Size: size, Unit: 65536, Snapshot: lvmstream.Instant{UUID: uuidA, ThinID: 3, Transaction: 7}}
}

func increment(size, base int64) lvmstream.Header {
	return lvmstream.Header{Size: size, BaseSize: base, Unit: 65536, Snapshot: lvmstream.Instant{UUID: uuidB, ThinID: 4, Transaction: 9}, Base: lvmstream.Instant{UUID: uuidA, ThinID: 3, Transaction: 7}}
}

// change is a record and its data, in tests.
type change struct {
	Offset, Length int64
	Data           []byte // nil: a discard
}

func encodeAll(t testing.TB, h lvmstream.Header, changes ...change) []byte {
	t.Helper()
	e, out, err := lvmstream.Begin(h, nil)
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

func filled(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n) }
