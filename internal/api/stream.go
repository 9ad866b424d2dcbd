package api

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"snapd/internal/agent"
)

const (
	// progressEvery is how often a client hears how far a step is.
	progressEvery = 100 * time.Millisecond
	// maxWaiting is how many events wait for a client that does not read;
	// those after them are dropped, the result is not.
	maxWaiting = 1000
)

// stream sends events while a call goes on. Reporting never waits for the
// client: a client that was suspended must not hold up a ship or a thaw.
type stream struct {
	out  output
	mu   sync.Mutex
	wait []line
	how  *line // the newest progress, nil when it was sent
	wake chan struct{}
	stop chan struct{}
	done chan struct{}
}

// output is where a stream goes to.
type output interface {
	io.Writer
	// hurry bounds what is being written and what will be.
	hurry(d time.Duration)
}

// endPatience is how long a client that does not read keeps its answer waiting, and
// memberEndPatience how long that of a member: its answer takes memory, and a slot.
const (
	endPatience       = 30 * time.Second
	memberEndPatience = 5 * time.Second
)

func newStream(out output) *stream {
	s := &stream{out: out, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

func (s *stream) report(e agent.Event) {
	s.mu.Lock()
	l := line{Event: wireEvent(e)}
	if e.Kind == agent.Progress {
		s.how = &l
	} else if len(s.wait) < maxWaiting {
		s.wait = append(s.wait, l)
	}
	s.mu.Unlock()
	if e.Kind != agent.Progress {
		s.poke()
	}
}

func (s *stream) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) run() {
	defer close(s.done)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	enc := json.NewEncoder(s.out)
	for {
		select {
		case <-s.wake:
		case <-tick.C:
		case <-s.stop:
			return
		}
		for _, l := range s.take() {
			if enc.Encode(l) != nil {
				return // the client is gone; its call is being cancelled
			}
		}
	}
}

func (s *stream) take() []line {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.wait
	s.wait = nil
	if s.how != nil {
		out = append(out, *s.how)
		s.how = nil
	}
	return out
}

// end sends what still waits, then the answer. Nothing may be reported after.
func (s *stream) end(last answer, patience time.Duration) error {
	close(s.stop)
	s.out.hurry(patience)
	<-s.done
	enc := json.NewEncoder(s.out)
	for _, l := range s.take() {
		if err := enc.Encode(l); err != nil {
			return err
		}
	}
	last.End = true
	err := enc.Encode(last)
	if last.Result != nil && unsayable(err) {
		last.Result = nil // nothing of it was written
		err = enc.Encode(last)
	}
	return err
}

// unsayable tells whether an error means that a value has no JSON.
func unsayable(err error) bool {
	_, byItself := errors.AsType[*json.MarshalerError](err)
	_, value := errors.AsType[*json.UnsupportedValueError](err)
	return byItself || value
}
