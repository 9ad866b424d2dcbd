//go:build guest

package zfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"

	"golang.org/x/sys/unix"
)

// sample is a stream that was sent without an interruption.
type sample struct {
	name string
	snap fs.Snapshot
	base *fs.Snapshot
	data []byte
}

// modes are the kinds of datasets whose streams are cut.
func modes(t testing.TB) map[string]string {
	return map[string]string{
		"128K":   "-o dnodesize=auto",
		"1M":     "-o recordsize=1M -o compression=zstd",
		"raw":    "-o encryption=on -o keyformat=raw -o keylocation=file://" + keyFile(t),
		"volume": "",
	}
}

// samples are streams of one mode, with all kinds of records: small files,
// links, holes, spills, large dnodes, blocks of 128 KiB or of 1 MiB.
func samples(t *testing.T, pool, mode, options string) []sample {
	t.Helper()
	d := New()
	if mode == "volume" {
		snap := fillVolume(t, pool+"/vol")
		return []sample{{"volume", snap, nil, read(t, d, snap, nil)}}
	}
	name := pool + "/" + mode
	sh(t, append(append([]string{"zfs", "create"}, strings.Fields(options)...), name)...)
	dir := mountpoint(t, name)
	variety(t, dir+"/first")
	dataset := located(t, dir)
	first := take(t, "a", dataset)[0]
	sh(t, "rm", "-r", dir+"/first/gone")
	sh(t, "truncate", "-s", "100K", dir+"/first/big")
	variety(t, dir+"/second")
	second := take(t, "b", dataset)[0]
	onSnapshot := read(t, d, second, &first)
	if err := firstOf(d.Shipped(t.Context(), "0a", first), d.Delete(t.Context(), first)); err != nil {
		t.Fatal(err)
	}
	onBookmark := read(t, d, second, &first)
	if !bytes.Equal(onBookmark, onSnapshot) {
		t.Errorf("%s: the increment on a bookmark differs from that on its snapshot", mode)
	}
	return []sample{
		{mode + " increment on a bookmark", second, &first, onBookmark},
		{mode + " full", second, nil, read(t, d, second, nil)},
	}
}

// fillVolume writes here and there on a new volume.
func fillVolume(t testing.TB, name string) fs.Snapshot {
	t.Helper()
	sh(t, "zfs", "create", "-V", "64M", "-s", name)
	fill := rand.NewChaCha8([32]byte{5})
	device, err := os.OpenFile(deviceOf(t, name), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 1 << 20, 17 << 20, 40 << 20} {
		b := make([]byte, 300_000)
		_, _ = fill.Read(b)
		if _, err := device.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := firstOf(device.Sync(), device.Close()); err != nil {
		t.Fatal(err)
	}
	dataset, err := describe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return take(t, "a", dataset)[0]
}

func read(t testing.TB, d *Driver, snap fs.Snapshot, base *fs.Snapshot) []byte {
	t.Helper()
	r, err := d.Send(t.Context(), snap, base)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err := firstOf(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return data
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// keyFile holds a raw key.
func keyFile(t testing.TB) string {
	t.Helper()
	name := t.TempDir() + "/key"
	if err := os.WriteFile(name, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// scatter writes many files of odd sizes, some that compress.
func scatter(t testing.TB, dir string, files int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fill := rand.NewChaCha8([32]byte{byte(files)})
	for i := range files {
		data := make([]byte, 1+i*i*137)
		if i%3 > 0 {
			_, _ = fill.Read(data)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/file %d", dir, i), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// variety makes a small tree whose streams have records of all kinds.
func variety(t testing.TB, dir string) {
	t.Helper()
	scatter(t, dir+"/files", 30)
	scatter(t, dir+"/gone", 12)
	big := make([]byte, 1_500_000)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(big[:700_000]) // the rest is a hole or shrinks to nothing
	for name, data := range map[string][]byte{"big": big, "text": bytes.Repeat([]byte("some text "), 30_000)} {
		if err := os.WriteFile(dir+"/"+name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		name := fmt.Sprint(dir, "/with attributes ", i)
		if err := firstOf(os.WriteFile(name, nil, 0o600), unix.Setxattr(name, "user.large", bytes.Repeat([]byte{byte(i)}, 300*i), 0), os.Symlink(strings.Repeat("x", 10*i+1), name+" link")); err != nil {
			t.Fatal(err)
		}
	}
}

// cuts are positions in a stream, multiples of 4: in headers, in payloads, next
// to the borders of records of each kind, near the start, in the last record.
func cuts(t testing.TB, data []byte, most int) []int {
	t.Helper()
	var borders []int
	seen := make(map[string]int)
	before := zfsstream.KindCount
	at := 0
	for _, r := range recordsOf(t, data) {
		h := zfsstream.Head(r[:zfsstream.HeadSize])
		pair := fmt.Sprint(before, h.Kind())
		if seen[pair]++; seen[pair] <= 2 {
			borders = append(borders, at, at+4, at+zfsstream.HeadSize, at+zfsstream.HeadSize+(len(r)-zfsstream.HeadSize)/2&^3)
		}
		before = h.Kind()
		at += len(r)
	}
	borders = append(borders, len(data)-4, len(data)-zfsstream.HeadSize, len(data)-zfsstream.HeadSize+160)
	random := rand.New(rand.NewPCG(uint64(len(data)), 1))
	for len(borders) < 2*most {
		borders = append(borders, random.IntN(len(data)/4)*4)
	}
	random.Shuffle(len(borders), func(i, j int) { borders[i], borders[j] = borders[j], borders[i] })
	return borders
}

// resumeAt cuts a stream at a byte and continues it; ok tells whether the
// sender could go on from there at all.
func resumeAt(t testing.TB, d *Driver, s sample, at int) (ok bool) {
	t.Helper()
	var w zfsstream.Walker
	if _, err := w.Write(s.data[:at]); err != nil {
		t.Fatal(err)
	}
	state := w.Position()
	if state == "" {
		return false
	}
	r, err := d.Resume(t.Context(), s.snap, s.base, int64(at), state)
	if err != nil {
		t.Errorf("%s cut at %d of %d: %v", s.name, at, len(s.data), err)
		return true
	}
	rest, err := io.ReadAll(r)
	if err := firstOf(err, r.Close()); err != nil {
		t.Errorf("%s cut at %d of %d: %v", s.name, at, len(s.data), err)
	} else if sha256.Sum256(rest) != sha256.Sum256(s.data[at:]) {
		t.Errorf("%s cut at %d of %d: the rest has %d bytes, want %d, or differs", s.name, at, len(s.data), len(rest), len(s.data)-at)
	}
	return true
}

// continueSamples cuts each sample of each mode so often.
func continueSamples(t *testing.T, each int) {
	for mode, options := range modes(t) {
		t.Run(mode, func(t *testing.T) {
			pool := newPool(t, 512<<20)
			for _, s := range samples(t, pool, mode, options) {
				continueSample(t, s, each)
			}
		})
	}
}

func continueSample(t *testing.T, s sample, each int) {
	d := New()
	if _, err := zfsstream.Check(bytes.NewReader(s.data)); err != nil {
		t.Fatal(s.name, err)
	}
	if again := read(t, d, s.snap, s.base); !bytes.Equal(again, s.data) {
		t.Errorf("%s: sent again it differs", s.name)
	}
	continued, anew := 0, 0
	for _, at := range cuts(t, s.data, each) {
		if continued == each {
			break
		}
		if resumeAt(t, d, s, at) {
			continued++
		} else {
			anew++
		}
	}
	kinds := make(map[zfsstream.Kind]int)
	for _, r := range recordsOf(t, s.data) {
		h := zfsstream.Head(r[:zfsstream.HeadSize])
		kinds[h.Kind()]++
	}
	t.Logf("%s: %d bytes, records %v: %d cuts continued, %d had no position to go on from", s.name, len(s.data), kinds, continued, anew)
	if continued < each {
		t.Errorf("%s: only %d cuts", s.name, continued)
	}
}

func TestResume(t *testing.T) { continueSamples(t, 4) }

// TestResumeRenamed: snapshots go by their guids, so that a dataset and a
// snapshot that were renamed are gone on with.
func TestResumeRenamed(t *testing.T) {
	pool := newPool(t, 512<<20)
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	scatter(t, mountpoint(t, pool+"/a")+"/x", 30)
	snap := take(t, "a", located(t, mountpoint(t, pool+"/a")))[0]
	s := sample{"renamed", snap, nil, read(t, d, snap, nil)}
	sh(t, "zfs", "rename", pool+"/a", pool+"/with space")
	sh(t, "zfs", "rename", pool+"/with space@"+snap.Name, pool+"/with space@other")
	if !resumeAt(t, d, s, len(s.data)/2&^7) {
		t.Error("there is no position to go on from")
	}
	sh(t, "zfs", "destroy", pool+"/with space@other")
	var w zfsstream.Walker
	_, _ = w.Write(s.data[:len(s.data)/2&^7])
	if _, err := d.Resume(t.Context(), snap, nil, w.Offset, w.Position()); err == nil {
		t.Error("a snapshot that is gone is gone on with")
	}
}

// TestResumeReads: going on after 60 % of a stream reads at most 45 % of its
// size from the disks, by the pool's own counters, after its cache was emptied.
func TestResumeReads(t *testing.T) {
	pool := newPool(t, 1<<30)
	d := New()
	sh(t, "zfs", "create", "-o", "compression=off", pool+"/a")
	dir := mountpoint(t, pool+"/a")
	fill := rand.NewChaCha8([32]byte{9})
	for i := range 24 {
		data := make([]byte, 4<<20)
		_, _ = fill.Read(data)
		if err := os.WriteFile(fmt.Sprint(dir, "/", i), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snap := take(t, "a", located(t, dir))[0]
	s := sample{"big", snap, nil, read(t, d, snap, nil)}
	file := strings.Fields(sh(t, "zpool", "status", "-LP", pool))
	device := ""
	for _, word := range file {
		if strings.HasPrefix(word, "/var/tmp/") {
			device = word
		}
	}
	sh(t, "zpool", "export", pool) // its cache goes with it
	sh(t, "zpool", "import", "-d", device, pool)
	before := readBytes(t, pool, device)
	if !resumeAt(t, d, s, len(s.data)*60/100&^7) {
		t.Fatal("there is no position to go on from")
	}
	reading := readBytes(t, pool, device) - before
	part := float64(reading) / float64(len(s.data)) * 100
	t.Logf("stream of %d bytes, cut at 60 %%: %d bytes read from the pool, %.1f %%", len(s.data), reading, part)
	if part > 45 {
		t.Errorf("%.1f %% were read", part)
	}
	if part < 35 {
		t.Errorf("only %.1f %% were read: the counter does not count", part)
	}
}

// readBytes is what ZFS says that it has read from a device of a pool since
// that was imported.
func readBytes(t testing.TB, pool, device string) int64 {
	t.Helper()
	text := sh(t, "zpool", "get", "-Hp", "-o", "value", "read_bytes", pool, device)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
