package zfsstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// recorded are streams that zfs send 2.3.9 made.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var whole = []string{"full", "increment", "raw", "volume"}

func TestCheckStream(t *testing.T) {
	for _, name := range whole {
		data := recorded(t, name)
		info, err := Check(iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil {
			t.Fatal(name, err)
		}
		if info.Bytes != int64(len(data)) || info.GUID == 0 || (info.Base != 0) != (name == "increment") ||
			info.Raw != (name == "raw") || info.Volume != (name == "volume") || info.Records < 4 {
			t.Errorf("%s: got %+v", name, info)
		}
		if name == "full" && !strings.HasPrefix(info.Name, "tank/a@snapd_") {
			t.Errorf("it is called %q", info.Name)
		}
		if name == "raw" && info.Dense < 4096 || name == "full" && info.Dense == 0 {
			t.Errorf("%s: %d bytes are dense", name, info.Dense)
		}
	}
}

func TestCheckFormat(t *testing.T) {
	for _, c := range []struct {
		format, stream string
		ok             bool
	}{
		{"zfs-1", "full", true},
		{"zfs-raw-1", "raw", true},
		{"zfs-raw-1", "full", false},
		{"zfs-1", "raw", false},
		{"zfs-2", "full", false},
	} {
		err := CheckFormat(c.format, bytes.NewReader(recorded(t, c.stream)))
		if (err == nil) != c.ok {
			t.Errorf("%s as %s: %v", c.stream, c.format, err)
		}
	}
	if !OwnFormat("zfs-1") || OwnFormat("btrfs-2") {
		t.Error("whose formats are ours")
	}
}

// TestCheckStreamDamaged: streams that were cut, reordered, joined or changed
// in one bit are found by structure alone.
func TestCheckStreamDamaged(t *testing.T) {
	for _, name := range whole {
		data := recorded(t, name)
		rs := recordsOf(t, data)
		bad := map[string][]byte{
			"twice":       append(bytes.Clone(data), data...),
			"a byte more": append(bytes.Clone(data), 0),
			"no end":      bytes.Join(rs[:len(rs)-1], nil),
			"no begin":    bytes.Join(rs[1:], nil),
		}
		for i := 1; i < len(rs)-1; i++ {
			bad[fmt.Sprint("without record ", i)] = bytes.Join(slices.Concat(rs[:i], rs[i+1:]), nil)
			if i > 1 && !bytes.Equal(rs[i], rs[i-1]) {
				bad[fmt.Sprint("records swapped at ", i)] = bytes.Join(slices.Concat(rs[:i-1], rs[i:i+1], rs[i-1:i], rs[i+1:]), nil)
			}
		}
		for at := 0; at < len(data); at += max(1, len(data)/60) {
			bad[fmt.Sprint("cut at ", at)] = data[:at]
		}
		random := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			at, bit := random.IntN(len(data)), random.IntN(8)
			flipped := bytes.Clone(data)
			flipped[at] ^= 1 << bit
			bad[fmt.Sprintf("bit %d of byte %d", bit, at)] = flipped
		}
		for what, b := range bad {
			if info, err := Check(bytes.NewReader(b)); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s, %s: got %+v, %v", name, what, info, err)
			}
		}
	}
	if _, err := Check(bytes.NewReader(recorded(t, "package"))); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "package") {
		t.Errorf("a package of streams: got %v", err)
	}
	broken := errors.New("broken")
	if _, err := Check(io.MultiReader(bytes.NewReader(recorded(t, "full")[:1000]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrInvalid) {
		t.Errorf("a reader that fails: got %v", err)
	}
}

// TestFletcher: the sums of pieces join to those of the whole.
func TestFletcher(t *testing.T) {
	data := recorded(t, "full")
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		a := random.IntN(len(data)/4) * 4
		b := a + random.IntN((len(data)-a)/4+1)*4
		first, rest := fletcherOf(data[:a]), fletcherOf(data[a:b])
		if got, want := first.after(uint64(b-a)/4).plus(rest), fletcherOf(data[:b]); got != want {
			t.Fatalf("[0,%d) and [%d,%d): got %x, want %x", a, a, b, got, want)
		}
	}
	zeros := make([]byte, 4*1001)
	f := fletcher{1, 2, 3, 4}
	slow := f
	slow.add(zeros)
	if got := f.after(1001); got != slow {
		t.Errorf("got %v, want %v", got, slow)
	}
}

// resumed is what zfs send -t would say, made of a whole stream: BEGIN with
// the flag, then all from one record on, with checksums of its own.
func resumed(t testing.TB, data []byte, from int) []byte {
	t.Helper()
	rs := recordsOf(t, data)
	begin := bytes.Clone(rs[0][:HeadSize])
	binary.LittleEndian.PutUint64(begin[16:], binary.LittleEndian.Uint64(begin[16:])|featureResuming<<2)
	binary.LittleEndian.PutUint32(begin[4:], 16)
	copy(begin[56:], "another@name\x00")
	out := append(begin, make([]byte, 16)...)
	sum := fletcherOf(out)
	for _, r := range rs[from:] {
		r = bytes.Clone(r)
		h := Head(r[:HeadSize])
		if h.Kind() == KindEnd {
			sum.put(r[8:])
		}
		sum.add(r[:StoredSum])
		sum.put(r[StoredSum:])
		sum.add(r[StoredSum:])
		out = append(out, r...)
	}
	return out
}

// TestStitch takes each recorded stream up at every multiple of 40 bytes.
func TestStitch(t *testing.T) {
	for _, name := range whole {
		data := recorded(t, name)
		info, err := Check(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		stitches := 0
		for at := 0; at < len(data); at += 40 {
			var w Walker
			if _, err := w.Write(data[:at]); err != nil {
				t.Fatal(err)
			}
			state := w.Position()
			if state == "" {
				continue
			}
			p, err := ParsePosition(state, int64(at))
			if err != nil {
				t.Fatal(err)
			}
			rest := stitchAt(t, data, p, info)
			if !bytes.Equal(rest, data[at:]) {
				t.Fatalf("%s at %d: the rest has %d bytes, want %d, or differs", name, at, len(rest), len(data)-at)
			}
			stitches++
		}
		if stitches < 100 {
			t.Errorf("%s: only %d positions to go on from", name, stitches)
		}
	}
}

func stitchAt(t testing.TB, data []byte, p Position, info Info) []byte {
	t.Helper()
	at := 0
	from := 0
	for i, r := range recordsOf(t, data) {
		if at += len(r); int64(at) == p.Anchor.End {
			from = i
		}
	}
	s, err := Stitch(bytes.NewReader(resumed(t, data, from)), p, info.GUID, info.Base)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	return rest
}

// TestStitchRefuses: what does not continue the first part is no continuation.
func TestStitchRefuses(t *testing.T) {
	data := recorded(t, "full")
	info, err := Check(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	rs := recordsOf(t, data)
	var w Walker
	at := len(data) / 2 &^ 7
	if _, err := w.Write(data[:at]); err != nil {
		t.Fatal(err)
	}
	good, err := ParsePosition(w.Position(), int64(at))
	if err != nil {
		t.Fatal(err)
	}
	anchor := 0
	for sum := 0; int64(sum) < good.Anchor.End; anchor++ {
		sum += len(rs[anchor])
	}
	anchor--
	missing := resumed(t, bytes.Join(slices.Concat(rs[:anchor+1], rs[anchor+2:]), nil), anchor)
	for what, c := range map[string]struct {
		stream []byte
		change func(*Position)
		guid   uint64
	}{
		"the record at the anchor is missing":     {stream: resumed(t, data, anchor+1)},
		"the record after it is missing":          {stream: missing},
		"it begins anew":                          {stream: data},
		"another snapshot":                        {stream: resumed(t, data, anchor), guid: 7},
		"another base":                            {stream: resumed(t, recorded(t, "increment"), 1)},
		"another kind":                            {stream: resumed(t, data, anchor), change: func(p *Position) { p.begin[0]++ }},
		"other contents of the anchor":            {stream: resumed(t, data, anchor), change: func(p *Position) { p.Anchor.record[2]++ }},
		"other bytes between anchor and position": {stream: resumed(t, data, anchor), change: func(p *Position) { p.here[1]++ }},
		"it is cut off":                           {stream: resumed(t, data, anchor)[:HeadSize+100]},
		"nothing":                                 {},
	} {
		p := good
		if c.change != nil {
			c.change(&p)
		}
		guid := info.GUID
		if c.guid != 0 {
			guid = c.guid
		}
		if _, err := Stitch(bytes.NewReader(c.stream), p, guid, info.Base); err == nil {
			t.Errorf("%s: it is taken", what)
		}
	}
}

func TestPlaceRefuses(t *testing.T) {
	var w Walker
	if _, err := w.Write(recorded(t, "full")[:20000]); err != nil {
		t.Fatal(err)
	}
	state := w.Position()
	if _, err := ParsePosition(state, 20000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		state string
		at    int64
	}{{"", 20000}, {"AAAA", 20000}, {state[:len(state)-4], 20000}, {state, 100}, {"B" + state[1:], 20000}} {
		if _, err := ParsePosition(c.state, c.at); err == nil {
			t.Errorf("%.20q at %d is taken", c.state, c.at)
		}
	}
}

// FuzzCheckStream: whatever the bytes, an answer and no more memory; what is
// called whole is what the walker can also go on from.
func FuzzCheckStream(f *testing.F) {
	for _, name := range append(slices.Clone(whole), "package") {
		data := recorded(f, name)
		f.Add(data[:min(len(data), 4096)])
		if len(data) < 30000 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		info, err := Check(bytes.NewReader(data))
		if err == nil && (info.Bytes != int64(len(data)) || info.GUID == 0) {
			t.Errorf("got %+v of %d bytes", info, len(data))
		}
		if err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("got %v", err)
		}
		var w Walker
		_, _ = w.Write(data)
		if state := w.Position(); state != "" {
			p, err := ParsePosition(state, w.Offset)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = Stitch(bytes.NewReader(data), p, w.Begin.ToGUID(), w.Begin.FromGUID())
		}
	})
}

// FuzzPosition: what stands in a record may be anything.
func FuzzPosition(f *testing.F) {
	f.Add("", int64(0))
	f.Fuzz(func(t *testing.T, state string, at int64) {
		p, err := ParsePosition(state, at)
		if err == nil && p.String() != state {
			t.Errorf("%q becomes %q", state, p.String())
		}
	})
}
