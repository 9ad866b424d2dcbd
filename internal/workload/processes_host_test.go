//go:build host

package workload_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	"golang.org/x/sys/unix"
)

// mapVariable has this test's program map a file, close it and wait.
const mapVariable = "SNAPD_TEST_MAP"

func mapAndWait(name string) int {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err == nil {
		_, err = unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_ = f.Close()
	fmt.Println("ready")
	if os.Getenv(waitVariable) != "" {
		waitInKernel()
	}
	time.Sleep(time.Minute)
	return 0
}

// waitVariable has that program wait in the kernel for two seconds, and then as others
// do.
const waitVariable = "SNAPD_TEST_WAIT"

// waitInKernel makes a child as vfork does, for which its parent waits in the kernel.
func waitInKernel() {
	runtime.LockOSThread()
	pid, _, _ := syscall.RawSyscall6(syscall.SYS_CLONE, syscall.CLONE_VFORK|uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 {
		ts := unix.Timespec{Sec: 2}
		_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

// reachOf resolves a group of one path.
func reachOf(t *testing.T, path string, drivers ...fs.Driver) *workload.Reach {
	t.Helper()
	if len(drivers) == 0 {
		drivers = []fs.Driver{locator{}}
	}
	g := workload.Group{Group: config.Group{Name: "g", Settings: config.Settings{}}}
	g.Paths = []string{path}
	r, err := workload.Host{}.Resolve(t.Context(), g, drivers)
	if err != nil {
		t.Fatal(err)
	}
	return r.Reach
}

// begin runs a program until the end of the test, and returns when it says that
// it is ready.
func begin(t *testing.T, env string, argv ...string) int {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%v says %q, %v", argv, line, err)
	}
	return cmd.Process.Pid
}

func shell(t *testing.T, script string, args ...any) int {
	t.Helper()
	return begin(t, "", "sh", "-c", fmt.Sprintf(script, args...)+"; echo ready; sleep 60")
}

// Processes that have files of the group open for writing or mapped are found,
// also through another mount or namespace; what only reads, lies beside or has no
// name any more is none.
func TestHolders(t *testing.T) {
	root := btrfs(t)
	data := subvolume(t, root, "my data")
	group, nested := directory(t, data, "group é"), ""
	nested = subvolume(t, group, "nested")
	elsewhere := directory(t, t.TempDir(), "bound")
	command(t, "mount", "--bind", group, elsewhere)
	t.Cleanup(func() { // what was killed is there for a moment yet
		eventually(t, "it is unmounted", func() bool { return unix.Unmount(elsewhere, 0) == nil })
	})
	for _, name := range []string{group + "/f", group + "/gone", nested + "/f", data + "/beside"} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := map[int]string{
		shell(t, "exec 3<>'%s/f'", group):                "open",
		shell(t, "exec 3>>'%s/f'", elsewhere):            "open through another mount",
		begin(t, mapVariable+"="+group+"/f", os.Args[0]): "mapped and closed",
		begin(t, "", "unshare", "-m", "sh", "-c", fmt.Sprintf("exec 3<>'%s/f'; echo ready; sleep 60", group)): "in a mount namespace of its own",
	}
	shell(t, "exec 3<'%s/f'", group)
	shell(t, "exec 3<>'%s/gone'; rm '%s/gone'", group, group)
	shell(t, "exec 3<>'%s/f'", nested)
	shell(t, "exec 3<>'%s/beside'", data)
	r := reachOf(t, group)
	began := time.Now()
	open := workload.LookAtOpenFiles(t.Context(), 5*time.Second)
	t.Logf("the look took %v", time.Since(began))
	if open.Missed != "" {
		t.Errorf("missed: %s", open.Missed)
	}
	got := map[int]bool{}
	for _, p := range r.Holders(open) {
		got[p.PID] = true
		if len(p.Datasets) != 1 || p.Datasets[0].Name != data || p.Name == "" || p.Started.After(time.Now()) || time.Since(p.Started) > time.Minute {
			t.Errorf("%+v", p)
		}
		// The shell's child has its descriptors too.
		if parent := parentOf(t, p.PID); want[p.PID] == "" && want[parent] == "" {
			t.Errorf("process %d (%s) is none", p.PID, p.Name)
		}
	}
	for pid, what := range want {
		if !got[pid] {
			t.Errorf("not found: %s", what)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if open := workload.LookAtOpenFiles(ctx, time.Second); open.Missed == "" {
		t.Error("a look that had no time says that it saw all")
	}
}

// A process that waits in the kernel is looked at when it goes on, or it is said that
// it was not looked at.
func TestHoldersThatWait(t *testing.T) {
	group := subvolume(t, btrfs(t), "data")
	if err := os.WriteFile(group+"/f", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(waitVariable, "1")
	r := reachOf(t, group)
	pid := 0
	waits := func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return strings.Contains(string(text), ") D ")
	}
	eventually(t, "one waits", func() bool { // where the kernel shows it, in its first thread
		pid = begin(t, mapVariable+"="+group+"/f", os.Args[0])
		for range 20 {
			if waits() {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		return false
	})
	open := workload.LookAtOpenFiles(t.Context(), 5*time.Second)
	seen := slices.ContainsFunc(r.Holders(open), func(p workload.Process) bool { return p.PID == pid })
	if !seen && !strings.Contains(open.Missed, "wait in the kernel") {
		t.Errorf("it is not seen, and missed is %q", open.Missed)
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var parent int
	if _, err := fmt.Sscanf(string(text[strings.LastIndexByte(string(text), ')')+3:]), "%d", &parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

// Who writes between Begin and End is seen, however short it lives.
func TestWatch(t *testing.T) {
	root := btrfs(t)
	data, other := subvolume(t, root, "data"), subvolume(t, root, "other")
	group := directory(t, data, "group")
	w, err := reachOf(t, group).Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	command(t, "sh", "-c", "echo before > '"+group+"/f'")
	began := time.Now()
	if err := w.Begin(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for _, dir := range []string{other, data} {
		command(t, "sh", "-c", "echo beside > '"+dir+"/f'")
	}
	if err := os.WriteFile(group+"/own", []byte("ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	living := shell(t, "echo x > '%s/f'", group)
	dead := exec.Command("sh", "-c", "echo y > '"+group+"/g'")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	w.End()
	t.Logf("Begin took %v, End %v", took, time.Since(began))
	command(t, "sh", "-c", "echo after > '"+group+"/f'")
	wrote, err := w.Wrote()
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, p := range wrote {
		got = append(got, p.PID)
	}
	// Of one that has ended it is only known which dataset it wrote to.
	if !slices.Contains(got, living) || !slices.Contains(got, dead.Process.Pid) || slices.Contains(got, os.Getpid()) || len(got) > 3 {
		t.Errorf("got %v, want %d and %d", got, living, dead.Process.Pid)
	}
}

// A container that was started and has gone is told of, with what it could write
// to.
func TestFollow(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	data := subvolume(t, root, "data")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	before, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := e.Follow(t.Context(), time.Now())
	defer f.Close()
	for name, source := range map[string]string{"follow-job": link + "/data", "follow-other": directory(t, root, "other")} {
		id, err := docker.Run(t.Context(), dockertest.Spec{Name: name, Once: true, Cmd: []string{"true"}, Mounts: []dockertest.Mount{{Source: source, Target: "/x"}}})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is gone", func() bool {
			_, err := docker.API.ContainerInspect(t.Context(), id)
			return err != nil
		})
	}
	runs, err := f.Runs(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	r := reachOf(t, data)
	var names, writers []string
	for _, run := range runs {
		names = append(names, run.Container.Name)
		if run.Gone || run.To.Before(run.From) {
			t.Errorf("%+v", run)
		}
		found, warnings, err := r.Writers(t.Context(), []workload.Container{run.Container})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%v, %v", warnings, err)
		}
		for _, w := range found {
			writers = append(writers, w.Container.Name)
		}
		// The engine may have said that it runs just before it ended, and its process's
		// number can be another's by now.
		for _, pid := range []int{endedProcess(t), os.Getpid()} {
			again, warnings, err := r.Writers(t.Context(), []workload.Container{workload.PassedAs(run.Container, pid)})
			if err != nil || len(warnings) > 0 || len(again) != len(found) {
				t.Errorf("as process %d: %d writers, %v, %v, want %d", pid, len(again), warnings, err, len(found))
			}
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"follow-job", "follow-other"}) || !slices.Equal(writers, []string{"follow-job"}) {
		t.Errorf("runs of %v, writers %v", names, writers)
	}
}

// endedProcess is the number of a process that is not there any more.
func endedProcess(t *testing.T) int {
	t.Helper()
	c := exec.CommandContext(t.Context(), "true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}
