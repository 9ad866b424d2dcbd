//go:build host

package dockertest_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"snapd/internal/freeze"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// The window with nothing in it, beside the engine's own pause and unpause:
//
//	go test -tags host -run '^$' -bench Window -benchtime 30x ./internal/workload/dockertest
func BenchmarkWindow(b *testing.B) {
	for _, n := range []int{1, 10, 50} {
		for _, busy := range []bool{false, true} {
			name := fmt.Sprintf("%d-idle", n)
			if busy {
				name = fmt.Sprintf("%d-writing", n)
			}
			b.Run(name, func(b *testing.B) {
				e := connect(b)
				members := crowd(b, e, n, busy)
				b.Run("cgroup", func(b *testing.B) { benchWindow(b, e, members) })
				b.Run("engine", func(b *testing.B) { benchEngine(b, e, members) })
			})
		}
	}
}

func crowd(b *testing.B, e *workload.Engine, n int, busy bool) []freeze.Member {
	b.Helper()
	dir := b.TempDir()
	var members []freeze.Member
	for i := range n {
		s := dockertest.Spec{Name: fmt.Sprintf("crowd-%d", i), Mounts: []dockertest.Mount{{Source: dir, Target: "/data"}}}
		if busy {
			s.Cmd = []string{"/bin/sh", "-c", fmt.Sprintf("while :; do echo x >/data/%d; done", i)}
		}
		members = append(members, start(b, e, s))
	}
	return members
}

// spread reports a few of many durations in microseconds.
func spread(b *testing.B, what string, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	b.ReportMetric(us(took[len(took)/2]), what+"-p50-us")
	b.ReportMetric(us(took[len(took)*99/100]), what+"-p99-us")
	b.ReportMetric(us(took[len(took)-1]), what+"-max-us")
}

func benchWindow(b *testing.B, e *workload.Engine, members []freeze.Member) {
	b.Helper()
	var freezes, thaws []time.Duration
	for b.Loop() {
		t, _, err := window(b, freeze.Options{Dir: "/dev/shm/snapd-bench", Deadline: 5 * time.Second, Engine: e}, members, func() error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		freezes, thaws = append(freezes, t.Freeze), append(thaws, t.Thaw)
	}
	_ = os.Remove("/dev/shm/snapd-bench")
	spread(b, "freeze", freezes)
	spread(b, "thaw", thaws)
}

func benchEngine(b *testing.B, e *workload.Engine, members []freeze.Member) {
	b.Helper()
	var pauses, unpauses []time.Duration
	var failed atomic.Int64 // the engine gives up on some of many busy containers
	all := func(do func(id string) error) time.Duration {
		begin := time.Now()
		var group sync.WaitGroup
		for _, m := range members {
			group.Go(func() {
				if err := do(m.ID); err != nil {
					failed.Add(1)
				}
			})
		}
		group.Wait()
		return time.Since(begin)
	}
	for b.Loop() {
		pauses = append(pauses, all(func(id string) error { return e.Pause(b.Context(), id) }))
		unpauses = append(unpauses, all(func(id string) error { return e.Unpause(b.Context(), id) }))
	}
	b.ReportMetric(float64(failed.Load()), "failed-calls")
	spread(b, "pause", pauses)
	spread(b, "unpause", unpauses)
}

// A snapshot of a Btrfs subvolume that one container writes to all the time:
// the ioctl alone, in a window, and as scripts do it.
func BenchmarkSnapshot(b *testing.B) {
	e := connect(b)
	image, dir := filepath.Join(b.TempDir(), "image"), b.TempDir()
	for _, c := range [][]string{{"truncate", "-s", "2G", image}, {"mkfs.btrfs", "-q", image}, {"mount", "-o", "loop", image, dir}, {"btrfs", "-q", "subvolume", "create", dir + "/data"}} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	b.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	m := start(b, e, writer("snapshotted", dir+"/data"))
	s := newSnapshotter(b, dir)
	b.Run("ioctl-alone", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			s.before(b)
			begin := time.Now()
			if err := s.take(); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		spread(b, "snapshot", took)
	})
	b.Run("window", func(b *testing.B) {
		var windows, snapshots []time.Duration
		for b.Loop() {
			s.before(b)
			t, _, err := window(b, freeze.Options{Dir: "/dev/shm/snapd-bench", Deadline: 5 * time.Second, Engine: e}, []freeze.Member{m}, s.take)
			if err != nil {
				b.Fatal(err)
			}
			windows, snapshots = append(windows, t.Window), append(snapshots, t.Snapshot)
		}
		_ = os.Remove("/dev/shm/snapd-bench")
		spread(b, "window", windows)
		spread(b, "snapshot", snapshots)
	})
	b.Run("docker-pause", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			s.before(b)
			begin := time.Now()
			if err := e.Pause(b.Context(), m.ID); err != nil {
				b.Fatal(err)
			}
			if err := s.take(); err != nil {
				b.Fatal(err)
			}
			if err := e.Unpause(b.Context(), m.ID); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(begin))
		}
		spread(b, "window", took)
	})
}

// snapshotter takes read-only snapshots of dir/data by ioctl.
type snapshotter struct {
	top, data int
	n         uint64
	args      [4096]byte // struct btrfs_ioctl_vol_args_v2
}

func newSnapshotter(b *testing.B, dir string) *snapshotter {
	b.Helper()
	s := &snapshotter{}
	var err error
	if s.top, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		b.Fatal(err)
	}
	if s.data, err = unix.Open(dir+"/data", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(s.top); unix.Close(s.data) })
	return s
}

func (s *snapshotter) before(b *testing.B) {
	b.Helper()
	if err := unix.Syncfs(s.top); err != nil {
		b.Fatal(err)
	}
	s.n++
	clear(s.args[:])
	binary.NativeEndian.PutUint64(s.args[0:], uint64(s.data))
	binary.NativeEndian.PutUint64(s.args[16:], 1<<1) // BTRFS_SUBVOL_RDONLY
	copy(s.args[56:], fmt.Sprintf("snapshot-%d", s.n))
}

func (s *snapshotter) take() error {
	const snapCreateV2 = 0x50009417
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.top), snapCreateV2, uintptr(unsafe.Pointer(&s.args))); errno != 0 {
		return errno
	}
	return nil
}
