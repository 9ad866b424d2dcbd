//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/point"
	"snapd/internal/proc"
	"snapd/internal/workload/dockertest"
)

// The 22 things of issue 14 ("what was seen"), and the tests that show each with its
// right outcome; the first ones named go through the command line. Those of the
// package outside run in the guest, with the installed package.
//
//  1. a dataset that was not mounted, made anew, or left: TestAGroupThatBecomesAnother;
//     agent.TestADatasetThatWasNotMounted, TestWhatElseChanges, retain.TestEachDatasetHasAHistory
//  2. a container with a higher mount writes on: TestAPointIsNotCalledMoreThanItsWriterAllows
//     ("a higher mount", "a lower mount"); workload.TestResolveWriters
//  3. a job in a stopped window: the same ("a job", "a joiner"); workload.TestFollow, TestWatch
//  4. a process of the host: the same ("a process that keeps its files open", "… that opens
//     them anew"); workload.TestHolders, plan.TestProcessesOfTheHost
//  5. a database beside the volumes: workload.TestADatabaseThatIsLeftOut, TestDataDirOfKnownImages
//  6. a member that its hook starts anew: TestAMemberThatIsStartedAnew
//  7. a container in another cgroup: TestAnOddHost, TestTwentyGroupsOfWhichSevenAreOdd
//     ("mailer"); workload.TestAProcessInAnotherCgroup, TestTheFaultOfOneContainer
//  8. hostile calls: api.TestHostileCallers, TestLongHostileCallers, TestOneNameManyTimes,
//     TestADeadRepositoryKeepsOneUserOut
//  9. a mount that hangs: TestAnOddHost, TestTwentyGroupsOfWhichSevenAreOdd ("ftp"),
//     TestAHangingLookEndsWithTheCommand; workload.TestAMountThatHangs, TestLooksThatHang
// 10. a crash loop: TestAnOddHost, TestTwentyGroupsOfWhichSevenAreOdd ("builder");
//     workload.TestACrashLoop, TestARestartingContainerDoesNotRun
// 11. a file that was replaced, mounts that hold no data: workload.TestAFileThatWasReplaced,
//     TestWhatIsNoData
// 12. a restart in the middle of a hook: api.TestRetireWaitsForAHook, TestRetireHandsAShipOn;
//     packaging.TestRestartAndUpgradeInAShip
// 13. a swap file, a deaf PID 1: TestAnOddHost, TestTwentyGroupsOfWhichSevenAreOdd
//     ("swapped"); workload.TestASwapFile, plan.TestStopThatCannotWork,
//     doctor.TestStopsThatMayTakeTooLong
// 14. rights of the unit: TestCapabilitiesOfTheUnit; packaging.TestOfOtherUsers,
//     TestEachRight, TestEachRightHasATrial, TestSandbox;
//     workload.TestMarkedProcessesAreEnded, TestExecIsBoundedWhenTheEngineHangs,
//     agent.TestCommandsTellWhatHadToGo
// 15. passwords and escape sequences: api.TestMembersSeeNoSecrets, TestAHiddenHook,
//     TestPointsAreShownWithoutDefinitions, TestNothingHarmfulIsPrinted, TestOneWayOut
// 16. a Swarm task: TestAnOddHost; workload.TestOwners
// 17. the top of a filesystem in a container: TestTheTopOfAFilesystemIsBound
// 18. no failure, no age, no health in status: TestTwentyGroupsOfWhichSevenAreOdd;
//     agent.TestStatusTellsFailures, TestStatusTellsWhatIsLate,
//     TestPointsOfAGroupWithoutContainers; TestDamagedFile, and TestHealth… of the storages
// 19. what is ours and belongs to no point: agent.TestSnapshotsWithoutARecord,
//     TestPruneKeepsTheBaseThatIsLeft, TestOrphans, TestOrphansThatStay;
//     TestTheStateDirectoryIsLost
// 20. shutdowns, masked timers, summer time, a folder that the unit may not write:
//     packaging.TestShutdown; host.TestInhibit, TestWithoutLogind, agent.TestStatusTellsWhatIsLate, TestElapses,
//     dir.TestReadOnlyToTheAgent, TestWhatSystemdDoesInSummerTime,
//     doctor.TestSchedulesInTheHourOfSummerTime
// 21. a window that was given up has advice: TestAnOddHost ("deaf to its stop signal");
//     packaging.TestRemovalNamesWhatNothingWatches; internal/fs/lvm, for room
// 22. snapshots of other programs, long lines: TestForeignSnapshotsHideNothing,
//     TestTwentyGroupsOfWhichSevenAreOdd; agent.TestSnapshotsOfOthersAreOnlyCounted

// An odd host: what is wrong with one of its groups is said of that group, and
// keeps no other back.
func TestAnOddHost(t *testing.T) {
	h := newHost(t, "")
	docker := startDocker(t, h)
	h.configure("[group.well]\npaths = [\"" + h.subvolume("well") + "\"]")
	t.Run("process in another cgroup", func(t *testing.T) { movedProcess(t, h, docker) })
	t.Run("crash loop", func(t *testing.T) { crashLoop(t, h, docker) })
	t.Run("deaf to its stop signal", func(t *testing.T) { deafToStop(t, h, docker) })
	t.Run("swarm task", func(t *testing.T) { swarmTask(t, h, docker) })
	t.Run("swap file", func(t *testing.T) { swapFile(t, h) })
	t.Run("hanging mount", func(t *testing.T) { hangingMount(t, h, docker) })
}

func startedAt(t *testing.T, docker *dockertest.Docker, name string) string {
	t.Helper()
	in, err := docker.API.ContainerInspect(t.Context(), name)
	if err != nil || !in.State.Running {
		t.Fatalf("container %s: %v", name, err)
	}
	return in.State.StartedAt
}

// run starts a container that the end of the test removes.
func (h *host) run(t *testing.T, docker *dockertest.Docker, s dockertest.Spec) {
	t.Helper()
	id, err := docker.Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Remove(h.t.Context(), id) })
}

// A container whose process was moved refuses its own group, and status goes on.
func movedProcess(t *testing.T, h *host, docker *dockertest.Docker) {
	h.run(t, docker, dockertest.Spec{Name: "moved", Mounts: []dockertest.Mount{{Source: h.subvolume("moved"), Target: "/data"}}, Signal: "SIGKILL"})
	h.configure("[group.moved]\ncontainers = [\"moved\"]")
	in, err := docker.API.ContainerInspect(t.Context(), "moved")
	if err != nil {
		t.Fatal(err)
	}
	leaveCgroups(t, in.State.Pid)
	h.points("snapshot", "well")
	h.refused(1, []string{"snapshot", "moved"}, "container moved: process", "start the container anew")
	if out := h.must("status"); !strings.Contains(out, "container moved: process") || !strings.Contains(out, "well") {
		t.Errorf("status says %s", out)
	}
	if out, _, _ := h.snapd("doctor"); !strings.Contains(out, "container moved: process") || !strings.Contains(out, "group well") {
		t.Error("doctor does not say so")
	}
}

// leaveCgroups moves a process into the top of every tree of cgroups.
func leaveCgroups(t *testing.T, pid int) {
	t.Helper()
	mounts, err := proc.Own()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Type != "cgroup" && m.Type != "cgroup2" {
			continue
		}
		if err := os.WriteFile(filepath.Join(m.Point, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// A member that ends again and again is not frozen, and the point is taken.
func crashLoop(t *testing.T, h *host, docker *dockertest.Docker) {
	h.run(t, docker, dockertest.Spec{Name: "steady", Mounts: []dockertest.Mount{{Source: h.subvolume("steady"), Target: "/data"}}, Signal: "SIGKILL"})
	h.run(t, docker, dockertest.Spec{
		Name: "looping", Mounts: []dockertest.Mount{{Source: h.subvolume("looping"), Target: "/data"}}, Cmd: []string{"/bin/sh", "-c", "exit 1"},
		Change: dockertest.StartedAgain,
	})
	h.configure("[group.loop]\ncontainers = [\"steady\", \"looping\"]")
	until(t, "the engine waits for longer from start to start", func() bool {
		in, err := docker.API.ContainerInspect(t.Context(), "looping")
		return err == nil && in.State.Restarting && in.RestartCount >= 5
	})
	taken := 0
	for range 4 {
		out, errs, status := h.snapd("--json", "snapshot", "loop")
		if status != 0 { // it was started in the very moment, and that is said
			if !strings.Contains(errs+out, "container looping was started while") && !strings.Contains(errs+out, "changed since it was looked up") {
				t.Errorf("failed for another reason")
			}
			continue
		}
		var doc pointsDocument
		if err := json.Unmarshal([]byte(out), &doc); err != nil {
			t.Fatal(err)
		}
		taken++
		p := doc.Points[0]
		if p.Consistency != point.Frozen || len(p.Members) == 0 || p.Members[0].Name != "steady" {
			t.Errorf("%s, %v", p.Consistency, p.Members)
		}
		for _, m := range p.Members {
			if m.Name == "looping" && m.How != "not running" {
				t.Errorf("it was frozen: %v", m)
			}
		}
	}
	if taken < 3 {
		t.Errorf("%d of 4 points", taken)
	}
}

// A container that is killed when its stop timeout is over costs its users that
// time once, and not with every run.
func deafToStop(t *testing.T, h *host, docker *dockertest.Docker) {
	h.run(t, docker, dockertest.Spec{
		Name: "deaf", Mounts: []dockertest.Mount{{Source: h.subvolume("deaf"), Target: "/data"}}, Cmd: []string{"/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"},
		Change: dockertest.StopTimeout(2),
	})
	h.configure("[group.deaf]\ncontainers = [\"deaf\"]\nfreeze = \"stop\"\nmax-window = \"1s\"")
	if out, _, _ := h.snapd("doctor"); !strings.Contains(out, "deaf may take up to 2s to stop, and max-window is 1s") {
		t.Error("doctor does not warn of it beforehand")
	}
	h.refused(1, []string{"snapshot", "deaf"}, "the window was given up")
	before := startedAt(t, docker, "deaf")
	h.refused(1, []string{"snapshot", "deaf"}, "stopping the members", "max-window is 1s", "set max-window well above 2")
	if after := startedAt(t, docker, "deaf"); after != before {
		t.Error("it was stopped again, for nothing again")
	}
	if out, _, status := h.snapd("doctor"); status != 1 || !strings.Contains(out, "stopping the members") {
		t.Error("doctor does not say so")
	}
	if out := h.must("status"); !strings.Contains(out, "longer than max-window: no restore point is taken") {
		t.Error("status does not say so")
	}
	text, err := os.ReadFile(h.path("snapd.toml"))
	if err == nil {
		err = os.WriteFile(h.path("snapd.toml"), bytes.Replace(text, []byte("max-window = \"1s\""), []byte("max-window = \"20s\""), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p := h.points("snapshot", "deaf")[0]; p.Consistency != point.Stopped {
		t.Errorf("as the advice says: %s", p.Consistency)
	}
}

func swarmTask(t *testing.T, h *host, docker *dockertest.Docker) {
	h.run(t, docker, dockertest.Spec{
		Name: "shop_db.1.x7", Mounts: []dockertest.Mount{{Source: h.subvolume("task"), Target: "/data"}}, Signal: "SIGKILL",
		Labels: map[string]string{"com.docker.swarm.task.id": "x7", "com.docker.swarm.service.name": "shop_db"},
	})
	h.configure("[group.task]\ncontainers = [\"shop_db.1.x7\"]\nfreeze = \"stop\"")
	before := startedAt(t, docker, "shop_db.1.x7")
	h.refused(1, []string{"snapshot", "task"}, "belongs to the Swarm service shop_db", `set freeze to "freeze"`)
	if startedAt(t, docker, "shop_db.1.x7") != before {
		t.Error("a refusal stopped it")
	}
}

// A real swap file is found before anything is frozen, also by doctor.
func swapFile(t *testing.T, h *host) {
	file := filepath.Join(h.subvolume("swapped to"), "swap file")
	h.configure("[group.swapped]\npaths = [\"" + filepath.Dir(file) + "\"]")
	command(t, "btrfs", "filesystem", "mkswapfile", "--size", "32m", file)
	command(t, "swapon", file)
	on := true
	off := func() {
		if on {
			command(h.t, "swapoff", file)
		}
		on = false
	}
	t.Cleanup(off)
	h.refused(1, []string{"snapshot", "swapped"}, "the kernel swaps to "+file, "swapoff")
	if out, _, status := h.snapd("doctor"); status != 1 || !strings.Contains(out, "the kernel swaps to "+file) {
		t.Error("doctor does not say so")
	}
	off()
	h.points("snapshot", "swapped")
}

// A mount whose program does not answer any more: its group is refused at once,
// all others are taken, and doctor ends, by itself and when it is told to.
func hangingMount(t *testing.T, h *host, docker *dockertest.Docker) {
	dir := filepath.Join(t.TempDir(), "away é")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mounted, err := dockertest.MountFuse(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := mounted.Close(); err != nil {
			t.Error(err)
		}
	}()
	h.run(t, docker, dockertest.Spec{Name: "hung", Mounts: []dockertest.Mount{{Source: h.subvolume("hung"), Target: "/data"}, {Source: dir, Target: "/away"}}, Signal: "SIGKILL"})
	h.configure("[group.hung]\ncontainers = [\"hung\"]\n[group.pathhung]\npaths = [\"" + dir + "/x\"]")
	mounted.Hang()
	watch := time.AfterFunc(60*time.Second, func() { _ = mounted.Close() }) // so that a failure ends too
	defer watch.Stop()
	begun := time.Now()
	h.refused(1, []string{"snapshot", "hung"}, "which a program makes up", `write "/away" into the label snapd.exclude`)
	h.refused(1, []string{"snapshot", "pathhung"}, "which a program makes up", "take it out of paths in [group.pathhung]")
	h.points("snapshot", "well")
	out, _, _ := h.snapd("doctor")
	if !strings.Contains(out, "which a program makes up") || !strings.Contains(out, "group well") {
		t.Error("doctor does not say both")
	}
	var st agent.Status
	if err := json.Unmarshal([]byte(h.must("--json", "status")), &st); err != nil || len(st.Groups) < 3 {
		t.Errorf("status: %+v, %v", st, err)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("all took %v", took)
	}
	cmd := exec.CommandContext(t.Context(), "snapd", h.args([]string{"doctor"})...)
	cmd.Env = append(os.Environ(), h.env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // anywhere in the middle
	told := time.Now()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if took := time.Since(told); took > 2*time.Second { // one, on a busy machine
		t.Errorf("doctor went on for %v after it was told to end", took)
	}
}
