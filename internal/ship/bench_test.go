package ship_test

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// null takes segments and forgets them; all else it keeps.
type null struct{ *shiptest.Memory }

func (n null) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	if strings.HasPrefix(key, "data/") {
		return nil
	}
	return n.Memory.Put(ctx, key, body, ifAbsent)
}

// repeat gives the same bytes again and again.
type repeat struct {
	pattern []byte
	left    int64
	at      int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	if r.at == len(r.pattern) {
		r.at = 0
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.pattern[r.at:])
	r.at += n
	r.left -= int64(n)
	return n, nil
}

func (r *repeat) Close() error { return nil }

// peakRSS is what this process had in memory at most since the last reset.
func peakRSS(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

// cpuSeconds is what this process has used.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkUpload is the whole way of a stream but the storage that sends it
// and the network: b.N times 512 MiB in segments of 16 MiB. memory-limit is as
// main sets it.
func BenchmarkUpload(b *testing.B) {
	const size = 512 << 20
	for _, c := range []struct {
		name    string
		pattern []byte
		limit   int64
	}{
		{"half-compressible", noise(1, 24<<20), 0},
		{"incompressible", random(24 << 20), 0},
		{"incompressible,memory-limit=200MiB", random(24 << 20), 200 << 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.limit > 0 {
				defer debug.SetMemoryLimit(debug.SetMemoryLimit(c.limit))
			}
			bench := newBenchWith(b, null{shiptest.NewMemory()}, ship.EncryptionAge, 16<<20)
			r := bench.host()
			debug.FreeOSMemory()
			if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
				b.Logf("the peak is that of the whole process: %v", err)
			}
			b.SetBytes(size)
			before, n := cpuSeconds(b), 0
			for i := 0; b.Loop(); i++ {
				n++
				_, err := r.Upload(b.Context(), full("g"+strconv.Itoa(i)), func(context.Context) (io.ReadCloser, error) {
					return &repeat{pattern: c.pattern, left: size}, nil
				}, bench.records, nil)
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(peakRSS(b), "MiB-peak-rss")
			// What a busy machine does not falsify.
			b.ReportMetric((cpuSeconds(b)-before)/(float64(n)*size/(1<<30)), "cpu-s/GiB")
		})
	}
}

func random(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// BenchmarkRead is the way back, from memory.
func BenchmarkRead(b *testing.B) {
	const size = 128 << 20
	bench := newBenchWith(b, shiptest.NewMemory(), ship.EncryptionAge, 16<<20)
	s := bench.upload(bench.host(), full("g"), noise(1, size))
	r := bench.reader()
	chain, err := r.Chain(b.Context(), s.ID, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		in, err := r.Read(b.Context(), chain[0], nil)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, in); n != size || err != nil {
			b.Fatal(n, err)
		}
		_ = in.Close()
	}
}
