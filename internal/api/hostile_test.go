package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"

	"golang.org/x/sys/unix"
)

// hostileSocket has this program be the hostile callers of the socket that it names:
// in a process of their own, so that what they take is not counted as the agent's.
const (
	hostileSocket  = "SNAPD_TEST_HOSTILE_SOCKET"
	hostileCalls   = "SNAPD_TEST_HOSTILE_CALLS"
	hostileTime    = "SNAPD_TEST_HOSTILE_TIME"
	hostileWitness = "SNAPD_TEST_HOSTILE_WITNESS"
)

// What must hold while they call.
const (
	mostLatency = time.Second // of root's calls
	mostMemory  = 64 << 20    // bytes
	mostSilence = 2 * time.Second
)

func TestHostileCallers(t *testing.T) { beHostile(t, 6000, 4*time.Second) }

// TestBeTheWitness is a process that only sleeps: by how much it is late, everything
// on this machine is, whatever the agent does.
func TestBeTheWitness(t *testing.T) {
	if os.Getenv(hostileWitness) == "" {
		return // nothing asks for it: see beHostile
	}
	over := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, os.Stdin); over <- err }()
	var late time.Duration
	for {
		begin := time.Now()
		select {
		case <-over: //nolint:errcheck // that it is over is what it tells
			fmt.Printf("late by %d\n", late)
			return
		case <-time.After(2 * time.Millisecond):
			late = max(late, time.Since(begin)-2*time.Millisecond)
		}
	}
}

// witness starts one; late says what it saw.
func witness(t *testing.T, self string) (late func() time.Duration) {
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBeTheWitness$", "-test.v")
	cmd.Env = append(os.Environ(), hostileWitness+"=1")
	said := &strings.Builder{}
	cmd.Stdout = said
	end, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() time.Duration {
		end.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		_, text, _ := strings.Cut(said.String(), "late by ")
		text, _, _ = strings.Cut(text, "\n")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Errorf("the witness said %q", said)
		}
		return time.Duration(n)
	}
}

// TestBeHostile is the other process of TestHostileCallers.
func TestBeHostile(t *testing.T) {
	path := os.Getenv(hostileSocket)
	if path == "" {
		return // nothing asks for it: see beHostile
	}
	calls, err := strconv.Atoi(os.Getenv(hostileCalls))
	if err != nil {
		t.Fatal(err)
	}
	span, err := time.ParseDuration(os.Getenv(hostileTime))
	if err != nil {
		t.Fatal(err)
	}
	h := newHostile(path, time.Now().Add(span))
	var next atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for n := next.Add(1); n <= int64(calls) && time.Now().Before(h.end); n = next.Add(1) {
				h.call(int(n))
			}
		})
	}
	all.Wait()
	fmt.Printf("hostile calls: %d\n", min(next.Load()-1, int64(calls)))
}

// hostile calls in every way in which a call can be a burden.
type hostile struct {
	path string
	end  time.Time
	mu   sync.Mutex
	held []net.Conn // half-open, the oldest first

	requests [10][]byte // by kind; made once, since making them is not what is tested
}

func newHostile(path string, end time.Time) *hostile {
	h := &hostile{path: path, end: end}
	request := func(path string, length int, body string) []byte {
		return fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, length, body)
	}
	post := func(path, body string) []byte { return request(path, len(body), body) }
	var unknown strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&unknown, `,"g%d"`, i)
	}
	h.requests = [10][]byte{
		post(pathDo, `{"steps":{"snapshot":true},"groups":["a"`+strings.Repeat(`,"a"`, 200000)+`]}`),
		post(pathDo, `{"steps":{"snapshot":true},"groups":["`+strings.Repeat("x", 1<<20)+`"]}`),
		request(pathDo, 1<<40, `{"groups":["`+strings.Repeat("a", 1<<20)),
		post("/"+strings.Repeat("v9", 1000), `{}`),
		post(pathDo, `{"steps":{"snapshot":true},"groups":["g"`+unknown.String()+`]}`),
		[]byte("POST " + pathStatus + " HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1000)),
		request(pathStatus, 1000, "{"),
		post(pathList, `{"group":"dead"}`),
		post(pathList, `{"group":"dead"}`),
		post(pathList, `{"group":"big"}`), // it reads no answer
	}
	return h
}

// user is who makes a call: two members who do nothing else, eight who do so now and
// then, and users who are no members.
func user(n int) string {
	switch {
	case n%5 < 2:
		return fmt.Sprintf("member-%d", 1000+n%5)
	case n%5 < 4:
		return fmt.Sprintf("member-%d", 2000+n%8)
	}
	return fmt.Sprintf("other-%d", 3000+n%7)
}

func (h *hostile) call(n int) {
	name := fmt.Sprintf("@%s-%d-%d", user(n), os.Getpid(), n) // by which the agent tells users apart here
	d := net.Dialer{LocalAddr: &net.UnixAddr{Net: "unix", Name: name}}
	c, err := d.DialContext(context.Background(), "unix", h.path)
	for errors.Is(err, unix.EAGAIN) && time.Now().Before(h.end) {
		time.Sleep(time.Millisecond)
		c, err = d.DialContext(context.Background(), "unix", h.path)
	}
	if err != nil {
		return
	}
	kind := n / 10 % len(h.requests)                         // another one for the same user each time
	_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond)) // it has others to make
	_, err = c.Write(h.requests[kind])
	if kind >= 5 {
		h.hold(c)
		return
	}
	if err == nil { // it was not turned away
		_, _ = c.Read(make([]byte, 4096))
	}
	c.Close()
}

// hold keeps a connection open, as many as a user may have files.
func (h *hostile) hold(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held = append(h.held, c); len(h.held) > 600 {
		h.held[0].Close()
		h.held = h.held[1:]
	}
}

// callerByName is who a connection of these tests is of: root, where it has no name.
func callerByName(c *net.UnixConn) (Caller, error) {
	name := c.RemoteAddr().String()
	kind, uid, named := strings.Cut(strings.TrimPrefix(name, "@"), "-")
	if !named {
		return Caller{Root: true}, nil
	}
	uid, _, _ = strings.Cut(uid, "-")
	n, err := strconv.Atoi(uid)
	return Caller{UID: n, Member: kind == "member"}, err
}

// burdened is an agent with a repository that does not answer, and one with many
// points.
func burdened() calls {
	many := make([]point.Point, 3000)
	for i := range many {
		many[i] = point.Point{ID: point.ID(fmt.Sprintf("%016d", i)), Group: "shop", Why: strings.Repeat("because ", 20)}
	}
	return calls{
		do: func(context.Context, agent.Report, []string, agent.Steps) (agent.Done, error) {
			return agent.Done{}, errors.New("no such group")
		},
		list: func(ctx context.Context, group string) ([]point.Point, error) {
			switch group {
			case "dead":
				<-ctx.Done()
				return nil, ctx.Err()
			case "big":
				return append([]point.Point{}, many...), nil
			}
			return many[:20], nil
		},
		show:   func(string) (point.Point, error) { return many[0], nil },
		status: func() (agent.Status, error) { return agent.Status{Groups: make([]agent.GroupStatus, 20)}, nil },
	}
}

// aheadOfOthers has this process, and those that it starts from now on, run before
// all else on this machine until the test ends: then what is measured is the agent's,
// on a machine of any load. It tells false where that is not allowed.
func aheadOfOthers(t *testing.T) bool {
	t.Helper()
	set := func(policy, priority uint32) (failed bool) {
		for range 3 { // one that is not ahead yet may start another thread meanwhile
			tasks, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Fatal(err)
			}
			for _, task := range tasks {
				tid, err := strconv.Atoi(task.Name())
				if err != nil {
					t.Fatal(err)
				}
				err = unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}, 0)
				failed = failed || err != nil && !errors.Is(err, unix.ESRCH)
			}
		}
		return failed
	}
	t.Cleanup(func() { set(unix.SCHED_NORMAL, 0) })
	return !set(unix.SCHED_RR, 5)
}

// beHostile has members and others make so many hostile calls, or as many as they can
// in that time, and root ask for the status and a list all along.
func beHostile(t *testing.T, many int, span time.Duration) {
	p := newSocket(t)
	var beat atomic.Int64
	var journal lineCount
	var silence atomic.Int64 // the longest between two signs of life
	beat.Store(time.Now().UnixNano())
	p.serve(burdened(), func(o *Options) {
		o.Caller, o.Tick = callerByName, 200*time.Millisecond
		o.Log = slog.New(slog.NewTextHandler(&journal, nil))
		o.Known = func(_ context.Context, groups []string) error {
			if !slices.Equal(groups, []string{"a"}) {
				return advice.Usagef("no such group")
			}
			return nil
		}
		o.Newest = func() (map[string]time.Time, error) {
			time.Sleep(time.Millisecond) // a record of points is read
			return map[string]time.Time{}, nil
		}
		o.Alive = func([]string) {
			now := time.Now().UnixNano()
			silence.Store(max(silence.Load(), now-beat.Swap(now)))
		}
	})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first := aheadOfOthers(t)
	lateness := witness(t, self)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBeHostile$", "-test.v")
	cmd.Env = append(os.Environ(), hostileSocket+"="+p.path, hostileCalls+"="+strconv.Itoa(many), hostileTime+"="+span.String())
	said := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()

	began := time.Now()
	var slowest, slowestList time.Duration
	var memory uint64
	asked := 0
	timed := func(longest *time.Duration, what string, call func(c *Client) error) {
		begin := time.Now()
		c, err := Connect(t.Context(), p.path, nil)
		if err == nil {
			err = call(c)
		}
		if err != nil {
			t.Errorf("root's %s: %v", what, err)
		}
		*longest = max(*longest, time.Since(begin))
	}
	for going := true; going; asked++ {
		timed(&slowest, "status", func(c *Client) error { _, err := c.Status(t.Context()); return err })
		timed(&slowestList, "list", func(c *Client) error { _, err := c.List(t.Context(), ""); return err })
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		memory = max(memory, m.Sys-m.HeapReleased)
		select {
		case err := <-over:
			if going = false; err != nil {
				t.Errorf("the hostile process: %v", err)
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
	late := lateness()
	t.Logf("ahead of all else: %v; %s; root asked %d times: status within %v, list within %v; memory %d KiB; %d lines in the journal; the longest between two signs of life %v; this machine itself was late by %v",
		first, calledOf(said.String()), asked, slowest, slowestList, memory>>10, journal.Load(), time.Duration(silence.Load()), late)
	allowed := time.Duration(0)
	if !first { // each time when one thread hands a call to the next, it waits for what else runs here
		allowed = 4 * late
	}
	if most := mostLatency + allowed; slowest > most || slowestList > most {
		t.Errorf("root waited %v for the status, %v for a list", slowest, slowestList)
	}
	if memory > mostMemory {
		t.Errorf("%d MiB were taken", memory>>20)
	}
	if time.Duration(silence.Load()) > mostSilence+allowed {
		t.Errorf("for %v the loop gave no sign of life", time.Duration(silence.Load()))
	}
	if got, most := journal.Load(), int64(60*(2+time.Since(began)/refusalPause)); got > most {
		t.Errorf("%d lines in the journal, of %d at most", got, most)
	}
	if !strings.Contains(said.String(), "hostile calls:") || asked < 5 {
		t.Errorf("too little happened for this to show anything: asked %d times; %s", asked, said)
	}
}

// lineCount counts what is written to it.
type lineCount struct{ atomic.Int64 }

func (l *lineCount) Write(p []byte) (int, error) {
	l.Add(1)
	return len(p), nil
}

func calledOf(said string) string {
	for l := range strings.SplitSeq(said, "\n") {
		if strings.HasPrefix(l, "hostile calls:") {
			return l
		}
	}
	return said
}
