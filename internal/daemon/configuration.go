package daemon

import (
	"fmt"
	"os"
	"sync"
	"time"

	"snapd/internal/config"
)

// keeper keeps the configuration of a running agent. A file that changed is
// read at the next call; while it is wrong, the old one stays in force.
type keeper struct {
	file   string
	parse  func() (*config.Config, error)
	now    func() time.Time
	mu     sync.Mutex
	conf   *config.Config
	readAt time.Time // when conf was read
	stamp  stamp     // of the file that was read last
	wrong  error     // why that one is not in force, nil if it is
}

// stamp tells whether a file is another than before.
type stamp struct {
	size  int64
	mtime time.Time
	none  bool
}

func (k *keeper) look() stamp {
	info, err := os.Stat(k.file)
	if err != nil {
		return stamp{none: true}
	}
	return stamp{size: info.Size(), mtime: info.ModTime()}
}

// reload reads the file. An error means that the old one stays in force.
func (k *keeper) reload() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.load()
}

func (k *keeper) load() error {
	k.stamp = k.look()
	conf, err := k.parse()
	k.wrong = err
	if err == nil {
		k.conf, k.readAt = conf, k.now()
	}
	return err
}

// current returns the configuration in force, and a warning when that is not
// what lies in the file. It fails only if there has never been a good one.
func (k *keeper) current() (_ *config.Config, warning, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conf == nil || k.look() != k.stamp {
		_ = k.load() // the error is in wrong
	}
	if k.conf == nil {
		return nil, nil, k.wrong
	}
	if k.wrong != nil {
		warning = fmt.Errorf("the configuration is wrong, and the one read at %s stays in force: %w", k.readAt.Format("15:04:05"), k.wrong)
	}
	return k.conf, warning, nil
}
