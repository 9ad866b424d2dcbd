// Package daemon is the running agent, as systemd starts it: it reads the
// configuration, lets calls take their turn, feeds the watchdog, says in one
// line what is under way, looks after endangered snapshots, ends when it is
// idle, and hands over to the next agent. What a call does is in internal/agent,
// and how calls arrive in internal/api. It parses no arguments and chooses no
// storage or store: what it needs of those is handed to it as functions.
package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/config"
	"snapd/internal/point"

	systemd "snapd/internal/host"
)

// aliveEvery is how often the agent's loop shows that it lives, unless systemd
// wants to see it more often.
const aliveEvery = 5 * time.Second

// Options are what a Daemon works with. All of them have to be set.
type Options struct {
	// File is the configuration. Load reads it; it is called again whenever the
	// file has changed, and never twice at once.
	File string
	Load func() (*config.Config, error)
	// Agent gives the options of the agent of one call. The daemon adds to them
	// what only a running agent has.
	Agent func(conf *config.Config, report agent.Report) (agent.Options, error)
	// Group is the group of this host whose members may take snapshots and look.
	Group int
	State string           // directory: where this host remembers its points
	Idle  time.Duration    // it ends when no call came for so long
	Now   func() time.Time // tells when a configuration was read
	Log   *slog.Logger
}

// Daemon is the agent as systemd runs it.
type Daemon struct {
	Options
	config *keeper
	turn   turn

	noLogind sync.Once     // said once
	under    chan []string // calls that are under way, for the status line
	mu       sync.Mutex
	labels   string // the schedules of labels as they were last seen

	watching atomic.Bool // there are snapshots that have to be watched while they live
	fault    string      // of the last watch; only watch uses it
}

// New makes a daemon. It reads nothing yet.
func New(o Options) *Daemon {
	return &Daemon{Options: o, config: &keeper{file: o.File, parse: o.Load, now: o.Now}, turn: newTurn(), under: make(chan []string, 1)}
}

// Serve answers calls until the daemon is idle or ctx ends, and closes the
// listener.
func (d *Daemon) Serve(ctx context.Context, l *net.UnixListener) error {
	if err := d.config.reload(); err != nil {
		// Every caller is told. If the agent ended, systemd would start it again
		// for the same call, until it gives up and closes the socket.
		d.Log.Error("the configuration is wrong, so that every call fails until it is corrected: "+err.Error(), "error", err.Error())
	}
	tick := aliveEvery
	if w := systemd.Watchdog(); w > 0 {
		tick = min(tick, w/3)
	}
	ctx, cancel := d.untilStopped(ctx)
	defer cancel()
	server := api.NewServer(api.Options{
		Calls: func(report agent.Report) (api.Calls, error) { return d.calls(ctx, report) },
		Caller: func(c *net.UnixConn) (api.Caller, error) {
			p, err := systemd.PeerOf(c)
			return api.Caller{UID: p.UID, Root: err == nil && p.UID == 0, Member: err == nil && p.Member(d.Group)}, err
		},
		Newest: d.newest,
		Known:  d.known,
		Reload: func() error { return d.reload(ctx) },
		Idle:   d.Idle,
		Needed: d.watching.Load,
		Tick:   tick,
		Alive:  d.alive,
		Log:    d.Log,
	})
	defer d.reloadOnHangup(ctx)()
	defer d.showStatus()()
	defer d.watch(ctx)()
	systemd.Ready()
	err := server.Serve(ctx, l)
	systemd.Stopping()
	if server.Retired() && d.watching.Load() {
		d.comeBack(ctx) // nothing may call for hours, and pools fill up
	}
	return err
}

// calls gives the agent of one call.
func (d *Daemon) calls(ctx context.Context, report agent.Report) (api.Calls, error) {
	conf, warning, err := d.config.current()
	if err != nil {
		return nil, err
	}
	if warning != nil {
		report(agent.WarningOf("", warning))
	}
	tellLacking(report)
	o, err := d.Agent(conf, report)
	if err != nil {
		return nil, err
	}
	inhibit := o.Inhibit
	o.Inhibit = func(why string) (func() error, error) {
		release, err := inhibit(why)
		if err != nil {
			d.sayNoLogind(err)
		}
		return release, err
	}
	o.Looked = func(all []agent.Schedule) { d.looked(ctx, all) }
	o.Turn = d.turn.wait
	taken := &atomic.Bool{}
	o.Taken = func() { taken.Store(true) }
	a, err := agent.New(o)
	if err != nil {
		return nil, err
	}
	return &patient{Agent: a, noLogind: d.sayNoLogind, taken: taken}, nil
}

func (d *Daemon) sayNoLogind(err error) {
	d.noLogind.Do(func() { d.Log.Warn(err.Error(), "error", err.Error()) })
}

// newest is when the record has the last restore point of each group.
func (d *Daemon) newest() (map[string]time.Time, error) {
	record, err := point.OpenRecord(filepath.Join(d.State, "points"))
	if err != nil {
		return nil, err
	}
	all, err := record.All()
	newest := map[string]time.Time{}
	for _, p := range all {
		if p.Time.After(newest[p.Group]) {
			newest[p.Group] = p.Time
		}
	}
	return newest, err
}

// known tells whether all of these are groups of this host.
func (d *Daemon) known(ctx context.Context, groups []string) error {
	conf, _, err := d.config.current()
	if err != nil {
		return err
	}
	o, err := d.Agent(conf, func(agent.Event) {}) // what there is to warn of, the call itself warns of
	if err != nil {
		return err
	}
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	return a.Known(ctx, groups)
}
