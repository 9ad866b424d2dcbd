//go:build host

package btrfs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
)

// BenchmarkSnapshot compares the ioctl alone with the whole of Prepare and
// Take, on a subvolume that is written to all the time: the window is Take.
func BenchmarkSnapshot(b *testing.B) {
	mnt := newFilesystem(b, 4<<30)
	dataset := subvolume(b, mnt+"/source")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		f, err := os.Create(mnt + "/source/log")
		if err != nil {
			b.Error(err)
			return
		}
		defer f.Close()
		for data := bytes.Repeat([]byte("x"), 64<<10); ; {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if _, err := f.Write(data); err != nil {
					b.Error(err)
					return
				}
				if at, _ := f.Seek(0, io.SeekCurrent); at > 256<<20 {
					_, _ = f.Seek(0, io.SeekStart)
				}
			}
		}
	}()
	defer func() { close(stop); <-stopped }()

	// One after the other, so that both see the same.
	var alone, prepare, take []time.Duration
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprintf("bench%d", n)
		alone = append(alone, ioctlAlone(b, mnt, "alone"+id))
		p, t, s := prepareAndTake(b, dataset, id)
		prepare, take = append(prepare, p), append(take, t)
		if err := New().Delete(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(median(alone), "ioctl-ms")
	b.ReportMetric(median(prepare), "prepare-ms")
	b.ReportMetric(median(take), "take-ms")
}

// ioctlAlone is what a user would run: flush, then the ioctl.
func ioctlAlone(b *testing.B, mnt, name string) time.Duration {
	b.Helper()
	source, err := os.Open(mnt + "/source")
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	dir, err := os.Open(mnt)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.Close()
	args, err := snapshotArgs(source, name, subvolReadOnly)
	if err != nil {
		b.Fatal(err)
	}
	command(b, "sync", "-f", mnt)
	begin := time.Now()
	if err := snapshot(dir, args); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	if err := destroy(dir, name); err != nil {
		b.Fatal(err)
	}
	return took
}

func prepareAndTake(b *testing.B, dataset fs.Dataset, id string) (prepare, take time.Duration, s fs.Snapshot) {
	b.Helper()
	begin := time.Now()
	p, err := New().Prepare(b.Context(), snapshotName(id), []fs.Dataset{dataset})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	prepare = time.Since(begin)
	begin = time.Now()
	if err := p.Take(); err != nil {
		b.Fatal(err)
	}
	take = time.Since(begin)
	made, err := p.Result(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return prepare, take, made[0]
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2]) / float64(time.Millisecond)
}

// BenchmarkSeveral takes four subvolumes at once and one after the other.
func BenchmarkSeveral(b *testing.B) {
	mnt := newFilesystem(b, 1<<30)
	var datasets []fs.Dataset
	for _, name := range []string{"a", "b", "c", "d"} {
		datasets = append(datasets, subvolume(b, mnt+"/"+name))
	}
	var together, single []time.Duration
	n := 0
	for b.Loop() {
		n++
		p, err := New().Prepare(b.Context(), snapshotName(fmt.Sprintf("m%d", n)), datasets)
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := p.Take(); err != nil {
			b.Fatal(err)
		}
		together = append(together, time.Since(begin))
		made, err := p.Result(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		p.Close()
		for _, s := range made {
			if err := New().Delete(b.Context(), s); err != nil {
				b.Fatal(err)
			}
		}
		var sum time.Duration
		for i := range datasets {
			_, took, s := prepareAndTake(b, datasets[i], fmt.Sprintf("s%d", n))
			sum += took
			if err := New().Delete(b.Context(), s); err != nil {
				b.Fatal(err)
			}
		}
		single = append(single, sum)
	}
	b.ReportMetric(median(together), "together-ms")
	b.ReportMetric(median(single), "one-by-one-ms")
}

// BenchmarkSend compares the ioctl with the btrfs program.
func BenchmarkSend(b *testing.B) {
	mnt := newFilesystem(b, 2<<30)
	dataset := subvolume(b, mnt+"/source")
	random := rand.NewChaCha8([32]byte{1})
	const size = 256 << 20
	data := make([]byte, 1<<20)
	for i := range size >> 20 {
		_, _ = random.Read(data)
		write(b, fmt.Sprintf("%s/source/%d", mnt, i), string(data))
	}
	s := take(b, "a", dataset)[0]
	path := strings.TrimSpace(command(b, "find", mnt+"/.snapd-agent", "-maxdepth", "2", "-name", s.Name))
	b.Run("ioctl", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			r, err := New().Send(b.Context(), s, nil)
			if err != nil {
				b.Fatal(err)
			}
			drain(b, r)
			if err := r.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("program", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			cmd := exec.CommandContext(b.Context(), "btrfs", "-q", "send", "--proto", "2", "--compressed-data", path)
			r, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			drain(b, r)
			if err := cmd.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func drain(b *testing.B, r io.Reader) {
	b.Helper()
	buf := make([]byte, 256<<10)
	for {
		_, err := r.Read(buf)
		if err == io.EOF {
			return
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
