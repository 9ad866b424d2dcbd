package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
)

// The steps of which a failure is remembered.
const (
	StepSnapshot = "snapshot"
	StepShip     = "ship"
	StepPrune    = "prune"
)

// Failure is how one step of a group failed last. It is remembered until the
// step succeeds, for status: a timer fails where no user looks.
type Failure struct {
	Step  string    `json:"step"` // snapshot, ship or prune
	Since time.Time `json:"since"`
	Time  time.Time `json:"time"` // of the last one
	Times int       `json:"times"`
	What  string    `json:"what"`
	Do    string    `json:"do,omitempty"`
	Taken bool      `json:"taken,omitempty"` // of a snapshot: the restore point is there, and something went wrong beside it
}

// maxFailure bounds the text that is kept, in bytes.
const maxFailure = 600

func (a *Agent) failuresOf(group string) string {
	return filepath.Join(a.State, "failures", group+".json")
}

// failures are those of a group. What cannot be read was lost.
func (a *Agent) failures(group string) []Failure {
	if a.OnlyRepositories {
		return nil
	}
	text, err := os.ReadFile(a.failuresOf(group))
	var all []Failure
	if err != nil || json.Unmarshal(text, &all) != nil {
		return nil
	}
	return all
}

// noteOutcome remembers how a step of a group ended. A call that was
// interrupted, had to wait for another one, or was wrong says nothing about the
// group. What cannot be written costs nothing but that.
func (a *Agent) noteOutcome(ctx context.Context, group, step string, err error) {
	if a.OnlyRepositories || ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, advice.Busy) || errors.Is(err, advice.Usage) {
		return
	}
	all := a.failures(group)
	taken := step == StepSnapshot && errors.Is(err, advice.Partial)
	i := slices.IndexFunc(all, func(f Failure) bool { return f.Step == step })
	switch now := a.Now().UTC(); {
	case err == nil && i < 0:
		return
	case err == nil:
		all = slices.Delete(all, i, i+1)
	case i < 0:
		all = append(all, Failure{Step: step, Since: now, Time: now, Times: 1, What: short(err.Error()), Do: advice.Of(err), Taken: taken})
	default:
		all[i].Time, all[i].What, all[i].Do, all[i].Taken = now, short(err.Error()), advice.Of(err), taken
		all[i].Times++
	}
	if err := a.writeFailures(group, all); err != nil {
		a.warnOfError("", fmt.Errorf("remember the failures of group %s: %w", group, err))
	}
}

func (a *Agent) writeFailures(group string, all []Failure) error {
	name := a.failuresOf(group)
	if len(all) == 0 {
		if err := durable.Remove(name); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return durable.Write(name, append(text, '\n'), 0o600)
}

// short is a text in one line of bounded length.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxFailure {
		text = strings.ToValidUTF8(text[:maxFailure], "") + " …"
	}
	return text
}

// repeats tells whether a prune failed of what the ship before it failed of.
func (f Failure) repeats(other Failure) bool {
	_, cause, _ := strings.Cut(f.What, ": ") // without what was to be done
	return f.Step == StepPrune && other.Step == StepShip && cause != "" && strings.HasSuffix(other.What, cause)
}

// String is the failure for people.
func (f Failure) String() string {
	times := "the last " + f.Step + " failed"
	if f.Times > 1 {
		times = fmt.Sprintf("the last %d %ss failed, the first at %s", f.Times, f.Step, f.Since.Local().Format("2006-01-02 15:04"))
	}
	text := times + ": " + f.What
	if f.Taken {
		text = "the last restore point was taken, but: " + f.What
	}
	if f.Do != "" {
		text += "; " + f.Do
	}
	return text
}
