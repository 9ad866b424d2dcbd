//go:build guest

package freeze

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/run"
	"snapd/internal/vmtest"

	"golang.org/x/sys/unix"
)

// volumes are three thin logical volumes with filesystems on them, mounted:
// two ext4 and one XFS.
type volumes struct {
	vg     string
	names  []string
	dirs   []string
	counts []string // a file on each
}

func sh(t testing.TB, line string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "bash", "-euo", "pipefail", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func newVolumes(t testing.TB) *volumes {
	t.Helper()
	v := &volumes{vg: fmt.Sprintf("fz%d", time.Now().UnixNano()%1e9), names: []string{"a", "b", "c"}}
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	loop := strings.TrimSpace(sh(t, "truncate -s 4G "+image+" && losetup --find --show "+image))
	t.Cleanup(func() { sh(t, "losetup -d "+loop) })
	sh(t, fmt.Sprintf("pvcreate -q %[2]s && vgcreate -q %[1]s %[2]s && lvcreate -q --type thin-pool -L 3G -n pool %[1]s", v.vg, loop))
	t.Cleanup(func() { sh(t, "vgremove -q -f "+v.vg+" && pvremove -q "+loop) })
	for i, name := range v.names {
		at := filepath.Join(dir, "vol "+name)
		make := "mkfs.ext4 -q"
		if i == 2 {
			make = "mkfs.xfs -q"
		}
		sh(t, fmt.Sprintf("lvcreate -q -V 512M -T %[1]s/pool -n %[2]s && %[3]s /dev/%[1]s/%[2]s && mkdir '%[4]s' && mount /dev/%[1]s/%[2]s '%[4]s'", v.vg, name, make, at))
		t.Cleanup(func() { sh(t, "fsfreeze --unfreeze '"+at+"' 2>/dev/null || true; umount '"+at+"'") })
		v.dirs = append(v.dirs, at)
		v.counts = append(v.counts, filepath.Join(at, "count"))
	}
	return v
}

func (v *volumes) filesystems() []Filesystem {
	var out []Filesystem
	for i, dir := range v.dirs {
		out = append(out, Filesystem{Dir: dir, Name: "lvm " + v.vg + "/" + v.names[i]})
	}
	return out
}

// counter runs a process that stamps the same number into a file on each.
func (v *volumes) counter(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envRole+"=counter", envInput+"="+strings.Join(v.counts, "\n"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	v.goesOn(t)
	return cmd
}

// goesOn waits until the counter writes on.
func (v *volumes) goesOn(t testing.TB) {
	t.Helper()
	before := number(t, v.counts[2])
	eventually(t, "the counter goes on", func() bool { return number(t, v.counts[2]) > before })
}

func number(t testing.TB, file string) uint64 {
	t.Helper()
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(b) < 8 {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b)
}

// take makes a snapshot of each volume, one after the other.
func (v *volumes) take() error {
	for _, name := range v.names {
		if _, err := run.Output(context.Background(), "lvcreate", "-q", "-s", "-kn", "-n", "snap-"+name, v.vg+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// taken mounts the snapshots, reads the numbers, and removes them, in one go
// each: here every program that is started takes its time.
func (v *volumes) taken(t testing.TB) []uint64 {
	t.Helper()
	dir := t.TempDir()
	up, down := "set -e", "set -e"
	for i, name := range v.names {
		options := "ro"
		if i == 2 {
			options = "ro,nouuid,norecovery" // frozen, it needs none
		}
		up += fmt.Sprintf("\nmkdir %[1]s/%[2]s; mount -o %[3]s /dev/%[4]s/snap-%[2]s %[1]s/%[2]s", dir, name, options, v.vg)
		down += fmt.Sprintf("\numount %s/%s", dir, name)
	}
	sh(t, up)
	var out []uint64
	for _, name := range v.names {
		out = append(out, number(t, filepath.Join(dir, name, "count")))
	}
	sh(t, down+fmt.Sprintf("\nlvremove -q -f %[1]s/snap-a %[1]s/snap-b %[1]s/snap-c", v.vg))
	return out
}

func apart(numbers []uint64) uint64 {
	least, most := numbers[0], numbers[0]
	for _, n := range numbers {
		least, most = min(least, n), max(most, n)
	}
	return most - least
}

// TestFilesystems makes the volumes once, since that takes half a minute here.
func TestFilesystems(t *testing.T) {
	vmtest.Inside(t)
	v := newVolumes(t)
	t.Run("of one instant", v.oneInstant)
	t.Run("with members", v.withMembers)
	t.Run("killed", v.killed)
	t.Run("deadline", v.deadline)
	t.Run("refused", v.refused)
}

// Several volumes are of one instant when their filesystems are frozen, and are
// not when they are not frozen: the second shows that the test can fail.
func (v *volumes) oneInstant(t *testing.T) {
	v.counter(t)
	points := 5
	if long {
		points = 50
	}
	var worst uint64
	var longest time.Duration
	for range points {
		o := Options{Dir: "/run/snapd-test", Deadline: 5 * time.Minute, Guard: true, Filesystems: v.filesystems()} // emulated, on a busy host
		w, err := Prepare(t.Context(), nil, o)
		if err != nil {
			t.Fatal(err)
		}
		timings, err := w.Run(v.take)
		stood := w.Stood()
		closed(t, w)
		if err != nil {
			t.Fatal(err)
		}
		if len(stood) != 3 || stood[2].How != ByFifreeze {
			t.Errorf("stood %+v", stood)
		}
		v.goesOn(t)
		numbers := v.taken(t)
		worst, longest = max(worst, apart(numbers)), max(longest, timings.Freeze)
		if apart(numbers) > 1 || numbers[0] == 0 {
			t.Errorf("the counters in one point are %v", numbers)
		}
	}
	noJournal(t, "/run/snapd-test")
	t.Logf("%d points: the counters never differed by more than %d; freezing three took at most %v", points, worst, longest)
	v.control(t)
}

// control takes the same with nothing frozen. The counter may happen to wait for
// the disk while all three are taken (seen once in many runs), so that it is
// tried again, after the counter was seen to go on.
func (v *volumes) control(t *testing.T) {
	var numbers []uint64
	for range 10 {
		v.goesOn(t)
		if err := v.take(); err != nil {
			t.Fatal(err)
		}
		if numbers = v.taken(t); apart(numbers) > 1 {
			t.Logf("control, with nothing frozen: %v", numbers)
			return
		}
	}
	t.Errorf("with nothing frozen the counters are as near: %v; this test shows nothing", numbers)
}

// A member that writes to filesystems that are frozen with it: members are
// frozen first, filesystems are thawed first.
func (v *volumes) withMembers(t *testing.T) {
	writers := newWriters(t, 2, busyScript)
	w, err := Prepare(t.Context(), members(writers), Options{Dir: "/run/snapd-test", Deadline: time.Minute, Guard: true, Filesystems: v.filesystems()})
	if err != nil {
		t.Fatal(err)
	}
	timings, err := w.Run(func() error {
		if !frozenNow(t, writers[0].Cgroup) || !v.frozen(t, 0) || !v.frozen(t, 2) {
			t.Error("not all are frozen")
		}
		return nil
	})
	closed(t, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", timings)
	for _, x := range writers {
		x.moves(t)
	}
	v.allMove(t)
}

// frozen tells whether a filesystem is frozen: another freeze is refused.
func (v *volumes) frozen(t testing.TB, i int) bool {
	t.Helper()
	fd, err := unix.Open(v.dirs[i], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	err = freezeFilesystem(fd)
	if err == nil {
		_, err = thawFilesystem(fd)
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	return true
}

func (v *volumes) allMove(t testing.TB) {
	t.Helper()
	for i, dir := range v.dirs {
		if v.frozen(t, i) {
			t.Fatalf("%s is still frozen", dir)
		}
		if err := os.WriteFile(filepath.Join(dir, "probe"), []byte("x"), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// SIGKILL at the steps of a window with filesystems (all of them in the long
// matrix): the guard thaws them, and when it is killed too, the next call does.
func (v *volumes) killed(t *testing.T) {
	writers := newWriters(t, 1, tickScript)
	var table strings.Builder
	steps := []string{StepDiskFrozen, StepFrozen, StepDiskThawed}
	if long {
		steps = AllSteps()
	}
	for _, step := range steps {
		nths := []int{1}
		if long && (step == StepDiskFrozen || step == StepDiskThawed) {
			nths = []int{1, 2, 3}
		}
		for _, nth := range nths {
			for _, who := range []string{"agent", "guard", "both"} {
				if !long && who == "guard" && step != StepFrozen {
					continue
				}
				took, recovered := v.kill(t, writers, who, step, nth)
				fmt.Fprintf(&table, "\n%-10s %d %-6s all move after %8.1f ms, %d recovered by the next call", step, nth, who, float64(took.Microseconds())/1000, recovered)
				if who == "both" && (step == StepFrozen || step == StepTaken) && recovered != 4 {
					t.Errorf("%s: 3 filesystems and a member were frozen, and %d were thawed", step, recovered)
				}
			}
		}
	}
	t.Log(table.String())
}

// killDeadline is that of the windows that are killed.
const killDeadline = 20 * time.Second

func (v *volumes) kill(t *testing.T, writers []writer, who, step string, nth int) (took time.Duration, recovered int) {
	t.Helper()
	dir := filepath.Join("/run", fmt.Sprintf("snapd-test-%d", time.Now().UnixNano()))
	t.Cleanup(func() { _ = os.Remove(dir) })
	input, err := json.Marshal(victim{
		Dir: dir, Step: step, Nth: nth, Members: members(writers), Disks: v.filesystems(), Guard: true, Kill: who, Deadline: killDeadline,
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := reexec(t, "window", string(input)).CombinedOutput()
	died := time.Now()
	if want := map[bool]string{false: "signal: killed", true: "exit status 1"}[who == "guard"]; err == nil || err.Error() != want || who == "guard" && string(out) != "done\n" {
		t.Fatalf("%s %s %d: the child ended with %v: %s", who, step, nth, err, out)
	}
	if who == "both" {
		got, err := Recover(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatalf("%s %s %d: %v", who, step, nth, err)
		}
		for _, r := range got {
			if r.Outcome == Thawed {
				recovered++
			}
		}
	}
	for i := range v.dirs {
		for v.frozen(t, i) {
			if who != "agent" || time.Since(died) > killDeadline+time.Second {
				t.Fatalf("%s %s %d: %s is still frozen", who, step, nth, v.dirs[i])
			}
			time.Sleep(time.Millisecond)
		}
	}
	took = time.Since(died)
	writers[0].moves(t)
	v.allMove(t)
	if who == "agent" && step != StepJournal {
		eventually(t, "the guard has removed the journal", func() bool { left, _ := filepath.Glob(dir + "/*"); return len(left) == 0 })
	}
	if _, err := Recover(t.Context(), Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	noJournal(t, dir)
	return took, recovered
}

// A window whose deadline passes while take hangs thaws filesystems.
func (v *volumes) deadline(t *testing.T) {
	w, err := Prepare(t.Context(), nil, Options{Dir: "/run/snapd-test", Deadline: 3 * time.Second, Guard: true, Filesystems: v.filesystems()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Run(func() error {
		return os.WriteFile(filepath.Join(v.dirs[1], "probe"), []byte("x"), 0o600) // waits for the thaw
	})
	closed(t, w)
	if _, late := errors.AsType[*Overrun](err); !late {
		t.Errorf("got %v", err)
	}
	v.allMove(t)
}

func (v *volumes) refused(t *testing.T) {
	inner := t.TempDir()
	sh(t, fmt.Sprintf("truncate -s 64M '%[1]s/inner' && mkfs.ext4 -q '%[1]s/inner' && mount -o loop '%[1]s/inner' %[2]s", v.dirs[0], inner))
	t.Cleanup(func() { sh(t, "umount "+inner) })
	cases := []struct {
		name string
		disk Filesystem
		more []Filesystem
		want error
		text string
	}{
		{name: "the root", disk: Filesystem{Dir: "/"}, want: ErrNeverFreeze},
		{name: "not where it is mounted", disk: Filesystem{Dir: "/etc"}, want: ErrCannotFreeze, text: "is not where a filesystem is mounted"},
		{name: "tmpfs", disk: Filesystem{Dir: "/run"}, want: ErrCannotFreeze, text: "only ext4 and xfs"},
		{name: "another device since", disk: Filesystem{Dir: v.dirs[0], Device: 1}, want: ErrChanged},
		{name: "one that another lies on", disk: Filesystem{Dir: inner}, more: v.filesystems(), want: ErrNeverFreeze, text: "lies on it, in the loop file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Prepare(t.Context(), nil, Options{Dir: dir, Deadline: time.Second, Filesystems: append([]Filesystem{c.disk}, c.more...)})
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got %v", err)
			}
			noJournal(t, dir)
			said := Unfreezable(append([]Filesystem{c.disk}, c.more...), Options{Dir: dir})
			if !errors.Is(errors.Join(said...), c.want) { // of the loop file it is the outer one
				t.Errorf("beforehand: %v", said)
			}
		})
	}
	t.Run("needed", func(t *testing.T) {
		_, err := Prepare(t.Context(), nil, Options{Dir: t.TempDir(), Deadline: time.Second, Needed: []string{v.counts[1], v.dirs[1]}, Filesystems: v.filesystems()})
		if !errors.Is(err, ErrNeverFreeze) || !strings.Contains(fmt.Sprint(err), "writes to "+v.dirs[1]) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("frozen by another program", func(t *testing.T) {
		sh(t, "fsfreeze --freeze '"+v.dirs[1]+"'")
		defer sh(t, "fsfreeze --unfreeze '"+v.dirs[1]+"'")
		w, err := Prepare(t.Context(), nil, Options{Dir: "/run/snapd-test", Deadline: time.Minute, Filesystems: v.filesystems()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Run(func() error { t.Error("take was called"); return nil })
		closed(t, w)
		if !errors.Is(err, unix.EBUSY) || !strings.Contains(advice.Of(err), "fsfreeze --unfreeze") {
			t.Errorf("got %v", err)
		}
		if v.frozen(t, 0) || v.frozen(t, 2) || !v.frozen(t, 1) {
			t.Error("what another program froze must stay frozen, and nothing else may")
		}
	})
}
