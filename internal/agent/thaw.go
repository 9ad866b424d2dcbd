package agent

import (
	"context"
	"fmt"

	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// Thaw recovers what a window whose process died left frozen, suspended or
// locked, and says what that was. Windows of living processes are not touched.
func (a *Agent) Thaw(ctx context.Context) ([]string, error) {
	o, done := recoveryOptions(ctx, a.Run, a.Engine, a.Report)
	defer done()
	recovered, err := freeze.Recover(ctx, o)
	out := []string{}
	for _, r := range recovered {
		out = append(out, fmt.Sprintf("%s (%s, frozen at %s)", r.Member, r.Outcome, r.Window.Format("15:04:05")))
	}
	out = append(out, a.unsuspend(ctx)...)
	return append(out, a.recoverHolds(ctx)...), err
}

// unsuspend resumes datasets that a killed command of their storage has left
// suspended.
func (a *Agent) unsuspend(ctx context.Context) (out []string) {
	for _, d := range a.Drivers {
		u, ok := d.(fs.Unsuspender)
		if !ok {
			continue
		}
		resumed, err := u.Unsuspend(ctx, a.known())
		out = append(out, resumed...)
		if err != nil {
			a.warnOfError("", err)
		}
	}
	return out
}

// known are the datasets that restore points were taken of, or are being.
func (a *Agent) known() (out []fs.Dataset) {
	for _, r := range []*point.Record{a.record, a.taking} {
		points, err := r.All()
		if err != nil {
			a.warnOfError("", err)
		}
		for _, p := range points {
			for _, d := range p.Datasets {
				out = append(out, datasetOf(d))
			}
		}
	}
	return out
}

// recoverHolds ends what keeps a lock for a killed snapd, and runs the hooks that
// it owes.
func (a *Agent) recoverHolds(ctx context.Context) []string {
	out := a.endOrphans()
	s, err := a.look(ctx)
	if err != nil {
		a.warnOfError("", err)
		s = &scene{}
	}
	defer s.close() //nolint:errcheck // only asked
	return append(out, a.keepPromises(ctx, s)...)
}
