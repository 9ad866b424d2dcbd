//go:build outside

package lvm

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// TestPowerCut cuts the power once in the middle of a ship and a restore; five
// times with the tag long, each in another step.
func TestPowerCut(t *testing.T) { testPowerCut(t, 1) }

const powerVolume = `set -e
truncate -s 2G /var/lib/cut.img
loop=$(losetup -f --show /var/lib/cut.img)
vgcreate -q cut $loop
lvcreate -q -y -L 1G --poolmetadatasize 16M -T cut/pool
lvcreate -q -y -V 128M -T cut/pool -n data
mkfs.ext4 -q /dev/cut/data
sync`

// powerBack is what an administrator does after a power cut. When the pool was
// just allocating for some writer, or discarding, then these blocks belong to
// no thin device, and LVM does not take the pool into use before it is repaired;
// nothing worse may be wrong with it.
const powerBack = `set -e
losetup -f /var/lib/cut.img
if ! vgchange -q -a y cut 2>/root/said; then
	grep 'Check of pool cut/pool failed' /root/said
	lvchange -q -y -a y cut/pool_tmeta
	thin_check /dev/cut/pool_tmeta 2>&1 | grep leaked
	thin_check -q --ignore-non-fatal-errors /dev/cut/pool_tmeta
	lvchange -q -a n cut/pool_tmeta
	lvconvert -q -y --repair cut/pool
	vgchange -q -a y cut
fi
vgck cut`

func testPowerCut(t *testing.T, times int) {
	binary := filepath.Join(t.TempDir(), "lvm.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "guest", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g := vmtest.New(t, vmtest.Spec{})
	if err := g.CopyIn(t.Context(), "/root", binary); err != nil {
		t.Fatal(err)
	}
	g.Sh(t, powerVolume)
	for i := range times {
		step := powerSteps()[i%len(powerSteps())]
		ended := make(chan error, 1)
		said := &awaited{text: step, came: make(chan struct{})}
		go func() {
			_, err := g.Stream(t.Context(), vmtest.Command{
				Line:   `while SNAPD_TEST_CYCLE="cut /var/lib/cycle" /root/lvm.test -test.run '^TestKilled$'; do :; done`,
				Stdout: said,
			})
			ended <- err
		}()
		select {
		case <-said.came:
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-time.After(4 * time.Minute):
			t.Fatalf("it does not come to %q", step)
		}
		delay := time.Duration(rand.IntN(2000)) * time.Millisecond
		select { // an instant of its own each time, not a wait for something
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-time.After(delay):
		}
		if err := g.CutPower(); err != nil {
			t.Fatal(err)
		}
		<-ended //nolint:errcheck // its connection was cut as well
		if err := g.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Log(g.Sh(t, powerBack))
		out := withAdvice(t, g, `SNAPD_TEST_CHECK="cut /var/lib/cycle" /root/lvm.test -test.v -test.run '^TestKilled$'`)
		t.Logf("cut %d, %v after %q:\n%s", i, delay, step, out)
		g.Sh(t, "e2fsck -p /dev/cut/data; e2fsck -fn /dev/cut/data")
		// And everything works again.
		withAdvice(t, g, `SNAPD_TEST_CYCLE="cut /var/lib/cycle" /root/lvm.test -test.run '^TestKilled$'`)
	}
}

// withAdvice runs a line; when it fails with advice on what LVM lost track of,
// that is followed, once, and the line must succeed.
func withAdvice(t *testing.T, g *vmtest.Guest, line string) string {
	t.Helper()
	r, err := g.Run(t.Context(), line)
	if err == nil && r.Status == 0 {
		return r.Stdout
	}
	advice := regexp.MustCompile(`LVM makes it anew after: (dmsetup message cut-pool-tpool 0 'delete \d+')`).FindStringSubmatch(r.Stdout)
	if advice == nil {
		t.Fatalf("exit status %d, %v\n%s%s", r.Status, err, r.Stdout, r.Stderr)
	}
	t.Logf("LVM lost track of the volume that it was making: %s", advice[1])
	g.Sh(t, advice[1])
	return g.Sh(t, line)
}

// powerSteps are what is under way when the power goes: sending and receiving,
// taking a snapshot, the second of these, what follows the last stream, deleting.
func powerSteps() []string {
	return []string{"sending", "begin", "received", "finished", "snapshot taken"}
}

// awaited tells when a line came.
type awaited struct {
	text string
	came chan struct{}
	seen strings.Builder
	once sync.Once
}

func (a *awaited) Write(p []byte) (int, error) {
	a.seen.Write(p)
	if strings.Contains(a.seen.String(), a.text+"\n") {
		a.once.Do(func() { close(a.came) })
	}
	return len(p), nil
}
