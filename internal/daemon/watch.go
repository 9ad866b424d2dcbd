package daemon

import (
	"context"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
)

// watchEvery is how often the agent looks after what snapshots endanger: as
// often as LVM's own monitor.
const watchEvery = 10 * time.Second

// watch looks after pools and classic snapshots of LVM, during calls and
// between them, and says in the journal what had to be done. The next command
// says it to a person as well.
func (d *Daemon) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		var a *agent.Agent
		for {
			if a == nil {
				a = d.watcher()
			}
			if a != nil {
				d.watchOnce(ctx, a)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(watchEvery):
			}
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// watcher is an agent for that alone; nil while there is no valid configuration.
func (d *Daemon) watcher() *agent.Agent {
	conf, _, err := d.config.current()
	if err != nil {
		return nil // every call says so
	}
	o, err := d.Agent(conf, func(agent.Event) {})
	if err != nil {
		return nil // so does this
	}
	a, err := agent.New(o)
	if err != nil {
		return nil
	}
	return a
}

func (d *Daemon) watchOnce(ctx context.Context, a *agent.Agent) {
	told, live, err := a.Watch(ctx)
	if ctx.Err() != nil {
		return
	}
	for _, text := range told {
		d.Log.Warn(text)
	}
	if err != nil && d.fault != err.Error() { // the same error is not repeated every ten seconds
		d.Log.Warn(err.Error(), "error", err.Error(), "do", advice.Of(err))
	}
	d.fault = ""
	if err != nil {
		d.fault = err.Error()
	}
	d.watching.Store(live)
}
