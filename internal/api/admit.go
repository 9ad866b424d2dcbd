package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
)

const (
	// maxRequest bounds a request of root, in bytes, and maxMemberRequest one of a
	// member: that is two hundred groups with the longest names.
	maxRequest       = 1 << 20
	maxMemberRequest = 16 << 10
	// maxWord bounds the name of a group that is looked for, or of a point, in bytes.
	maxWord = 256
	// namedInLog is how many groups of a call a line of the journal names.
	namedInLog = 5
)

// names are groups, each of them once: a caller who says one name a hundred thousand
// times asks for one group.
type names []string

// UnmarshalJSON reads one name after the other, so that the first wrong one ends it,
// and that what is said twice takes no room.
func (n *names) UnmarshalJSON(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	switch open, err := dec.Token(); {
	case err != nil:
		return err
	case open == nil: // null
		return nil
	case open != json.Delim('['):
		return errors.New("groups is no list")
	}
	seen := map[string]bool{}
	for dec.More() {
		word, err := dec.Token()
		if err != nil {
			return err
		}
		name, is := word.(string)
		switch {
		case !is:
			return errors.New("a group's name is a text")
		case seen[name]:
			continue
		case len(name) > maxWord:
			return fmt.Errorf("a group's name of %d bytes", len(name))
		}
		if err := agent.CheckGroupName(name); err != nil {
			return err
		}
		seen[name] = true
		*n = append(*n, name)
	}
	return nil
}

// String names a few of them.
func (n names) String() string {
	if len(n) <= namedInLog {
		return strings.Join(n, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(n[:namedInLog], " "), len(n)-namedInLog)
}

// check refuses what no command sends.
func (r request) check() error {
	for _, word := range []string{r.Group, r.Point} {
		if len(word) > maxWord {
			return fmt.Errorf("%.20q… has %d bytes, and no name is that long", word, len(word))
		}
	}
	return nil
}

// admit reads the request and decides whether its sender may make it. Users who may
// make no call at all do not come this far. A caller that was admitted must leave.
func (s *Server) admit(r *http.Request, o op) (who Caller, req request, err error) {
	c, err := connOf(r)
	if err != nil {
		return who, req, err
	}
	who = c.who
	text, err := body(r, who)
	if err != nil {
		return who, req, advice.Usagef("read the request: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil { // its caller may wait for days
		return who, req, err
	}
	if err := s.limits.enter(who); err != nil { // before the work of reading what it means
		return who, req, err
	}
	if err := decode(text, &req); err != nil {
		s.limits.leave(who)
		return who, req, advice.Usagef("read the request: %w", err)
	}
	if !who.Root && o.may(req) != members {
		s.limits.leave(who)
		return who, req, notAllowed(who)
	}
	return who, req, nil
}

// connOf is the connection of a request. From now on its sender has headerPatience
// for the rest of what it sends, also for what is not wanted.
func connOf(r *http.Request) (*conn, error) {
	c, ok := r.Context().Value(connKey{}).(*conn)
	if !ok {
		return nil, errors.New("the connection is not known")
	}
	return c, c.SetReadDeadline(time.Now().Add(headerPatience))
}

// body reads a request to its end: from there on, its caller's going away is noticed.
func body(r *http.Request, who Caller) ([]byte, error) {
	most := int64(maxRequest)
	if !who.Root {
		most = maxMemberRequest
	}
	if r.ContentLength > most {
		return nil, fmt.Errorf("it is too large: %d bytes, of %d that there may be", r.ContentLength, most)
	}
	return io.ReadAll(http.MaxBytesReader(nil, r.Body, most))
}

func decode(text []byte, req *request) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(req); err != nil {
		return err
	}
	return req.check()
}

func notAllowed(who Caller) error {
	if who.Member {
		return advice.With(agent.ErrNotRoot, "run it as root, for example with sudo: members of the group snapd-agent may list, show, see the status and take snapshots only")
	}
	return advice.With(agent.ErrNotRoot, "run it as root, or let root put you into the group snapd-agent, whose members may list, show, see the status and take snapshots")
}

// paced decides whether a caller may have restore points of groups now. What a
// member names is looked up before it counts or waits for anything.
func (s *Server) paced(ctx context.Context, o op, who Caller, req request) error {
	if who.Root || o.path != pathDo || len(req.Groups) == 0 {
		return nil
	}
	if err := s.Known(ctx, req.Groups); err != nil {
		return err
	}
	newest, err := s.Newest()
	if err != nil {
		return err
	}
	return s.limits.snapshot(req.Groups, newest, time.Now())
}
