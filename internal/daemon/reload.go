package daemon

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	systemd "snapd/internal/host"
)

func (d *Daemon) reloadOnHangup(ctx context.Context) (stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	var all sync.WaitGroup
	all.Go(func() {
		for range hup {
			_ = d.reload(ctx) // it has said so
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
func (d *Daemon) reload(ctx context.Context) error {
	systemd.Reloading()
	defer systemd.Ready()
	if err := d.config.reload(); err != nil {
		d.Log.Error("the configuration is wrong, and the old one stays in force: "+err.Error(), "error", err.Error())
		return err
	}
	d.Log.Info("the configuration was read anew")
	d.start(ctx, systemd.LookService)
	return nil
}
