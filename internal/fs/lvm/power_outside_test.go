//go:build outside

package lvm

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// TestPowerCut cuts the power once in the middle of snapshots, ships and
// restores; five times with the tag long.
func TestPowerCut(t *testing.T) { testPowerCut(t, 1) }

const powerVolume = `set -e
truncate -s 2G /var/lib/cut.img
loop=$(losetup -f --show /var/lib/cut.img)
vgcreate -q cut $loop
lvcreate -q -y -L 1G --poolmetadatasize 16M -T cut/pool
lvcreate -q -y -V 128M -T cut/pool -n data
mkfs.ext4 -q /dev/cut/data
sync`

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
		ended := make(chan error, 1)
		said := &lines{more: make(chan struct{}, 1)}
		go func() {
			_, err := g.Stream(t.Context(), vmtest.Command{
				Line:   `while SNAPD_TEST_CYCLE="cut /var/lib/cycle" /root/lvm.test -test.run '^TestKilled$'; do :; done`,
				Stdout: said,
			})
			ended <- err
		}()
		select {
		case <-said.more: // it is at work
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-time.After(2 * time.Minute):
			t.Fatal("it does not begin")
		}
		delay := time.Duration(rand.IntN(6000)) * time.Millisecond
		select { // an instant of its own each time, not a wait for something
		case err := <-ended:
			t.Fatalf("it ended by itself: %v", err)
		case <-time.After(delay):
		}
		if err := g.CutPower(); err != nil {
			t.Fatal(err)
		}
		<-ended
		if err := g.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.Sh(t, "losetup -f /var/lib/cut.img && vgchange -q -a y cut && vgck cut")
		out := g.Sh(t, `SNAPD_TEST_CHECK="cut /var/lib/cycle" /root/lvm.test -test.v -test.run '^TestKilled$' || { echo "exit $?"; false; }`)
		t.Logf("cut %d, after %v:\n%s", i, delay, out)
		g.Sh(t, "e2fsck -p /dev/cut/data; e2fsck -fn /dev/cut/data")
		// And everything works again.
		g.Sh(t, `SNAPD_TEST_CYCLE="cut /var/lib/cycle" /root/lvm.test -test.run '^TestKilled$'`)
	}
}

// lines tells that something came.
type lines struct{ more chan struct{} }

func (l *lines) Write(p []byte) (int, error) {
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}
