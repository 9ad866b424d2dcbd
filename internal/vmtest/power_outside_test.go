//go:build outside

package vmtest_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// tally counts the lines that a command in the guest has printed.
type tally struct {
	mu    sync.Mutex
	lines int
	last  string
	more  chan struct{} // has room for one: something came
}

func newTally() *tally { return &tally{more: make(chan struct{}, 1)} }

func (c *tally) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.lines += bytes.Count(p, []byte("\n"))
	if fields := strings.Fields(string(p)); len(fields) > 0 {
		c.last = fields[len(fields)-1]
	}
	c.mu.Unlock()
	select {
	case c.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *tally) count() (lines int, last string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines, c.last
}

// writer writes and flushes numbered files on an ext4 of its own and on a ZFS
// pool, and says each number only when both are on the disk.
const writer = `set -e
n=0
while true; do
    n=$((n + 1))
    for dir in /srv/ext4 /inside; do
        dd if=/dev/urandom of=$dir/part bs=64k count=4 conv=fsync status=none
        sha256sum <$dir/part >$dir/part.sum
        sync $dir/part.sum
        mv $dir/part.sum $dir/$n.sum
        mv $dir/part $dir/$n
        sync $dir
    done
    echo $n
done`

// TestPowerCutInTheMiddleOfAWrite is meant to be run many times (-count):
// whatever instant the cut hits, the guest boots again, its filesystems are
// sound, and what it had acknowledged is there.
func TestPowerCutInTheMiddleOfAWrite(t *testing.T) {
	g := vmtest.New(t, vmtest.Spec{})
	g.Sh(t, `truncate -s 256M /srv/ext4.img && mkfs.ext4 -q /srv/ext4.img && mkdir /srv/ext4 &&
		mount -o loop /srv/ext4.img /srv/ext4 && truncate -s 256M /srv/zfs.img && zpool create inside /srv/zfs.img && sync`)

	said := newTally()
	ended := make(chan error, 1)
	go func() {
		status, err := g.Stream(t.Context(), vmtest.Command{Line: writer, Stdout: said})
		if err == nil {
			err = errors.New("the writer ended by itself")
			t.Logf("its exit status: %d", status)
		}
		ended <- err
	}()
	limit := time.After(2 * time.Minute)
	enough := 1 + rand.IntN(12) // another instant each time
	for lines := 0; lines < enough; lines, _ = said.count() {
		select {
		case <-said.more:
		case err := <-ended:
			t.Fatalf("write in the guest: %v", err)
		case <-limit:
			t.Fatalf("the guest has not written %d times in two minutes", enough)
		}
	}
	if err := g.CutPower(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || err.Error() == "the writer ended by itself" {
		t.Fatalf("the writer did not notice the power cut: %v", err)
	}
	_, last := said.count()
	if _, err := g.Run(t.Context(), "true"); err == nil {
		t.Fatal("a guest without power has run a command")
	}

	if err := g.PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The system has imported the pool by itself, as on any host.
	g.Sh(t, "zpool scrub -w inside")
	if health := g.Sh(t, "zpool status -x inside"); !strings.Contains(health, "is healthy") {
		t.Errorf("the pool: %s", health)
	}
	// Replays the journal, as mounting would; then nothing may be left to repair.
	g.Sh(t, "e2fsck -p /srv/ext4.img || test $? -eq 1; e2fsck -fn /srv/ext4.img")
	g.Sh(t, "mount -o loop /srv/ext4.img /srv/ext4")
	g.Sh(t, `set -e; for dir in /srv/ext4 /inside; do
		for n in $(seq 1 `+last+`); do sha256sum <$dir/$n | cmp - $dir/$n.sum; done; done`)
	if state := g.Sh(t, "dmesg | grep -c 'EXT4-fs error' || true"); strings.TrimSpace(state) != "0" {
		t.Errorf("the root filesystem has errors: %s", g.Sh(t, "dmesg | grep 'EXT4-fs'"))
	}
	t.Logf("power cut after %s acknowledged writes", last)
}
