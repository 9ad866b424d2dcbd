// Package api is the agent's calls over HTTP and JSON on a Unix socket: a
// server and a client of one Go interface, with the events of a call as they
// happen. It decides which user may call what. It knows neither systemd nor how a
// call is carried out: it is given the listener, the callers and the agent.
//
// One connection carries one call. A client that half-closes it cancels the
// call and still gets its answer. A client that goes away cancels it too.
package api

import (
	"context"
	"errors"

	"snapd/internal/agent"
	"snapd/internal/point"
)

// Calls are what the agent does for others, in this process or through a
// socket. *agent.Agent is one; a Client is another. All of them may be called
// at once.
type Calls interface {
	// Do takes, ships and prunes, as the steps say. No groups means all, except
	// for a snapshot, which needs their names.
	Do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error)
	// Prune applies retention, or only says what it would do.
	Prune(ctx context.Context, groups []string, dryRun bool) (agent.Pruned, error)
	// List returns the restore points of a group, "" for all.
	List(ctx context.Context, group string) ([]point.Point, error)
	// Show returns one restore point by what a person wrote.
	Show(ctx context.Context, wanted string) (point.Point, error)
	// Status says how each group stands.
	Status(ctx context.Context) (agent.Status, error)
}

// HandsOn is what a Calls may be, too: one that knows when what is left of its Do can
// be gone on with by another agent.
type HandsOn interface {
	// CanGoOn tells whether all restore points of the call are taken, so that Do,
	// cancelled from now on, says what is left of it. It may be called at any time.
	CanGoOn() bool
}

// Caller is the user at the other end of a connection, as the kernel says.
type Caller struct {
	UID    int
	Root   bool
	Member bool // of the group that may list, show, see status and take snapshots
}

// Causes of a call's end that its caller did not ask for. The server's context
// is cancelled with one of them.
var (
	// ErrStopping means that the agent ends and stays away.
	ErrStopping = errors.New("the agent was stopped")
	// ErrRestarting means that another agent takes over at once: what can go
	// on is called again by the client.
	ErrRestarting = errors.New("the agent is being restarted")
	// ErrShutdown means that this host is going down.
	ErrShutdown = errors.New("this host is shutting down")
)

// Errors of a client.
var (
	// ErrNoAgent means that no agent listens: there is no socket, or it is dead.
	ErrNoAgent = errors.New("no agent listens on this host")
	// ErrLost means that the agent ended before it answered.
	ErrLost = errors.New("the agent ended before it answered")
)
