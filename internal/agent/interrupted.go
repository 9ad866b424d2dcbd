package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"snapd/internal/fs"
)

// interruptedPatience is how long status waits for a storage to say which restores
// were interrupted: one whose devices do not answer may never do.
const interruptedPatience = time.Second

// interrupted are the restores that were, as each storage says.
func (a *Agent) interrupted(ctx context.Context) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a.Drivers)) {
		if lister, ok := a.Drivers[name].(fs.InterruptedLister); ok {
			out = append(out, a.interruptedOn(ctx, name, lister)...)
		}
	}
	return out
}

// interruptedLook is one question to a storage. Calls that come together share it.
type interruptedLook struct {
	begun time.Time
	done  chan struct{}
	said  []string // after done
}

// interruptedOn asks one storage. A question that is not answered is left behind,
// and not asked again before it is.
func (a *Agent) interruptedOn(ctx context.Context, name string, lister fs.InterruptedLister) []string {
	look := &interruptedLook{begun: time.Now(), done: make(chan struct{})}
	if before, still := a.asking.LoadOrStore(name, look); still {
		look = before.(*interruptedLook) //nolint:forcetypeassert // nothing else is stored
	} else {
		// What one caller does not wait for, another one may.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthLimit)
		go func() {
			defer cancel()
			said, err := lister.Interrupted(limited)
			if err != nil {
				said = append(said, err.Error())
			}
			look.said = said
			a.asking.Delete(name)
			close(look.done)
		}()
	}
	enough := time.NewTimer(time.Until(look.begun.Add(interruptedPatience)))
	defer enough.Stop()
	select {
	case <-look.done:
		return look.said
	case <-ctx.Done():
		return nil
	case <-enough.C:
		return []string{fmt.Sprintf("%s does not answer which restores were interrupted", name)}
	}
}
