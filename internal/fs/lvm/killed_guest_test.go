//go:build guest

package lvm

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"
	"snapd/internal/vmtest"
)

// TestKilled kills a process that snapshots, sends and restores, at instants
// spread over what it does. There are twenty with the tag long. It is also the
// program that is killed (SNAPD_TEST_CYCLE), and what looks at the state after
// a power cut (SNAPD_TEST_CHECK); both name the group and the state directory.
func TestKilled(t *testing.T) {
	vmtest.Inside(t)
	if where := os.Getenv("SNAPD_TEST_CYCLE"); where != "" {
		vg, state, _ := strings.Cut(where, " ")
		cycle(t, New(state), vg)
		return
	}
	if where := os.Getenv("SNAPD_TEST_CHECK"); where != "" {
		vg, state, _ := strings.Cut(where, " ")
		afterDeath(t, New(state), vg)
		return
	}
	testKilled(t, 1)
}

func testKilled(t *testing.T, times int) {
	vg := newGroup(t, 2<<30)
	newPool(t, vg, "pool", 1<<30)
	dir := t.TempDir()
	mkfs(t, "ext4", newVolume(t, vg, "pool", "data", 128<<20), dir+"/data")
	t.Cleanup(func() { removeSnapshots(t, vg) })
	if err := os.WriteFile(dir+"/data/first", make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	state := dir + "/state"
	took, _ := kill(t, vg, state, 0)
	t.Logf("one cycle takes %v", took.Round(time.Millisecond))
	for i := range times {
		// A host that was busy in the first cycle is faster in the next:
		// then the instant is sought again.
		for tries := 0; ; tries++ {
			cycle, killed := kill(t, vg, state, took*time.Duration(2*i+1)/time.Duration(2*times))
			afterDeath(t, New(state), vg)
			if killed {
				break
			}
			if took = cycle; tries == 5 {
				t.Fatalf("kill %d comes too late again and again", i)
			}
		}
	}
}

// kill runs the cycle and kills it after a while; 0 lets it come to its end.
// It returns how long the cycle took, and whether the kill came before its end.
func kill(t *testing.T, vg, state string, after time.Duration) (took time.Duration, killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "SNAPD_TEST_CYCLE="+vg+" "+state)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "begin" {
		t.Log(lines.Text())
	}
	begin := time.Now()
	timer := time.AfterFunc(after, func() {
		if after > 0 {
			_ = cmd.Process.Kill()
		}
	})
	defer timer.Stop()
	step := "begin"
	for lines.Scan() && step != "end" {
		step = lines.Text()
		if after == 0 {
			t.Log(step)
		}
	}
	took = time.Since(begin)
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil && after == 0 {
		t.Fatalf("a whole cycle: %v", err)
	}
	if after > 0 {
		t.Logf("killed after %v, after step %q", after.Round(time.Millisecond), step)
	}
	return took, step != "end"
}

// cycle does everything once and says each step before it.
func cycle(t *testing.T, d *Driver, vg string) {
	say := func(step string) { fmt.Println(step) }
	ctx := t.Context()
	all, err := d.list(ctx)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := all.named(vg, "data")
	if !ok {
		t.Fatal("no volume")
	}
	say("begin")
	id := fmt.Sprint("k", time.Now().UnixNano())
	first := take(t, d, id, datasetOf(v))[0]
	say("snapshot taken")
	target := fmt.Sprint(vg, "/pool/restored", os.Getpid())
	r, err := d.Receive(ctx, target, fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	send := func(s fs.Snapshot, base *fs.Snapshot, guid string) {
		stream, err := d.Send(ctx, s, base)
		if err != nil {
			t.Fatal(err)
		}
		say("sending")
		if err := errors.Join(r.Apply(ctx, stream, s.GUID, guid), stream.Close()); err != nil {
			t.Fatal(err)
		}
		say("received")
	}
	send(first, nil, "")
	second := take(t, d, id+"b", datasetOf(v))[0]
	send(second, &first, first.GUID)
	if _, err := r.Finish(ctx); err != nil {
		t.Fatal(err)
	}
	say("finished")
	if err := errors.Join(r.Close(), d.Delete(ctx, first), d.Delete(ctx, second)); err != nil {
		t.Fatal(err)
	}
	say("deleted")
	removeVolume(t, vg, strings.TrimPrefix(target, vg+"/pool/"))
	say("end")
}

// afterDeath is what the next call finds and puts right.
func afterDeath(t *testing.T, d *Driver, vg string) {
	t.Helper()
	awaitNobody(t)
	removed, err := d.Sweep(t.Context())
	if err != nil {
		t.Error(err)
	}
	if len(removed) > 0 {
		t.Logf("swept: %q", removed)
	}
	if _, err := d.Tend(t.Context()); err != nil {
		t.Error(err)
	}
	healthy(t, d, vg, "pool")
	all, err := d.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, ok := all.named(vg, "data")
	if !ok {
		t.Fatal("the volume is gone")
	}
	if left, err := suspended("/sys", map[string]bool{groupOf(datasetOf(v)): true}); err != nil || len(left) > 0 {
		t.Errorf("suspended: %v, %v", left, err)
	}
	known, err := d.Snapshots(t.Context(), datasetOf(v))
	if err != nil {
		t.Error(err)
	}
	for _, v := range all {
		if v.vg != vg {
			continue
		}
		if strings.HasPrefix(v.name, fs.LVMRestorePrefix) {
			t.Errorf("%s was left", v.name)
		}
		if _, ours := v.tag(tagOrigin); !ours {
			continue
		}
		found := false
		for _, s := range known {
			found = found || s.GUID == v.uuid
		}
		if !found || v.active() {
			t.Errorf("%s: listed %v, active %v", v.full(), found, v.active())
		}
	}
	for _, s := range known {
		if err := d.Delete(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	command(t, "sh", "-c", "lvs --noheadings -o lv_full_name "+vg+" | grep restored | xargs -r lvremove -q -f -y")
}

// awaitNobody waits for LVM commands that outlived the process that started them.
func awaitNobody(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("pgrep", "-x", "lvcreate|lvremove|lvchange|lvrename|lvextend|lvreduce|dmsetup|vgcfgbackup").Output()
		if len(strings.TrimSpace(string(out))) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("LVM commands do not end: %s, %v", out, err)
		}
	}
}
