//go:build guest

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/freeze"
	"snapd/internal/vmtest"
	"snapd/internal/workload"
)

func (h *zhost) inProcess(fault func(string)) *agent.Agent {
	h.t.Helper()
	return inProcess(h.t, &where{config: h.path("snapd.toml"), state: h.path("state"), runDir: h.path("run")}, fault,
		func(context.Context) (*workload.Engine, error) { return nil, workload.ErrNoEngine })
}

// group writes a group into the configuration.
func (h *zhost) group(text string) {
	h.t.Helper()
	appendTo(h.t, h.path("snapd.toml"), "\n"+text+"\n")
}

// beats runs a unit that appends to a file for ever, and does more each time.
func (h *zhost) beats(unit, file, more string) {
	h.t.Helper()
	h.sh("systemd-run", "-q", "--unit="+unit, "sh", "-c", "while :; do echo x >>'"+file+"'"+more+"; done")
	h.t.Cleanup(func() { _ = exec.Command("systemctl", "kill", "-s", "KILL", unit).Run() })
	h.goesOn(file)
}

// goesOn fails the test when no process writes to a file any more.
func (h *zhost) goesOn(file string) {
	h.t.Helper()
	length := func() int64 {
		st, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	before := length()
	for deadline := time.Now().Add(20 * time.Second); length() == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("no process writes to %s any more", file)
		}
	}
}

// hangs waits until a process of a unit is in the kernel and cannot be woken.
func (h *zhost) hangs(unit string) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		pids, _ := os.ReadFile("/sys/fs/cgroup/system.slice/" + unit + ".service/cgroup.procs")
		for pid := range strings.FieldsSeq(string(pids)) {
			if stat, _ := os.ReadFile("/proc/" + pid + "/stat"); strings.Contains(string(stat), ") D ") {
				return
			}
		}
		if time.Now().After(deadline) {
			h.t.Errorf("no process of %s hangs", unit)
			return
		}
	}
}

// nothingFrozen fails the test when a window left anything at all.
func (h *zhost) nothingFrozen() {
	h.t.Helper()
	if left, err := freeze.Leftovers(h.path("run")); err != nil || len(left) > 0 {
		h.t.Errorf("left over: %v, %v", left, err)
	}
	for name := range strings.FieldsSeq(h.sh("find", "/sys/fs/cgroup", "-name", "cgroup.freeze")) {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) != "0" {
			h.t.Errorf("%s says %s", name, text)
		}
	}
}

// TestZFSPoolGoes takes the pool away in the middle of windows: suspended,
// exported, full. What is told is what to do, and nothing stays frozen.
func TestZFSPoolGoes(t *testing.T) {
	h := newZHost(t)
	disk := vmtest.NewDisk(t, "goes", 160<<20)
	pool := "goes_" + h.pool
	h.sh("zpool", "create", "-O", "mountpoint=/mnt/"+pool, "-O", "compression=off", pool, disk.Device)
	t.Cleanup(func() {
		disk.Repair()
		_ = exec.Command("zpool", "import", "-d", "/dev/mapper", pool).Run()
		_ = exec.Command("zpool", "clear", pool).Run()
		h.sh("zpool", "destroy", "-f", pool)
	})
	h.sh("zfs", "create", pool+"/data")
	beat := h.path("beat")
	h.beats("snapd-goes", beat, "")
	h.group("[group.g]\nunits = [\"snapd-goes\"]\npaths = [\"/mnt/" + pool + "/data\"]\nfreeze = \"freeze\"\nrepositories = []")
	at := func(step string, do func()) error {
		t.Helper()
		done := false
		points, err := h.inProcess(func(s string) {
			if s == step && !done {
				done = true
				do()
			}
		}).Snapshot(t.Context(), []string{"g"})
		if !done || len(points) > 0 || err == nil {
			t.Fatalf("done: %v, %d points, %v", done, len(points), err)
		}
		t.Logf("%v\n%s", err, whatToDo(err))
		h.goesOn(beat)
		h.nothingFrozen()
		return err
	}
	says := func(err error, what ...string) {
		t.Helper()
		for _, w := range what {
			if text := err.Error() + "\n" + whatToDo(err); !strings.Contains(text, w) {
				t.Errorf("it does not say %q: %s", w, text)
			}
		}
	}
	suspend := func() {
		disk.Fail()
		go func() { _ = os.WriteFile("/mnt/"+pool+"/data/dirty", make([]byte, 1<<20), 0o600) }() // hangs
		go func() { _ = exec.Command("zpool", "sync", pool).Run() }()                            // hangs, too
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if text, _ := os.ReadFile("/proc/spl/kstat/zfs/" + pool + "/state"); strings.Contains(string(text), "SUSPENDED") {
				return
			}
			if time.Now().After(deadline) {
				t.Error("the pool is not suspended")
				return
			}
		}
	}
	back := func() {
		t.Helper()
		disk.Repair()
		h.sh("zpool", "clear", pool)
		h.sh("zpool", "sync", pool)
	}

	says(at(freeze.StepFrozen, suspend), pool, "suspended", "zpool clear")
	// No command lists its snapshots while it is away, and no command hangs.
	if _, errs, status := h.snapd("snapshot", "g"); status == 0 || !strings.Contains(errs, "zpool clear") {
		t.Errorf("exit status %d: %s", status, errs)
	}
	h.nothingFrozen()
	back()

	// A member that writes there cannot be frozen: it hangs in the kernel.
	inside := "/mnt/" + pool + "/data/beat"
	h.beats("snapd-hangs", inside, "; sync '"+inside+"'")
	h.group("[group.h]\nunits = [\"snapd-goes\", \"snapd-hangs\"]\npaths = [\"/mnt/" + pool + "/data\"]\nfreeze = \"freeze\"\nrepositories = []\nmax-window = \"3s\"")
	var begin time.Time
	points, err := h.inProcess(func(s string) {
		if s == freeze.StepOpen {
			suspend()
			h.hangs("snapd-hangs")
			begin = time.Now()
		}
	}).Snapshot(t.Context(), []string{"h"})
	took := time.Since(begin)
	if _, late := errors.AsType[*freeze.Overrun](err); !late || len(points) > 0 || took > 20*time.Second {
		t.Errorf("%d points, %v, after %v", len(points), err, took)
	} else {
		says(err, "snapd-hangs")
	}
	t.Logf("after %v: %v\n%s", took, err, whatToDo(err))
	h.goesOn(beat)
	h.nothingFrozen()
	back()
	h.goesOn(inside)
	h.sh("systemctl", "kill", "-s", "KILL", "snapd-hangs")

	says(at(freeze.StepFrozen, func() {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			out, err := exec.Command("zpool", "export", pool).CombinedOutput()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("export: %v: %s", err, out)
				return
			}
		}
	}), pool, "zpool import")
	if _, errs, status := h.snapd("snapshot", "g"); status == 0 || !strings.Contains(errs, "zpool import") {
		t.Errorf("exit status %d: %s", status, errs)
	}
	h.sh("zpool", "import", "-d", "/dev/mapper", pool)

	// Full: refused before anything is frozen.
	vmtest.Fill(t, "/mnt/"+pool+"/data/filler")
	h.sh("zpool", "sync", pool)
	_, err = h.inProcess(func(s string) { t.Errorf("the window came to %s", s) }).Snapshot(t.Context(), []string{"g"})
	if err == nil {
		t.Fatal("a point in a full pool")
	}
	t.Logf("%v\n%s", err, whatToDo(err))
	says(err, pool, "KiB are free")
	h.goesOn(beat)
	h.nothingFrozen()
	if err := os.Remove("/mnt/" + pool + "/data/filler"); err != nil {
		t.Fatal(err)
	}
	h.sh("zpool", "sync", pool)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Second) { // what was freed is free some seconds later
		if _, _, status := h.snapd("snapshot", "g"); status == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("with room again there is still no point")
		}
	}
	if left := strings.Count(h.sh("zfs", "list", "-H", "-t", "snapshot", "-o", "name", "-r", pool), "@snapd_"); left != 1 {
		t.Errorf("%d snapshots, want that of the one point", left)
	}
}
