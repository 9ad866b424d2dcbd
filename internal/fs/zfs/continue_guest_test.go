//go:build guest

package zfs

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/fs/zfs/zfsstream"
)

var errCut = errors.New("the bucket does not answer")

// interruptedAt is the beginning of a stream, and then an error.
func interruptedAt(data []byte, at int) io.Reader {
	return io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(errCut))
}

func baseOf(s sample) string {
	if s.base == nil {
		return ""
	}
	return s.base.GUID
}

// interrupt begins a restore of a chain, whose last stream fails at a byte.
func interrupt(t *testing.T, target string, chain []sample, at int) (stage string) {
	t.Helper()
	r := opened(t, target)
	if whole, part, err := r.Continue(t.Context(), guids(chain)); whole != 0 || part || err != nil {
		t.Fatalf("%d streams and %v are there, %v", whole, part, err)
	}
	for i, s := range chain {
		stream := io.Reader(bytes.NewReader(s.data))
		if i == len(chain)-1 {
			stream = interruptedAt(s.data, at)
		}
		err := r.Apply(t.Context(), stream, s.snap.GUID, baseOf(s))
		if i == len(chain)-1 && !errors.Is(err, errCut) || i < len(chain)-1 && err != nil {
			t.Fatal(err)
		}
	}
	stage = r.Kept()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return stage
}

func opened(t *testing.T, target string) *receiver {
	t.Helper()
	r, err := New().Receive(t.Context(), target, fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	return r.(*receiver)
}

func guids(chain []sample) (out []string) {
	for _, s := range chain {
		out = append(out, s.snap.GUID)
	}
	return out
}

// goOnAt interrupts a restore at a byte of its last stream and goes on with it.
// What zfs receive is given is what zfs send -t makes of the same place.
func goOnAt(t *testing.T, target string, chain []sample, at int) (r *receiver, part bool) {
	t.Helper()
	last := chain[len(chain)-1]
	stage := interrupt(t, target, chain, at)
	if stage == "" {
		return nil, false
	}
	if removed, err := New().Sweep(t.Context()); err != nil || slices.Contains(removed, stage) {
		t.Errorf("what is kept was swept: %q, %v", removed, err)
	}
	if said, err := New().Interrupted(t.Context()); err != nil || len(said) != 1 || !strings.Contains(said[0], "restore to zfs:"+target+" waits in "+stage) {
		t.Errorf("interrupted: %q, %v", said, err)
	}
	token := sh(t, "zfs", "get", "-Hp", "-o", "value", "receive_resume_token", stage)
	r = opened(t, target)
	whole, part, err := r.Continue(t.Context(), guids(chain))
	missing := len(chain) - whole
	if at == len(last.data) && missing == 0 { // only io.EOF was missing, and zfs receive does not wait for that
		missing = 1
	}
	if err != nil || missing != 1 || part != (token != "-") {
		t.Fatalf("%s cut at %d: %d streams and %v are there, token %s, %v", last.name, at, whole, part, token, err)
	}
	if !part {
		return r, false
	}
	var read int64
	open := from(last.data, 1<<20, &read)
	compareRest(t, last.name, open, token)
	if err := r.ApplyRest(t.Context(), open, last.snap.GUID, baseOf(last)); err != nil {
		t.Fatalf("%s cut at %d of %d: %v", last.name, at, len(last.data), err)
	}
	return r, true
}

// compareRest compares what we make of a stream with what the sender makes.
func compareRest(t *testing.T, name string, open zfsstream.Opener, token string) {
	t.Helper()
	l, err := zfsstream.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := zfsstream.RestOf(open, l)
	if err != nil {
		t.Fatalf("%s: %+v: %v", name, l, err)
	}
	ours, err := io.ReadAll(rest)
	if err := firstOf(err, rest.Close()); err != nil {
		t.Fatal(err)
	}
	theirs, err := exec.Command("zfs", "send", "-t", token).Output()
	if err != nil {
		t.Fatal(err)
	}
	a, b := recordsOf(t, ours), recordsOf(t, theirs)
	for i := range min(len(a), len(b)) {
		x, y := zfsstream.Head(a[i][:zfsstream.HeadSize]), zfsstream.Head(b[i][:zfsstream.HeadSize])
		if i > 0 && recordBytes(a[i]) != recordBytes(b[i]) || i == 0 && (x.Features() != y.Features() || !bytes.Equal(a[i][zfsstream.HeadSize:], b[i][zfsstream.HeadSize:])) {
			t.Fatalf("%s: at %+v, record %d is %s %d %d of %d bytes, the sender's %s %d %d of %d bytes", name, l, i,
				x.Kind(), x.Object(), x.Start(), len(a[i]), y.Kind(), y.Object(), y.Start(), len(b[i]))
		}
	}
	if len(a) != len(b) {
		t.Errorf("%s: at %+v: %d records, the sender has %d", name, l, len(a), len(b))
	}
}

// recordBytes is a record without the checksums, which depend on the name in BEGIN.
func recordBytes(raw []byte) string {
	raw = bytes.Clone(raw)
	clear(raw[zfsstream.StoredSum:zfsstream.HeadSize])
	if h := zfsstream.Head(raw[:zfsstream.HeadSize]); h.Kind() == zfsstream.KindEnd {
		clear(raw[8:40])
	}
	return string(raw)
}

// goOnSample cuts one stream at positions of all kinds.
func goOnSample(t *testing.T, pool string, chain []sample, each int) {
	last := chain[len(chain)-1]
	continued := 0
	for _, at := range cuts(t, last.data, each) {
		if continued == each {
			break
		}
		r, part := goOnAt(t, pool+"/target", chain, at)
		if part {
			continued++
		}
		if r == nil {
			continue
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%s: %d bytes: %d cuts were gone on with, each as zfs send -t would", last.name, len(last.data), continued)
	if continued < each {
		t.Errorf("%s: only %d cuts", last.name, continued)
	}
	if left := stages(t, pool); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestContinue interrupts restores of an encrypted chain and goes on; what
// comes out in the end is what was sent.
func TestContinue(t *testing.T) {
	pool := newPool(t, 512<<20)
	key := keyFile(t)
	name := pool + "/secret"
	sh(t, "zfs", "create", "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+key, name)
	dir := mountpoint(t, name)
	scatter(t, dir+"/one", 20)
	dataset := located(t, dir)
	d := New()
	first := take(t, "a", dataset)[0]
	variety(t, dir+"/two")
	want := fstest.ReadTree(t, dir)
	second := take(t, "b", dataset)[0]
	chain := []sample{{"full", first, nil, read(t, d, first, nil)}, {"increment", second, &first, read(t, d, second, &first)}}
	goOnSample(t, pool, chain, 3)

	target := pool + "/target"
	r, part := goOnAt(t, target, chain, len(chain[1].data)*2/3&^3)
	if !part {
		t.Fatal("there is no part")
	}
	if _, err := r.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := sh(t, "zfs", "get", "-H", "-s", "local", "-o", "property", "all", target); strings.Contains(got, fs.PropertyPrefix) {
		t.Errorf("properties of ours stay: %q", got)
	}
	sh(t, "zfs", "load-key", "-L", "file://"+key, target)
	sh(t, "zfs", "mount", target)
	fstest.CompareTrees(t, want, fstest.ReadTree(t, mountpoint(t, target)))

	// Another point to the same target: what does not fit it goes.
	other := pool + "/other"
	if interrupt(t, other, chain, len(chain[1].data)/2&^3) == "" {
		t.Fatal("nothing was kept")
	}
	r = opened(t, other)
	if whole, part, err := r.Continue(t.Context(), []string{second.GUID}); whole != 0 || part || err != nil {
		t.Errorf("%d streams and %v are there, %v", whole, part, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left := stages(t, pool); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}
