package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// beatPause is how often Alive is called at most: on a busy host each connection is
// a turn of the loop.
const beatPause = 100 * time.Millisecond

// accept is the loop that lives. It alone accepts connections and decides that
// it has been idle for long enough, so that nothing can come in between. It waits
// for connections and for nothing else: no lock that is held across a question to
// another program, no log, no reader.
func (s *Server) accept(ctx context.Context, makeWay context.CancelCauseFunc, l *net.UnixListener, feed *feed, beats chan<- struct{}) error {
	s.count(Caller{}, 0)
	looked := false // no connection waited at the last look: on a busy host all of Idle can pass before it
	for {
		at := s.state()
		left := s.Idle - time.Since(at.last)
		if s.makesWay() {
			makeWay(ErrRestarting)
		}
		stopping := ctx.Err() != nil || at.broken != nil
		if at.active == 0 && (stopping || looked && left <= 0 && !s.Needed()) {
			return at.broken
		}
		poke(beats)
		if stopping || at.roots >= most {
			s.pause(ctx, stopping)
			continue
		}
		if err := l.SetDeadline(time.Now().Add(s.wait(at.active > 0 || looked && left <= 0, left))); err != nil {
			return err
		}
		if ctx.Err() != nil { // it may have come before the deadline was set
			continue
		}
		var err error
		if looked, err = s.acceptOne(ctx, l, feed); err != nil {
			return err
		}
	}
}

// wait is how long the loop waits for a connection.
func (s *Server) wait(busy bool, left time.Duration) time.Duration {
	if busy {
		return s.Tick
	}
	return min(s.Tick, max(left, time.Millisecond))
}

// acceptOne waits for one connection and hands it on. none says that none came. An
// error ends the loop.
func (s *Server) acceptOne(ctx context.Context, l *net.UnixListener, feed *feed) (none bool, err error) {
	c, err := l.AcceptUnix()
	switch {
	case err == nil:
		s.take(ctx, c, l, feed)
	case isTimeout(err):
		return true, nil
	case errors.Is(err, net.ErrClosed):
		return false, err
	default: // no descriptors are left, for example: it passes
		s.refusals.note(ownFaults, "accept a call: "+err.Error())
		s.pause(ctx, false)
	}
	return false, nil
}

// take hands a connection on, unless its user has too many, or may make no call
// anyway.
func (s *Server) take(ctx context.Context, c *net.UnixConn, l *net.UnixListener, feed *feed) {
	who, err := s.Caller(c)
	switch {
	case err != nil:
		err = fmt.Errorf("find out which user calls: %w", err)
	case !who.Root && !who.Member:
		err = notAllowed(who)
	}
	if err != nil {
		s.refusals.note(strangers, fmt.Sprintf("refused user %d: %v", who.UID, err))
		turnAway(ctx, c, http.StatusForbidden, err)
		return
	}
	if full := s.limits.connect(who, time.Now()); full != nil {
		s.refusals.note(userOf(who), "refused a connection: "+full.Error())
		turnAway(ctx, c, http.StatusTooManyRequests, full)
		return
	}
	s.count(who, 1)
	feed.conns <- &conn{UnixConn: c, who: who, closed: func() {
		s.limits.disconnect(who)
		s.count(who, -1)
		_ = l.SetDeadline(time.Now()) // look whether that was the last one
	}}
}

// turnAway answers a connection that has said nothing yet, and closes it. It never
// waits: the answer fits into the socket's own memory.
func turnAway(ctx context.Context, c *net.UnixConn, status int, why error) {
	defer c.Close() //nolint:errcheck // nothing was written to it that has to arrive
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	text, err := json.Marshal(line{Error: faultOf(context.WithoutCancel(ctx), why), End: true})
	if err != nil {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), len(text)+1, text)
	_ = raw.Control(func(fd uintptr) {
		_, _ = unix.SendmsgN(int(fd), b.Bytes(), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) // one who is gone cannot be told
	})
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// pause lets calls under way end.
func (s *Server) pause(ctx context.Context, stopping bool) {
	t := time.NewTimer(min(s.Tick, 50*time.Millisecond))
	defer t.Stop()
	if stopping {
		<-t.C
		return
	}
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// poke has a goroutine do what it does, once, however often it is poked.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// showLife calls Alive after turns of the loop, and only after those. It is not in
// the loop itself: what it tells may not be taken at once.
func (s *Server) showLife(beats <-chan struct{}) {
	pause := min(s.Tick, beatPause)
	for range beats {
		s.Alive(s.under())
		time.Sleep(pause)
	}
}

// feed hands accepted connections to the HTTP server.
type feed struct {
	conns  chan net.Conn
	closed chan struct{}
	addr   net.Addr
}

func newFeed(addr net.Addr) *feed {
	// There is room for all that may be there at once: the loop that accepts them
	// waits for no reader.
	return &feed{conns: make(chan net.Conn, most+membersConns), closed: make(chan struct{}), addr: addr}
}

func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

// Close is called by the HTTP server when it ends, which it does when closed is.
func (f *feed) Close() error   { return nil }
func (f *feed) Addr() net.Addr { return f.addr }

// conn is of one caller, and tells when it is closed.
type conn struct {
	*net.UnixConn
	who    Caller
	once   sync.Once
	closed func()
}

func (c *conn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(c.closed)
	return err
}

type connKey struct{}
