package ship

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"snapd/internal/durable"
)

const (
	cacheLocks  = "locks.json"
	locksFormat = 1 // of that file, which never leaves the host

	// unlockedFor is how long a store without locks is not asked again.
	unlockedFor = 24 * time.Hour
)

// lockMemory is what a host remembers of the locks in a repository, so that no
// lock is asked for or extended twice. It may be lost.
type lockMemory struct {
	Format   int                  `json:"format"`
	Unlocked time.Time            `json:"unlocked"` // when a new object was last seen to have no lock; zero: never
	Refused  string               `json:"refused"`  // why locks could not be extended the last time; "": they could
	Until    map[string]time.Time `json:"until"`    // by stream, or repositoryLock: all its objects are locked at least so long
}

// repositoryLock stands for the repository's own description.
const repositoryLock = "repository"

// unlocked tells whether the store was just seen to lock nothing. A time in the
// future is one of a wrong clock.
func (m *lockMemory) unlocked(now time.Time) bool {
	age := now.Sub(m.Unlocked)
	return age >= 0 && age < unlockedFor
}

// lockMemory gives what is remembered. What cannot be read was lost.
func (c *Cache) lockMemory() *lockMemory {
	m := &lockMemory{Format: locksFormat, Until: map[string]time.Time{}}
	if c == nil {
		return m
	}
	text, err := os.ReadFile(filepath.Join(c.dir, cacheLocks))
	var read lockMemory
	if err != nil || json.Unmarshal(text, &read) != nil || read.Format != locksFormat || read.Until == nil {
		return m
	}
	return &read
}

// noteLocks remembers durably. Two processes may write at once: of what one of
// them forgets, more is asked for.
func (c *Cache) noteLocks(m *lockMemory, now time.Time) error {
	if c == nil {
		return nil
	}
	maps.DeleteFunc(m.Until, func(_ string, until time.Time) bool { return until.Before(now) })
	text, err := json.Marshal(m)
	if err == nil {
		err = durable.Write(filepath.Join(c.dir, cacheLocks), append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the locks of a repository: %w", err)
	}
	return nil
}
