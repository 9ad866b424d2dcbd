package agent

import (
	"context"
	"fmt"

	"snapd/internal/freeze"
)

// Thaw lets go of whatever a window left behind whose process died, and says
// what that was. Windows of living processes are not touched.
func (a *Agent) Thaw(ctx context.Context) ([]string, error) {
	o, done := recoveryOptions(ctx, a.Run, a.Engine, a.Report)
	defer done()
	recovered, err := freeze.Recover(ctx, o)
	out := []string{}
	for _, r := range recovered {
		out = append(out, fmt.Sprintf("%s (%s, frozen at %s)", r.Member, r.Outcome, r.Window.Format("15:04:05")))
	}
	return append(out, a.mendHolds(ctx)...), err
}

// mendHolds ends what keeps a lock for a killed snapd, and runs the hooks that
// it owes.
func (a *Agent) mendHolds(ctx context.Context) []string {
	out := a.endOrphans()
	s, err := a.look(ctx)
	if err != nil {
		a.warn("", "%v", err)
		s = &scene{}
	}
	defer s.close() //nolint:errcheck // only asked
	return append(out, a.keepPromises(ctx, s)...)
}
