package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"snapd/internal/ship/s3"
)

// asked is a bucket that answers.
type asked struct {
	honours bool
	facts   s3.Facts
	err     error
}

func (a asked) Probe(context.Context) (bool, error)       { return a.honours, a.err }
func (a asked) Inspect(context.Context) (s3.Facts, error) { return a.facts, a.err }

// TestWhatABucketLacks: what does not work fails, what is only less safe warns, and
// what this host may not ask is no fault.
func TestWhatABucketLacks(t *testing.T) {
	locked := s3.Facts{ObjectLock: true, LockMode: "GOVERNANCE", LockDays: 30}
	for name, c := range map[string]struct {
		bucket             asked
		oldest             time.Duration // stream that a point needs
		writes, protection Level
	}{
		"safe":           {asked{honours: true, facts: locked}, 29 * day, OK, OK},
		"overwrites":     {asked{facts: locked}, 0, Warn, OK},
		"unlocked":       {asked{honours: true}, 0, OK, Warn},
		"no default":     {asked{honours: true, facts: s3.Facts{ObjectLock: true}}, 0, OK, Warn},
		"not to ask":     {asked{honours: true, facts: s3.Facts{Unknown: []string{"object lock"}}}, 0, OK, OK},
		"out of reach":   {asked{err: errors.New("no route")}, 0, Fail, Fail},
		"locks are over": {asked{honours: true, facts: locked}, 31 * day, OK, Warn},
	} {
		t.Run(name, func(t *testing.T) {
			for _, got := range []struct {
				Check
				want Level
			}{{probeWrites(t.Context(), c.bucket), c.writes}, {probeProtection(t.Context(), c.bucket, c.oldest), c.protection}} {
				if got.level() != got.want || got.OK != (got.want == OK) {
					t.Errorf("%+v, want %s", got.Check, got.want)
				}
			}
		})
	}
}

func TestChecksThatAreNotWellNeedAttention(t *testing.T) {
	checks := []Check{well("a", "is well"), {Check: "b", Level: Warn, Why: "weak", Do: "x"}, {Check: "c", Why: "broken", Do: "y"}}
	if err := Failed(checks[:1]); err != nil {
		t.Error(err)
	}
	if err := Failed(checks[:2]); err == nil || err.Error() != "1 check needs attention" {
		t.Error(err)
	}
	if err := Failed(checks); err == nil || err.Error() != "2 checks need attention" {
		t.Error(err)
	}
	checks[2].Level = checks[2].level()
	text, err := json.Marshal(checks[2])
	if want := `{"check":"c","level":"fail","ok":false,"why":"broken","do":"y"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
}

// TestTheStateDirectoryIsWritten: what cannot be written to is no place for the
// record, and nothing is left behind in one that can.
func TestTheStateDirectoryIsWritten(t *testing.T) {
	dir := t.TempDir()
	if c := memory(dir); !c.OK || !strings.Contains(c.Why, dir) {
		t.Errorf("%+v", c)
	}
	if c := memory(dir + "/missing"); c.OK || c.Do == "" || c.level() != Fail {
		t.Errorf("%+v", c)
	}
}
