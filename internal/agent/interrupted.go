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

// interruptedOn asks one storage. A question that is not answered is left behind,
// and not asked again before it is.
func (a *Agent) interruptedOn(ctx context.Context, name string, lister fs.InterruptedLister) []string {
	silent := []string{fmt.Sprintf("%s does not answer which restores were interrupted", name)}
	if _, still := a.asking.LoadOrStore(name, true); still {
		return silent
	}
	answer := make(chan []string, 1)
	go func() {
		defer a.asking.Delete(name)
		said, err := lister.Interrupted(ctx)
		if err != nil {
			said = append(said, err.Error())
		}
		answer <- said
	}()
	enough := time.NewTimer(interruptedPatience)
	defer enough.Stop()
	select {
	case said := <-answer:
		return said
	case <-ctx.Done():
		return nil
	case <-enough.C:
		return silent
	}
}
