package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/s3"
)

// asked is a bucket that answers.
type asked struct {
	honours bool
	facts   s3.Facts
	err     error
	locks   error // why locks cannot be extended
}

func (a asked) Probe(context.Context) (bool, error)            { return a.honours, a.err }
func (a asked) Inspect(context.Context) (s3.Facts, error)      { return a.facts, a.err }
func (a asked) ProbeLock(context.Context, ship.LockMode) error { return a.locks }

// TestWhatABucketLacks: what does not work fails, what is only less safe warns, and
// what this host may not ask is no fault.
func TestWhatABucketLacks(t *testing.T) {
	locked := s3.Facts{ObjectLock: true, LockMode: "GOVERNANCE", LockDays: 30}
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	base := func(age, left time.Duration) *ship.BaseLock {
		return &ship.BaseLock{Base: now.Add(-age), Until: now.Add(left), Newest: now}
	}
	denied := fmt.Errorf("try: %w", ship.ErrDenied)
	none := fmt.Errorf("try: %w", errors.ErrUnsupported)
	for name, c := range map[string]struct {
		bucket             asked
		base               *ship.BaseLock // of the newest stream
		writes, protection Level
		says, do           string // of the protection
	}{
		"safe":            {asked{honours: true, facts: locked}, base(29*day, 29*day), OK, OK, "of 2026-10-28, is locked until 2026-12-25", ""},
		"no increment":    {asked{honours: true, facts: locked}, &ship.BaseLock{}, OK, OK, "locked for 30 days (GOVERNANCE)", ""},
		"overwrites":      {asked{facts: locked}, nil, Warn, OK, "", ""},
		"unlocked":        {asked{honours: true}, nil, OK, Warn, "no object lock", "object lock"},
		"no default":      {asked{honours: true, facts: s3.Facts{ObjectLock: true}}, nil, OK, Warn, "", "retention"},
		"not to ask":      {asked{honours: true, facts: s3.Facts{Unknown: []string{"object lock"}}}, nil, OK, OK, "no right", ""},
		"out of reach":    {asked{err: errors.New("no route")}, nil, Fail, Fail, "", ""},
		"locks are over":  {asked{honours: true, facts: locked}, base(31*day, -day), OK, Warn, "locked until 2026-11-25", "ship a restore point"},
		"never locked":    {asked{honours: true, facts: locked}, &ship.BaseLock{Base: now.Add(-day), Newest: now}, OK, Warn, "is not locked", "ship a restore point"},
		"no right":        {asked{honours: true, facts: locked, locks: denied}, base(9*day, 21*day), OK, Warn, "of 2026-11-17, is locked until 2026-12-17", "s3:PutObjectRetention"},
		"no right, full":  {asked{honours: true, facts: locked, locks: denied}, nil, OK, Warn, "cannot extend", "full-every = \"15d\""},
		"nothing known":   {asked{honours: true, facts: locked, locks: denied}, &ship.BaseLock{Base: now.Add(-day), Newest: now, Unknown: true}, OK, Warn, "2026-12-25 if", "s3:GetObjectRetention"},
		"cannot extend":   {asked{honours: true, facts: locked, locks: none}, nil, OK, Warn, "cannot be extended", "full-every = \"15d\""},
		"fails to extend": {asked{honours: true, facts: locked, locks: errors.New("no route")}, nil, OK, Fail, "no route", ""},
	} {
		t.Run(name, func(t *testing.T) {
			protection := probeProtection(t.Context(), c.bucket, c.base)
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
