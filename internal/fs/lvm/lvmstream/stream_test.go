package lvmstream

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func example() (h Header, changes []change) {
	return increment(8<<20, 4<<20), []change{
		{0, 4096, filled(4096, 'a')}, {4096, 1 << 20, nil}, {2 << 20, DataMax, filled(DataMax, 'b')}, {7 << 20, 1 << 20, nil},
	}
}

func TestStreamRoundTrip(t *testing.T) {
	h, changes := example()
	for _, c := range []struct {
		name    string
		head    Header
		changes []change
	}{
		{"increment", h, changes},
		{"empty full", full(4 << 20), nil},
		{"empty increment", increment(4<<20, 8<<20), nil},
		{"full", full(4 << 20), []change{{512, 512, filled(512, 1)}, {4<<20 - 512, 512, filled(512, 2)}}},
		{"more than 32 bits", full(1 << 45), []change{{1<<45 - 512, 512, filled(512, 1)}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := encodeAll(t, c.head, c.changes...)
			head, got, err := decodeAll(iotest.HalfReader(bytes.NewReader(raw)))
			if err != nil || head != c.head {
				t.Fatalf("got %+v, %v", head, err)
			}
			if d := cmp.Diff(c.changes, got); d != "" {
				t.Error(d)
			}
			info, err := Check(bytes.NewReader(raw))
			if err != nil || info.Records != int64(len(c.changes)) || info.GUID != c.head.Snapshot.UUID || info.Size != c.head.Size {
				t.Errorf("got %+v, %v", info, err)
			}
		})
	}
}

// Wherever a stream is cut, and whichever bit is flipped, it is refused.
func TestStreamDamage(t *testing.T) {
	raw := encodeAll(t, increment(1<<20, 1<<20), change{0, 512, filled(512, 'x')}, change{512, 1024, nil}, change{4096, 512, filled(512, 'y')})
	for n := range raw {
		if _, err := Check(bytes.NewReader(raw[:n])); !errors.Is(err, ErrInvalid) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d: got %v", n, err)
		}
		for bit := range 8 {
			raw[n] ^= 1 << bit
			if _, err := Check(bytes.NewReader(raw)); !errors.Is(err, ErrInvalid) {
				t.Fatalf("bit %d of byte %d flipped: got %v", bit, n, err)
			}
			raw[n] ^= 1 << bit
		}
	}
	if _, err := Check(bytes.NewReader(append(raw, 0))); !errors.Is(err, ErrInvalid) {
		t.Errorf("something follows: got %v", err)
	}
	broken := errors.New("the bucket went away")
	for n := 0; n <= len(raw); n += 100 {
		if _, err := Check(io.MultiReader(bytes.NewReader(raw[:n]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrInvalid) {
			t.Errorf("the reader fails at %d: got %v", n, err)
		}
	}
}

// Records that were put in another order, left out or doubled are refused
// though each is whole.
func TestStreamReordered(t *testing.T) {
	one, two := change{0, 512, filled(512, 'x')}, change{4096, 512, filled(512, 'y')}
	raw := encodeAll(t, full(1<<20), one, two)
	const size = RecordSize + 512
	head, a, b, end := raw[:HeaderSize], raw[HeaderSize:HeaderSize+size], raw[HeaderSize+size:HeaderSize+2*size], raw[HeaderSize+2*size:]
	for name, parts := range map[string][][]byte{
		"swapped": {head, b, a, end}, "first missing": {head, b, end}, "last missing": {head, a, end}, "doubled": {head, a, a, b, end},
		"head doubled": {head, head, a, b, end}, "end first": {head, end, a, b}, "end doubled": {head, a, b, end, end},
	} {
		if _, err := Check(bytes.NewReader(bytes.Join(parts, nil))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A record from another stream of the same volume, at a place where it fits.
	other := encodeAll(t, full(1<<20), change{0, 512, filled(512, 'z')}, two)
	mixed := bytes.Join([][]byte{head, other[HeaderSize : HeaderSize+size], b, end}, nil)
	if _, err := Check(bytes.NewReader(mixed)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a record of another stream: got %v", err)
	}
}

func TestEncoderRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		head Header
		put  func(e *Encoder) error
	}{
		{"beyond the end", full(4096), func(e *Encoder) error { _, err := e.Data(nil, 4096, filled(512, 1)); return err }},
		{"overflow", full(4096), func(e *Encoder) error { _, err := e.Discard(nil, 512, 1<<63-512); return err }},
		{"half a sector", full(4096), func(e *Encoder) error { _, err := e.Data(nil, 0, filled(100, 1)); return err }},
		{"between sectors", full(4096), func(e *Encoder) error { _, err := e.Data(nil, 100, filled(512, 1)); return err }},
		{"nothing", full(4096), func(e *Encoder) error { _, err := e.Data(nil, 0, nil); return err }},
		{"too much", full(4 << 20), func(e *Encoder) error { _, err := e.Data(nil, 0, filled(DataMax+512, 1)); return err }},
		{"negative", full(4096), func(e *Encoder) error { _, err := e.Data(nil, -512, filled(512, 1)); return err }},
		{"discard in a full stream", full(4096), func(e *Encoder) error { _, err := e.Discard(nil, 0, 512); return err }},
		{"backwards", increment(4096, 4096), func(e *Encoder) error {
			_, err := e.Discard(nil, 1024, 512)
			if err != nil {
				t.Errorf("the first: %v", err)
			}
			_, err = e.Discard(nil, 512, 1024)
			return err
		}},
	} {
		e, _, err := Begin(c.head, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.put(e); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	for name, h := range map[string]Header{
		"no size": {Unit: 512, Snapshot: Instant{UUID: uuidA}}, "no name": {Size: 512, Unit: 512}, "base without size": {Size: 512, Unit: 512, Snapshot: Instant{UUID: uuidA}, Base: Instant{UUID: uuidB}},
		"onto itself": {Size: 512, BaseSize: 512, Unit: 512, Snapshot: Instant{UUID: uuidA}, Base: Instant{UUID: uuidA}},
	} {
		if _, _, err := Begin(h, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	e, _, _ := Begin(full(4096), nil)
	if _, err := e.End(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Data(nil, 0, filled(512, 1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("data after the end: got %v", err)
	}
}

var update = flag.Bool("update", false, "write the golden streams anew")

// golden are the streams that every version must read: made once, kept.
func golden(t testing.TB) map[string][]byte {
	t.Helper()
	fill := rand.NewChaCha8([32]byte{1})
	random := func(n int) []byte { b := make([]byte, n); _, _ = fill.Read(b); return b }
	return map[string][]byte{
		"full-1.stream": encodeAll(t, full(1<<20), change{0, 4096, random(4096)}, change{65536, 512, random(512)}, change{1<<20 - 4096, 4096, random(4096)}),
		"step-1.stream": encodeAll(t, increment(2<<20, 1<<20), change{512, 1024, random(1024)}, change{65536, 65536, nil}, change{1 << 20, 512, random(512)}, change{2<<20 - 512, 512, nil}),
	}
}

func TestGolden(t *testing.T) {
	for name, want := range golden(t) {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is written now (%v)", name, err)
		}
		if _, err := Check(bytes.NewReader(got)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestApplyScript restores the golden streams with python alone, and has the
// script refuse what it must. Nothing of ours runs there.
func TestApplyScript(t *testing.T) {
	script, err := filepath.Abs("../../../../docs/lvm-apply.py")
	if err != nil {
		t.Fatal(err)
	}
	golden := golden(t)
	apply := func(dir string, streams ...string) ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), "python3", append([]string{script, filepath.Join(dir, "volume")}, streams...)...)
		cmd.Env = []string{"PATH=/usr/bin:/bin"} // no program of ours
		return cmd.CombinedOutput()
	}
	write := func(dir, name string, content []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	want := make([]byte, 2<<20)
	for _, name := range []string{"full-1.stream", "step-1.stream"} {
		_, changes, err := decodeAll(bytes.NewReader(golden[name]))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			clear(want[c.Offset : c.Offset+c.Length])
			copy(want[c.Offset:], c.Data)
		}
	}
	dir := t.TempDir()
	a, b := write(dir, "a", golden["full-1.stream"]), write(dir, "b", golden["step-1.stream"])
	write(dir, "volume", filled(2<<20, 0xee)) // as a classic volume has it
	if out, err := apply(dir, a, b); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "volume")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the restored volume differs (%v)", err)
	}

	flipped := bytes.Clone(golden["full-1.stream"])
	flipped[len(flipped)/2] ^= 1
	for name, streams := range map[string][][]byte{
		"increment first": {golden["step-1.stream"]}, "increment twice": {golden["full-1.stream"], golden["step-1.stream"], golden["step-1.stream"]},
		"cut": {golden["full-1.stream"][:5000]}, "cut at the end": {golden["full-1.stream"][:len(golden["full-1.stream"])-1]}, "flipped": {flipped},
		"something follows": {append(bytes.Clone(golden["full-1.stream"]), 0)}, "nothing": {{}},
		"wrong base": {golden["full-1.stream"], encodeAll(t, Header{Size: 1 << 20, BaseSize: 1 << 20, Unit: 512, Snapshot: Instant{uuidB, 4, 9}, Base: Instant{uuidA, 3, 8}})},
	} {
		dir := t.TempDir()
		before := filled(2<<20, 0xee)
		write(dir, "volume", before)
		var files []string
		for i, s := range streams {
			files = append(files, write(dir, fmt.Sprint(i), s))
		}
		if out, err := apply(dir, files...); err == nil {
			t.Errorf("%s: applied: %s", name, out)
		}
		// What is refused is refused before a byte of it is written.
		if got, _ := os.ReadFile(filepath.Join(dir, "volume")); len(streams) == 1 && !bytes.Equal(got, before) {
			t.Errorf("%s: something was written", name)
		}
	}
}

func FuzzCheckStream(f *testing.F) {
	for _, raw := range golden(f) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		info, err := Check(bytes.NewReader(raw))
		if err != nil {
			return
		}
		// What is accepted is exactly what encoding gives again.
		head, changes, err := decodeAll(bytes.NewReader(raw))
		if err != nil || info.GUID != head.Snapshot.UUID || !bytes.Equal(encodeAll(t, head, changes...), raw) {
			t.Errorf("accepted, and encodes to something else (%v)", err)
		}
	})
}

// FuzzRoundTrip gives the encoder whatever changes the bytes say, past the
// checksums that FuzzCheckStream seldom gets by: it refuses a change with
// nothing of it written, or the decoder gives it back.
func FuzzRoundTrip(f *testing.F) {
	f.Add(true, uint16(64), []byte{1, 0, 8, 0, 8, 8, 1, 20, 1})
	f.Add(false, uint16(9), []byte{1, 8, 1, 0, 0, 1, 1, 0, 1, 1, 9, 1, 1, 2, 0})
	f.Fuzz(func(t *testing.T, onBase bool, sectors uint16, ops []byte) {
		h := full(int64(sectors) * Sector)
		if onBase {
			h = increment(int64(sectors)*Sector, 8*Sector)
		}
		e, raw, err := Begin(h, nil)
		if err != nil {
			return
		}
		var want []change
		for ; len(ops) >= 3; ops = ops[3:] {
			c := change{Offset: int64(ops[1]) * Sector, Length: int64(ops[2]) * Sector}
			longer := raw
			if ops[0]&1 == 1 {
				c.Data = filled(int(c.Length), ops[0])
				longer, err = e.Data(raw, c.Offset, c.Data)
			} else {
				longer, err = e.Discard(raw, c.Offset, c.Length)
			}
			switch {
			case err == nil:
				raw, want = longer, append(want, c)
			case !errors.Is(err, ErrInvalid):
				t.Fatal(err)
			}
		}
		if raw, err = e.End(raw); err != nil {
			t.Fatal(err)
		}
		head, got, err := decodeAll(bytes.NewReader(raw))
		if err != nil || head != h {
			t.Fatalf("got %+v, %v", head, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}
