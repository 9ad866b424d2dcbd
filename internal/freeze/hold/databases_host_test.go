//go:build host

package hold_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"snapd/internal/point"
)

// A few of each here; many in databases_long_host_test.go.

func TestPostgresPoints(t *testing.T) { postgresPoints(t, 5) }
func TestMariaDBPoints(t *testing.T)  { mariadbPoints(t, 3) }
func TestRedisPoints(t *testing.T)    { redisPoints(t, 3) }

// points takes n points of a database that is being written to, and has each
// restored, started and checked. least says what was confirmed before a point.
func (b *bench) points(n int, want point.Consistency, least func() int, check func(name, dir string, least int) error) {
	b.t.Helper()
	good := 0
	var held, window int64
	for i := range n {
		before := least()
		p := b.take()
		if p.Consistency != want || len(p.Datasets) != 2 || p.WindowUS == 0 {
			b.t.Errorf("point %d: %s, %d datasets, window %d µs", i, p.Consistency, len(p.Datasets), p.WindowUS)
		}
		held, window = max(held, p.HeldUS), max(window, p.WindowUS)
		name := fmt.Sprintf("copy-%d", i)
		dir := b.restore(p, name)
		if err := check(name, dir, before); err != nil {
			b.t.Errorf("point %d (%s): %v", i, p.ID, err)
		} else {
			good++
		}
		for _, d := range p.Datasets {
			command(b.t, "btrfs", "subvolume", "delete", filepath.Join(dir, filepath.Base(d.Dataset)))
		}
	}
	b.t.Logf("%d of %d restored points are whole; the longest window %d µs, the longest hold %d µs", good, n, window, held)
}

func postgresPoints(t *testing.T, n int) {
	t.Helper()
	b := newBench(t)
	p := b.newPostgres()
	p.load()
	b.points(n, point.Quiesced, p.rows, b.checkPostgres)
}

func mariadbPoints(t *testing.T, n int) {
	t.Helper()
	b := newBench(t)
	m := b.newMaria()
	w := m.write(allTables...)
	eventually(t, 20*time.Second, "the writer writes", func() bool { n, _, _ := w.state(); return n > 50 })
	b.points(n, point.Quiesced, func() int { n, _, _ := w.state(); return n }, b.checkMaria)
}

func redisPoints(t *testing.T, n int) {
	t.Helper()
	b := newBench(t)
	confirmed := countOnBoth(b.newRedis())
	b.points(n, point.Frozen, func() int { return int(confirmed.Load()) }, b.checkRedis)
}

// TestTheseChecksFindDamage is the control: without freezing, the
// write-ahead log snapshotted first and the data a second later, the same
// checks must find that something is wrong.
func TestTheseChecksFindDamage(t *testing.T) {
	b := newBench(t)
	p := b.newPostgres()
	p.load()
	const tries = 10
	for i := range tries {
		dir := filepath.Join(b.btrfs, fmt.Sprint("torn", i))
		command(t, "mkdir", dir)
		least := p.rows()
		command(t, "btrfs", "subvolume", "snapshot", filepath.Join(b.btrfs, "pg wal"), filepath.Join(dir, "pg wal"))
		time.Sleep(time.Second)
		command(t, "btrfs", "subvolume", "snapshot", filepath.Join(b.btrfs, "pg data"), filepath.Join(dir, "pg data"))
		if err := b.checkPostgres(fmt.Sprint("torn", i), dir, least); err != nil {
			t.Logf("try %d: %.300s", i+1, err.Error())
			return
		}
	}
	t.Errorf("in %d tries nothing was found to be wrong: these checks find nothing", tries)
}

// TestTheLockIsWhatMakesMyISAMWhole is the control for MariaDB: frozen at one
// instant and without its lock, the tables that know no log are left open.
func TestTheLockIsWhatMakesMyISAMWhole(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	w := m.write(allTables...)
	eventually(t, 20*time.Second, "the writer writes", func() bool { n, _, _ := w.state(); return n > 50 })
	b.Config = "[group.maria]\ncontainers = [\"maria\"]\n"
	const tries = 5
	for i := range tries {
		least, _, _ := w.state()
		p := b.take()
		if p.Consistency != point.Frozen || p.HeldUS != 0 {
			t.Fatalf("%s, held %d", p.Consistency, p.HeldUS)
		}
		if err := b.checkMaria(fmt.Sprint("open", i), b.restore(p, fmt.Sprint("open", i)), least); err != nil {
			t.Logf("try %d: %.300s", i+1, err.Error())
			return
		}
	}
	t.Errorf("in %d tries nothing was found to be wrong: the lock is of no use, or these checks find nothing", tries)
}
