//go:build host

package hold_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/workload/dockertest"
)

// redis is a server in a container with an append-only file. It cannot have
// that on another filesystem than its data, so that it takes two servers for a
// group on two subvolumes. It writes before it answers only with appendfsync
// always: with everysec it puts writing off while a sync is under way, and a
// point lacks what a power cut would lose.
type redis struct {
	t  testing.TB
	id string
}

func (b *bench) redisOn(name, data string) *redis {
	b.t.Helper()
	r := &redis{t: b.t, id: b.run(dockertest.Spec{
		Name: name, Image: dockertest.Databases, Change: dockertest.As("redis"), Mounts: []dockertest.Mount{{Source: data, Target: "/data"}},
		Cmd: []string{
			"redis-server", "--port", "0", "--unixsocket", "/tmp/redis.sock", "--dir", "/data", "--appendonly", "yes",
			"--appendfsync", "always", "--auto-aof-rewrite-min-size", "1mb", "--save", "5 1",
		},
	})}
	eventually(b.t, time.Minute, "Redis answers", func() bool { return r.try("PING") == "PONG" })
	return r
}

// newRedis makes two servers of one group.
func (b *bench) newRedis() (one, two *redis) {
	b.t.Helper()
	one, two = b.redisOn("redis-one", b.subvolume("redis one", "redis")), b.redisOn("redis-two", b.subvolume("redis two", "redis"))
	b.Group = "redis"
	b.Config = "[group.redis]\ncontainers = [\"redis-one\", \"redis-two\"]\n"
	return one, two
}

func (r *redis) client(args ...string) *exec.Cmd {
	r.t.Helper()
	return exec.CommandContext(r.t.Context(), "redis-cli", append([]string{"-s", inside(r.t, r.id, "/tmp/redis.sock")}, args...)...)
}

func (r *redis) try(args ...string) string {
	r.t.Helper()
	out, _ := r.client(args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func (r *redis) number(key string) int {
	r.t.Helper()
	n, err := strconv.Atoi(r.try("GET", key))
	if err != nil {
		r.t.Fatalf("%s: %v", key, err)
	}
	return n
}

// counter counts up on one server, in a transaction with a value that makes
// the file grow, and returns the new number.
func (r *redis) counter() (next func() (int, error), stop func()) {
	r.t.Helper()
	cmd := r.client()
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	next = func() (n int, err error) {
		_, err = fmt.Fprintln(in, `EVAL "redis.call('INCR', 'same'); redis.call('SET', 'text' .. redis.call('GET', 'same') % 100, string.rep('x', 500)); return redis.call('INCR', 'n')" 0`)
		if err == nil {
			_, err = fmt.Fscan(out, &n)
		}
		return n, err
	}
	return next, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// countOnBoth counts on one server, then on the other, and so on. confirmed
// is how far both are.
func countOnBoth(one, two *redis) (confirmed *atomic.Int64) {
	one.t.Helper()
	nextOne, stopOne := one.counter()
	nextTwo, stopTwo := two.counter()
	confirmed = &atomic.Int64{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := nextOne(); err != nil {
				return
			}
			n, err := nextTwo()
			if err != nil {
				return
			}
			confirmed.Store(int64(n))
		}
	}()
	one.t.Cleanup(func() {
		stopOne()
		stopTwo()
		<-ended
	})
	eventually(one.t, 10*time.Second, "the counters count", func() bool { return confirmed.Load() > 100 })
	return confirmed
}

// checkRedis looks at both append-only files, starts servers on them and says
// what is wrong.
func (b *bench) checkRedis(name, dir string, least int) error {
	b.t.Helper()
	var numbers []int
	for _, which := range []string{"redis one", "redis two"} {
		data := filepath.Join(dir, which)
		if out, err := exec.CommandContext(b.t.Context(), "redis-check-aof", filepath.Join(data, "appendonlydir", "appendonly.aof.manifest")).CombinedOutput(); err != nil {
			return fmt.Errorf("redis-check-aof: %w: %s", err, out)
		}
		r := b.redisOn(name, data)
		eventually(b.t, time.Minute, "Redis has loaded its data", func() bool { return strings.Contains(r.try("INFO", "persistence"), "loading:0") })
		n, same := r.number("n"), r.number("same")
		b.remove(r.id)
		if n != same {
			return fmt.Errorf("%s: half a transaction: %d and %d", which, n, same)
		}
		numbers = append(numbers, n)
	}
	if one, two := numbers[0], numbers[1]; one < two || one > two+1 || two < least {
		return fmt.Errorf("the counters are at %d and %d; %d was confirmed", one, two, least)
	}
	return nil
}
