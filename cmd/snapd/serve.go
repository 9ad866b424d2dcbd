package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/api"
	"snapd/internal/point"

	systemd "snapd/internal/host"

	"github.com/spf13/cobra"
)

// aliveEvery is how often the agent's loop shows that it lives, unless systemd
// wants to see it more often.
const aliveEvery = 5 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	idle := time.Minute
	cmd := &cobra.Command{
		Use:     "serve",
		GroupID: "host",
		Short:   "Be the agent that systemd starts through snapd-agent.socket",
		Long: `Be the agent: answer the calls of other snapd commands on the socket that
systemd passed in, and end when nobody has called for a while. systemd starts it
again with the next call. Nobody needs to call this by hand.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, gid, err := systemd.Listener()
			if err != nil {
				return advice.In(advice.Usage, err)
			}
			s := &service{cli: c, log: systemd.Logger(c.stderr), config: &keeper{where: &c.where}, turn: make(chan struct{}, 1)}
			return s.serve(cmd.Context(), l, gid, idle)
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", idle, "end when nobody has called for so long")
	return cmd
}

// service is the agent as systemd runs it.
type service struct {
	cli    *cli
	log    *slog.Logger
	config *keeper
	turn   chan struct{} // holds whoever takes restore points

	noLogind sync.Once // said once
	mu       sync.Mutex
	shown    string // the status that systemd has
	labels   string // the schedules of labels as they were last seen
	freed    bool   // unused memory was given back since the last call

	watching atomic.Bool // there are snapshots that have to be watched while they live
	fault    string      // of the last watch; only watch uses it
}

func (s *service) serve(ctx context.Context, l *net.UnixListener, gid int, idle time.Duration) error {
	if err := s.config.reload(); err != nil {
		// Who calls is told. To end would leave systemd to start us again for
		// the same call, until it gives up and closes the socket.
		s.log.Error("the configuration is wrong, so that every call fails until it is mended: "+err.Error(), "error", err.Error())
	}
	tick := aliveEvery
	if w := systemd.Watchdog(); w > 0 {
		tick = min(tick, w/3)
	}
	ctx, cancel := s.untilStopped(ctx)
	defer cancel()
	server := api.NewServer(api.Options{
		Calls: func(report agent.Report) (api.Calls, error) { return s.calls(ctx, report) },
		Caller: func(c *net.UnixConn) (api.Caller, error) {
			p, err := systemd.PeerOf(c)
			return api.Caller{UID: p.UID, Root: err == nil && p.UID == 0, Member: err == nil && p.Member(gid)}, err
		},
		Newest: s.newest,
		Reload: func() error { return s.reload(ctx) },
		Idle:   idle,
		Needed: s.watching.Load,
		Tick:   tick,
		Alive:  func(calls []string) { s.alive(calls, idle) },
		Log:    s.log,
	})
	defer s.reloadOnHangup(ctx)()
	defer s.watch(ctx)()
	systemd.Ready()
	err := server.Serve(ctx, l)
	systemd.Stopping()
	return err
}

// untilStopped gives the context of all calls: it ends with the reason why the
// agent has to.
func (s *service) untilStopped(outer context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(outer))
	stop := context.AfterFunc(outer, func() {
		cause := api.ErrStopping
		if s.restarting(ctx) {
			cause = api.ErrRestarting
		}
		s.log.Info(cause.Error() + "; calls under way are ended")
		cancel(cause)
	})
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

func (s *service) restarting(ctx context.Context) bool {
	ctx, done := context.WithTimeout(ctx, 2*time.Second)
	defer done()
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return false
	}
	defer u.Close()
	return u.Restarting(ctx, systemd.AgentService)
}

func (s *service) reloadOnHangup(ctx context.Context) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	var all sync.WaitGroup
	all.Go(func() {
		for range hup {
			_ = s.reload(ctx) // it has said so
		}
	})
	return func() {
		signal.Stop(hup)
		close(hup)
		all.Wait()
	}
}

// reload reads the configuration anew. systemctl reload shows the error, and
// the old one stays in force.
func (s *service) reload(ctx context.Context) error {
	systemd.Reloading()
	defer systemd.Ready()
	if err := s.config.reload(); err != nil {
		s.log.Error("the configuration is wrong, and the old one stays in force: "+err.Error(), "error", err.Error())
		return err
	}
	s.log.Info("the configuration was read anew")
	s.start(ctx, systemd.LookService)
	return nil
}

// alive feeds the watchdog from the loop that accepts calls, and says in words
// what is under way.
func (s *service) alive(calls []string, idle time.Duration) {
	systemd.Alive()
	text := "Idle; ends when nobody has called for " + idle.String()
	if len(calls) > 0 {
		text = strings.Join(calls, "; ")
	} else if s.watching.Load() {
		text = "Idle; watches the pools of LVM as long as snapshots live there"
	}
	if _, warning, err := s.config.current(); err != nil {
		text = "Every call fails: " + err.Error() + " (" + text + ")"
	} else if warning != nil {
		text = warning.Error() + " (" + text + ")"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != s.shown {
		systemd.Status(text)
		s.shown = text
	}
	if len(calls) == 0 && !s.freed {
		debug.FreeOSMemory() // a waiting agent is in nobody's way
	}
	s.freed = len(calls) == 0
}

// calls gives the agent of one call.
func (s *service) calls(ctx context.Context, report agent.Report) (api.Calls, error) {
	conf, warning, err := s.config.current()
	if err != nil {
		return nil, err
	}
	if warning != nil {
		report(agent.WarningOf("", warning))
	}
	o, err := s.cli.where.options(conf, report)
	if err != nil {
		return nil, err
	}
	o.Inhibit = func(why string) (func() error, error) {
		release, err := inhibit(why)
		if err != nil {
			s.sayNoLogind(err)
		}
		return release, err
	}
	o.Looked = func(all []agent.Schedule) { s.looked(ctx, all) }
	o.Turn = s.wait
	a, err := agent.New(o)
	if err != nil {
		return nil, err
	}
	return &patient{Agent: a, noLogind: s.sayNoLogind}, nil
}

// wait lets one call after the other take restore points. They would wait for
// each other's window anyway, but not for as long as the timers of twenty groups
// after a boot need.
func (s *service) wait(ctx context.Context) (done func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *service) sayNoLogind(err error) {
	s.noLogind.Do(func() { s.log.Warn(err.Error(), "error", err.Error()) })
}

// newest is when the record has the last restore point of a group.
func (s *service) newest(group string) (newest time.Time, err error) {
	record, err := point.OpenRecord(filepath.Join(s.cli.where.state, "points"))
	if err != nil {
		return newest, err
	}
	all, err := record.All()
	for _, p := range all {
		if p.Group == group && p.Time.After(newest) {
			newest = p.Time
		}
	}
	return newest, err
}

// looked has the timers of labels written when their schedules changed. Another
// unit does it: this one may not write units.
func (s *service) looked(ctx context.Context, all []agent.Schedule) {
	var b strings.Builder
	for _, t := range all {
		if t.FromLabels {
			fmt.Fprintln(&b, t.Group, t.Calendar)
		}
	}
	s.mu.Lock()
	changed := b.String() != s.labels
	s.labels = b.String()
	s.mu.Unlock()
	if changed {
		s.start(ctx, systemd.LookService)
	}
}

// start has systemd start another unit of ours. Where it cannot, a timer does so
// later.
func (s *service) start(ctx context.Context, unit string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return
	}
	defer u.Close()
	if err := u.Start(ctx, unit); err != nil {
		s.log.Warn(err.Error(), "error", err.Error())
	}
}

// patient is an agent whose ships ask a shutdown to wait, and make way for it.
type patient struct {
	*agent.Agent
	noLogind func(error)
}

// Do is as api.Calls says.
func (p *patient) Do(ctx context.Context, groups []string, steps agent.Steps) (agent.Done, error) {
	if !steps.Ship {
		return p.Agent.Do(ctx, groups, steps)
	}
	why := "ships " + strings.Join(groups, ", ")
	if len(groups) == 0 {
		why = "ships what the repositories lack"
	}
	ctx, done, err := systemd.Delay(ctx, why, api.ErrShutdown)
	defer done()
	if err != nil {
		p.noLogind(err)
	}
	out, err := p.Agent.Do(ctx, groups, steps)
	if cause := context.Cause(ctx); errors.Is(cause, api.ErrShutdown) {
		out.Left = agent.Steps{}
		err = advice.With(errors.Join(err, cause), "do nothing: a ship that was under way goes on after the boot")
	}
	return out, err
}
