package agent

import (
	"context"
	"fmt"
	"time"

	"snapd/internal/workload"
)

// lateGrace is how long a run may take, and a timer's random delay, before a
// point is missed.
const lateGrace = 15 * time.Minute

// Late is that a group has no point of the last two times that its schedule
// names.
type Late struct {
	Since time.Time `json:"since"` // the first time without a point
	Timer string    `json:"timer"` // what is wrong with its timer, "" when nothing is seen there
}

// lateBy tells whether a group's newest point is older than two times of its
// schedule; nil when it is not, or that cannot be told here.
func (a *Agent) lateBy(ctx context.Context, g workload.Group, newest time.Time) *Late {
	if g.Schedule == "" || a.Elapses == nil {
		return nil
	}
	times, err := a.Elapses(ctx, string(g.Schedule), newest, 2)
	if err != nil || len(times) < 2 || !a.Now().After(times[1].Add(lateGrace)) {
		return nil
	}
	late := &Late{Since: times[0]}
	if a.TimerTrouble != nil {
		late.Timer = a.TimerTrouble(ctx, g.Name)
	}
	return late
}

// String is for people.
func (l Late) String() string {
	text := fmt.Sprintf("late: no restore point since %s, although its schedule names times after that", l.Since.Local().Format("2006-01-02 15:04"))
	if l.Timer != "" {
		text += ": " + l.Timer
	}
	return text
}
