package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
)

// The paths of the calls. All are POST with a request as JSON.
const (
	pathDo     = "/v1/do"
	pathPrune  = "/v1/prune"
	pathList   = "/v1/list"
	pathShow   = "/v1/show"
	pathStatus = "/v1/status"
	pathReload = "/v1/reload"
	pathRetire = "/v1/retire"
)

// request is what any call needs; each looks at its own keys.
type request struct {
	Groups names       `json:"groups,omitempty"`
	Steps  agent.Steps `json:"steps,omitzero"`
	DryRun bool        `json:"dry_run,omitempty"`
	Group  string      `json:"group,omitempty"`
	Point  string      `json:"point,omitempty"`
}

// line is one line of an answer. Every answer ends with a line whose End is
// true; without it the agent ended too early.
type line struct {
	Event  *event          `json:"event,omitempty"`
	Result json.RawMessage `json:"result,omitempty"` // also beside an error: what was achieved
	Error  *fault          `json:"error,omitempty"`
	End    bool            `json:"end,omitempty"`
}

// answer is a last line as it is sent: its result goes straight to the caller,
// without a copy in between.
type answer struct {
	Result any    `json:"result,omitempty"`
	Error  *fault `json:"error,omitempty"`
	End    bool   `json:"end"`
}

type event struct {
	Kind  string   `json:"kind"`
	Group string   `json:"group,omitempty"`
	Text  string   `json:"text,omitempty"`
	Do    string   `json:"do,omitempty"`
	Kinds []string `json:"kinds,omitempty"` // of agent.ErrorNames
	Bytes int64    `json:"bytes,omitempty"`
	Total int64    `json:"total,omitempty"`
}

// eventKinds are the names of agent's kinds of events.
func eventKinds() []string {
	return []string{agent.Step: "step", agent.Warning: "warning", agent.Progress: "progress"}
}

func wireEvent(e agent.Event) *event {
	names := eventKinds()
	return &event{
		Kind: names[min(int(e.Kind), len(names)-1)], Group: e.Group, Text: e.Text, Do: e.Do, Kinds: e.Names, Bytes: e.Bytes, Total: e.Total,
	}
}

// event tells false for a kind that a newer agent knows and this client does not.
func (e *event) event() (agent.Event, bool) {
	kind := slices.Index(eventKinds(), e.Kind)
	return agent.Event{
		Kind: agent.EventKind(kind), Group: e.Group, Text: e.Text, Do: e.Do, Names: e.Kinds, Bytes: e.Bytes, Total: e.Total,
	}, kind >= 0
}

// fault is an error between two processes.
type fault struct {
	Why   string   `json:"why"`
	Do    string   `json:"do,omitempty"`
	Kinds []string `json:"kinds,omitempty"`
	Again bool     `json:"again,omitempty"` // another agent takes over: what is left can be called at once
	Parts []*fault `json:"parts,omitempty"` // of advice.Parts, when there are several
}

// faultOf says an error to another process. A call that was ended by the
// agent's own end says so instead of naming a cancelled context.
func faultOf(ctx context.Context, err error) *fault {
	if err == nil {
		return nil
	}
	cause := context.Cause(ctx)
	if !errors.Is(err, context.Canceled) {
		cause = nil // it failed by itself
	}
	for _, known := range []error{ErrStopping, ErrRestarting, ErrShutdown} {
		if errors.Is(cause, known) {
			return &fault{
				Why: known.Error() + "; nothing is frozen, and what was done so far is kept", Do: goOn(known),
				Kinds: slices.DeleteFunc(agent.ErrorNames(err), func(k string) bool { return k == "cancelled" }),
				Again: errors.Is(known, ErrRestarting),
			}
		}
	}
	out := plainFault(err)
	if parts := advice.Parts(err); len(parts) > 1 {
		for _, p := range parts {
			out.Parts = append(out.Parts, plainFault(p))
		}
	}
	return out
}

func plainFault(err error) *fault {
	return &fault{Why: err.Error(), Do: advice.Of(err), Kinds: agent.ErrorNames(err)}
}

func goOn(cause error) string {
	if errors.Is(cause, ErrShutdown) {
		return "do nothing: a ship that was under way goes on after the boot"
	}
	return "run the same command again: it goes on where it stopped"
}

// remote is an error that happened in the agent.
type remote struct {
	why   string
	kinds []error
	parts []error
}

var _ advice.Parted = (*remote)(nil)

func (r *remote) Error() string   { return r.why }
func (r *remote) Unwrap() []error { return slices.Concat(r.kinds, r.parts) }

// Parts is as advice.Parts says.
func (r *remote) Parts() []error { return r.parts }

// err is the error as the caller's own process would have had it. What helps
// against its kinds, where the agent did not say it, is for the caller to add.
func (f *fault) err() error {
	if f == nil {
		return nil
	}
	out := &remote{why: f.Why}
	for _, k := range f.Kinds {
		if known := agent.NamedError(k); known != nil {
			out.kinds = append(out.kinds, known)
		}
	}
	for _, p := range f.Parts {
		out.parts = append(out.parts, p.err())
	}
	if f.Do == "" || len(out.parts) > 0 { // each of them has its own
		return out
	}
	return advice.With(out, "%s", f.Do)
}

// stepsOf names steps as the commands do.
func stepsOf(s agent.Steps) string {
	switch {
	case s.Snapshot && s.Ship && s.Prune:
		return "run"
	case s.Snapshot && s.Ship:
		return "snapshot and ship"
	case s.Snapshot:
		return "snapshot"
	case s.Ship && s.Prune:
		return "ship and prune"
	case s.Ship:
		return "ship"
	case s.Prune:
		return "prune"
	}
	return "nothing"
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
