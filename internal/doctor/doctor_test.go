package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"snapd/internal/agent"
	"snapd/internal/ship/s3"
)

// asked is a bucket that answers.
type asked struct {
	honours bool
	facts   s3.Facts
	err     error
	locks   s3.LockTry
	fails   error // of trying to extend a lock
}

func (a asked) Probe(context.Context) (bool, error)       { return a.honours, a.err }
func (a asked) Inspect(context.Context) (s3.Facts, error) { return a.facts, a.err }
func (a asked) ProbeLock(context.Context, string) (s3.LockTry, error) {
	if a.locks == (s3.LockTry{}) {
		a.locks.Extends = true
	}
	return a.locks, a.fails
}

// TestWhatABucketLacks: what does not work fails, what is only less safe warns, and
// what this host may not ask is no fault.
func TestWhatABucketLacks(t *testing.T) {
	locked := s3.Facts{ObjectLock: true, LockMode: "GOVERNANCE", LockDays: 30}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	base := func(age, left time.Duration) *agent.BaseLock {
		return &agent.BaseLock{Base: now.Add(-age), Until: now.Add(left), Newest: now}
	}
	denied := s3.LockTry{Denied: true, Why: "access denied"}
	none := s3.LockTry{Why: "not supported"}
	for name, c := range map[string]struct {
		bucket             asked
		base               *agent.BaseLock // of the newest stream
		writes, protection Level
		says, do           string // of the protection
		full               time.Duration
	}{
		"safe":            {asked{honours: true, facts: locked}, base(29*day, 29*day), OK, OK, "of 2026-10-28, is locked until 2026-12-25", "", 0},
		"no increment":    {asked{honours: true, facts: locked}, &agent.BaseLock{}, OK, OK, "locked for 30 days (GOVERNANCE)", "", 0},
		"overwrites":      {asked{facts: locked}, nil, Warn, OK, "", "", 0},
		"unlocked":        {asked{honours: true}, nil, OK, Warn, "no object lock", "object lock", 0},
		"no default":      {asked{honours: true, facts: s3.Facts{ObjectLock: true}}, nil, OK, Warn, "", "retention", 0},
		"not to ask":      {asked{honours: true, facts: s3.Facts{Unknown: []string{"object lock"}}}, nil, OK, OK, "no right", "", 0},
		"out of reach":    {asked{err: errors.New("no route")}, nil, Fail, Fail, "", "", 0},
		"locks are over":  {asked{honours: true, facts: locked}, base(31*day, -day), OK, Warn, "locked until 2026-11-25", "ship a restore point", 0},
		"never locked":    {asked{honours: true, facts: locked}, &agent.BaseLock{Base: now.Add(-day), Newest: now}, OK, Warn, "is not locked", "ship a restore point", 0},
		"no right":        {asked{honours: true, facts: locked, locks: denied}, base(9*day, 21*day), OK, Warn, "of 2026-11-17, is locked until 2026-12-17", "s3:PutObjectRetention", 0},
		"no right, full":  {asked{honours: true, facts: locked, locks: denied}, nil, OK, Warn, "cannot extend", "full-every = \"15d\"", 0},
		"nothing known":   {asked{honours: true, facts: locked, locks: denied}, &agent.BaseLock{Base: now.Add(-day), Newest: now, Unknown: true}, OK, Warn, "2026-12-25 if", "s3:GetObjectRetention", 0},
		"cannot extend":   {asked{honours: true, facts: locked, locks: none}, nil, OK, Warn, "cannot be extended", "full-every = \"15d\"", 0},
		"fits":            {asked{honours: true, facts: locked, locks: denied}, base(9*day, 21*day), OK, OK, "full-every fits", "", 15 * day},
		"fits, no base":   {asked{honours: true, facts: locked, locks: none}, &agent.BaseLock{}, OK, OK, "full-every fits", "", 15 * day},
		"does not fit":    {asked{honours: true, facts: locked, locks: denied}, base(9*day, 21*day), OK, Warn, "cannot extend", "15d", 16 * day},
		"not yet":         {asked{honours: true, facts: locked, locks: denied}, base(20*day, 10*day), OK, Warn, "cannot extend", "15d", 15 * day},
		"fails to extend": {asked{honours: true, facts: locked, fails: errors.New("no route")}, nil, OK, Fail, "no route", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			protection := probeProtection(t.Context(), c.bucket, c.base, c.full)
			for _, got := range []struct {
				Check
				want Level
			}{{probeWrites(t.Context(), c.bucket), c.writes}, {protection, c.protection}} {
				if got.level() != got.want || got.OK != (got.want == OK) {
					t.Errorf("%+v, want %s", got.Check, got.want)
				}
			}
			if !strings.Contains(protection.Why, c.says) || !strings.Contains(protection.Do, c.do) {
				t.Errorf("%+v, want %q and %q", protection, c.says, c.do)
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
