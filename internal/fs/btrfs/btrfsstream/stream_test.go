package btrfsstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"snapd/internal/fs"
)

const (
	goldenFirst  = "8c9e9302-32ae-e042-a64c-8d54d681c530"
	goldenSecond = "f285d9cd-e2a3-514e-b102-a9eeff43a3dd"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenNames() []string {
	return []string{"full-1.stream", "step-1.stream", "full-2.stream", "step-2.stream"}
}

func TestCheckStream(t *testing.T) {
	for _, c := range []struct {
		file   string
		want   Info
		format string
	}{
		{"full-1.stream", Info{1, goldenFirst, 7, "", "snapd_20261121T101112Z_a", 25931, 22}, "btrfs-1"},
		{"step-1.stream", Info{1, goldenSecond, 9, goldenFirst, "snapd_20261121T101112Z_b", 641, 13}, "btrfs-1"},
		{"full-2.stream", Info{2, goldenFirst, 7, "", "snapd_20261121T101112Z_a", 10139, 22}, "btrfs-2"},
		{"step-2.stream", Info{2, goldenSecond, 9, goldenFirst, "snapd_20261121T101112Z_b", 689, 13}, "btrfs-2"},
	} {
		data := golden(t, c.file)
		for _, r := range []io.Reader{bytes.NewReader(data), iotest.OneByteReader(bytes.NewReader(data)), iotest.DataErrReader(bytes.NewReader(data))} {
			got, err := Check(r)
			if err != nil || got != c.want || got.Format() != c.format {
				t.Errorf("%s: got %+v, %v; want %+v", c.file, got, err, c.want)
			}
		}
	}
}

// One flipped bit anywhere, or an end anywhere, is noticed.
func TestCheckStreamNoticesAllDamage(t *testing.T) {
	for _, name := range []string{"step-1.stream", "step-2.stream"} {
		data := golden(t, name)
		for i := range data {
			for bit := range 8 {
				damaged := bytes.Clone(data)
				damaged[i] ^= 1 << bit
				got, err := Check(bytes.NewReader(damaged))
				versionOnly := i >= len(streamMagic) && i < streamHeaderSize && err == nil
				if !errors.Is(err, ErrInvalid) && !versionOnly {
					t.Fatalf("%s: bit %d of byte %d flipped: got %+v, %v", name, bit, i, got, err)
				}
			}
			if _, err := Check(bytes.NewReader(data[:i])); !errors.Is(err, ErrInvalid) {
				t.Fatalf("%s: cut to %d bytes: got %v", name, i, err)
			}
		}
	}
}

func TestCheckStreamRefuses(t *testing.T) {
	full, step := golden(t, "full-1.stream"), golden(t, "step-1.stream")
	end := full[len(full)-commandHeaderSize:]
	rebuild := func(kind uint16, body string) []byte {
		raw := append(make([]byte, commandHeaderSize), body...)
		finishCommand(raw, kind)
		return raw
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	header := full[:streamHeaderSize]
	first := full[streamHeaderSize : streamHeaderSize+commandHeaderSize+int(binary.LittleEndian.Uint32(full[streamHeaderSize:]))]
	version := func(n byte) []byte { return append([]byte(streamMagic), n, 0, 0, 0) }
	for name, data := range map[string][]byte{
		"nothing":                     nil,
		"another file":                []byte(strings.Repeat("tar", 1000)),
		"version 0":                   join(version(0), first, end),
		"version 4":                   join(version(4), first, end),
		"no subvolume":                join(header, end),
		"two subvolumes":              join(header, first, first, end),
		"two streams":                 join(full, step),
		"a byte behind the end":       join(full, []byte{0}),
		"unknown command":             join(header, first, rebuild(cmdLastV1+1, ""), end),
		"command 0":                   join(header, first, rebuild(0, ""), end),
		"too long a command":          join(header, first, rebuild(15, strings.Repeat("x", commandMaxV1+1)), end),
		"a subvolume without a name":  join(header, rebuild(cmdSubvol, ""), end),
		"a subvolume with a base":     join(header, rebuild(cmdSubvol, string(step[streamHeaderSize+commandHeaderSize:][:100])), end),
		"an attribute that is cut":    join(header, rebuild(cmdSubvol, "\x0f\x00\xff\x00a"), end),
		"an attribute without length": join(header, rebuild(cmdSubvol, "\x0f"), end),
	} {
		if got, err := Check(bytes.NewReader(data)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: got %+v, %v; want ErrStream", name, got, err)
		}
	}
	broken := errors.New("the bucket went away")
	_, err := Check(io.MultiReader(bytes.NewReader(full[:5000]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || errors.Is(err, ErrInvalid) {
		t.Errorf("a reader that fails: got %v, want %v alone", err, broken)
	}
}

// A hostile length must not cost memory.
func TestCheckStreamMemory(t *testing.T) {
	data := append([]byte(streamMagic), 2, 0, 0, 0)
	data = append(data, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Check(bytes.NewReader(data)); !errors.Is(err, ErrInvalid) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("a stream of %d bytes cost %d bytes", len(data), used)
	}
}

func TestRewriter(t *testing.T) {
	first, _ := ParseUUID(goldenFirst)
	second, _ := ParseUUID(goldenSecond)
	local := UUID{1, 2, 3}
	for _, name := range goldenNames() {
		guid, base, to := first, UUID{}, UUID{}
		if strings.HasPrefix(name, "step") {
			guid, base, to = second, first, local
		}
		w, err := NewRewriter(bytes.NewReader(golden(t, name)), "stream-7", guid, base, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(iotest.OneByteReader(w))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Check(bytes.NewReader(out))
		want, _ := Check(bytes.NewReader(golden(t, name)))
		// One command more: the root's times, once more at the end.
		want.Name, want.Bytes, want.Commands = "stream-7", got.Bytes, want.Commands+1
		if !to.IsZero() {
			want.Base = to.String()
		}
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, want)
		}
		if bytes.Contains(out, first[:]) && guid != first {
			t.Errorf("%s: the base's identity is still in the stream", name)
		}
	}
}

// The kernel sets the root's times and then makes inodes in it.
func TestRewriterSetsTheRootsTimesLast(t *testing.T) {
	first, _ := ParseUUID(goldenFirst)
	second, _ := ParseUUID(goldenSecond)
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	before, err := RootTimes(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewRewriter(bytes.NewReader(golden(t, "step-1.stream")), "n", second, first, UUID{1}, before)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(w)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCommandReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []uint16
	for {
		kind, _, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, kind)
	}
	if n := len(kinds); kinds[n-1] != cmdEnd || kinds[n-2] != cmdUtimes {
		t.Errorf("the stream ends in commands %v", kinds[max(0, n-3):])
	}
}

func TestRewriterRefuses(t *testing.T) {
	first, _ := ParseUUID(goldenFirst)
	second, _ := ParseUUID(goldenSecond)
	for name, c := range map[string]struct{ guid, base UUID }{
		"another snapshot":   {first, first},
		"another base":       {second, second},
		"no base, wanted as": {second, UUID{}},
	} {
		if _, err := NewRewriter(bytes.NewReader(golden(t, "step-1.stream")), "x", c.guid, c.base, UUID{9}, nil); !errors.Is(err, fs.ErrBase) {
			t.Errorf("%s: got %v, want ErrBase", name, err)
		}
	}
}

// The end mark stays back until all of the stream was good.
func TestRewriterHoldsTheEndBack(t *testing.T) {
	first, _ := ParseUUID(goldenFirst)
	data := golden(t, "full-1.stream")
	for name, tail := range map[string]io.Reader{
		"something follows": strings.NewReader("x"),
		"the reader fails":  iotest.ErrReader(errors.New("broken")),
	} {
		w, err := NewRewriter(io.MultiReader(bytes.NewReader(data), tail), "x", first, UUID{}, UUID{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(w)
		if err == nil || bytes.HasSuffix(out, data[len(data)-commandHeaderSize:]) {
			t.Errorf("%s: got %v, and the end came through", name, err)
		}
	}
}

// FuzzCheckStream takes its bytes as they are and once more with every
// checksum set right, since no fuzzer guesses those.
func FuzzCheckStream(f *testing.F) {
	f.Add(golden(f, "step-1.stream"))
	f.Add(golden(f, "step-2.stream"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkFuzzed(t, data)
		checkFuzzed(t, withChecksums(data))
	})
}

func withChecksums(data []byte) []byte {
	data = bytes.Clone(data)
	for at := streamHeaderSize; at+commandHeaderSize <= len(data); {
		end := at + commandHeaderSize + int(binary.LittleEndian.Uint32(data[at:]))
		if end > len(data) {
			break
		}
		finishCommand(data[at:end], binary.LittleEndian.Uint16(data[at+4:]))
		at = end
	}
	return data
}

func checkFuzzed(t *testing.T, data []byte) {
	info, err := Check(bytes.NewReader(data))
	if err != nil {
		if !errors.Is(err, ErrInvalid) {
			t.Fatalf("a failure that is none of the stream's: %v", err)
		}
		return
	}
	if info.Bytes != int64(len(data)) || info.GUID == "" || info.Commands < 2 {
		t.Fatalf("accepted as %+v", info)
	}
	var frames Frames
	frames.Pass(data)
	if !frames.Whole() {
		t.Fatal("the sender's check calls it cut")
	}
	rewriteAccepted(t, data, info)
}

// rewriteAccepted passes a good stream through the rewriter: what comes out is
// good, too, unless it shares data with a third snapshot.
func rewriteAccepted(t *testing.T, data []byte, info Info) {
	guid, err := ParseUUID(info.GUID)
	if err != nil {
		t.Fatal(err)
	}
	var base, local UUID
	if info.Base != "" {
		local = UUID{1}
		if base, err = ParseUUID(info.Base); err != nil {
			t.Fatal(err)
		}
	}
	w, err := NewRewriter(bytes.NewReader(data), "n", guid, base, local, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(w)
	if err != nil {
		return
	}
	if _, err := Check(bytes.NewReader(out)); err != nil {
		t.Fatalf("rewritten: %v", err)
	}
}

func BenchmarkCheckStream(b *testing.B) {
	full := golden(b, "full-1.stream")
	head := full[:streamHeaderSize+commandHeaderSize+int(binary.LittleEndian.Uint32(full[streamHeaderSize:]))]
	write := make([]byte, commandHeaderSize+48<<10)
	finishCommand(write, 15)
	data := append(bytes.Clone(head), bytes.Repeat(write, 1000)...)
	data = append(data, full[len(full)-commandHeaderSize:]...)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Check(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, name := range []string{"full-1.stream", "step-1.stream", "full-2.stream", "step-2.stream"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, piece := range []int{1, 7, 4096, len(data)} {
			var f Frames
			for rest := data; len(rest) > 0; {
				n := min(piece, len(rest))
				if f.Whole() {
					t.Errorf("%s: whole with %d bytes to come", name, len(rest))
				}
				f.Pass(rest[:n])
				rest = rest[n:]
			}
			if !f.Whole() {
				t.Errorf("%s in pieces of %d: not whole", name, piece)
			}
		}
	}
}
