package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapd/internal/agent"
	"snapd/internal/ship/s3"
)

// probeProtection says what keeps an intruder on this host from destroying what
// lies in a bucket. base is what the newest streams build on, nil when the
// server does not say until when that is locked.
// fullEvery is how old a full stream may be that others build on, 0 for any age.
func probeProtection(ctx context.Context, bucket Bucket, base *agent.BaseLock, fullEvery time.Duration) Check {
	const name = "  protection"
	facts, err := bucket.Inspect(ctx)
	switch {
	case err != nil:
		return ill(name, err)
	case len(facts.Unknown) > 0:
		return Check{Check: name, OK: true, Why: "this host has no right to ask for " + strings.Join(facts.Unknown, " and ")}
	case !facts.ObjectLock || facts.LockMode == "":
		return Check{
			Check: name, Level: Warn, Why: "the bucket has no object lock with a default retention: an intruder on this host could delete restore points",
			Do: "make a bucket with object lock and a default retention for the repository, or let this host's user only put and get, and set prune = false",
		}
	}
	try, err := bucket.ProbeLock(ctx, facts.LockMode)
	if err != nil {
		return ill(name, err)
	}
	if !try.Extends && fits(facts, base, fullEvery) {
		return Check{
			Check: name, OK: true,
			Why: fmt.Sprintf("objects are locked for %s (%s); this host cannot extend locks, and full-every fits that: what restore points build on stays locked for at least half as long", days(facts.LockDays), facts.LockMode),
		}
	}
	return locks(name, facts, base, try)
}

// locks is for a bucket that locks what is put.
func locks(name string, facts s3.Facts, base *agent.BaseLock, try s3.LockTry) Check {
	locked := fmt.Sprintf("objects are locked for %s (%s)", days(facts.LockDays), facts.LockMode)
	oldest := ""
	if base != nil && !base.Base.IsZero() {
		oldest = fmt.Sprintf("; the oldest stream that restore points build on, of %s, is %s", date(base.Base), until(base, facts.LockDays))
	}
	fits := fmt.Sprintf("%dd", fitting(facts.LockDays))
	switch {
	case try.Denied:
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, but this host cannot extend locks%s: %s", locked, oldest, try.Why),
			Do: "give this host's user s3:PutObjectRetention and s3:GetObjectRetention below the prefix, so that each ship locks what it builds on for as long as itself; or set full-every = \"" + fits + "\", which fits the lock",
		}
	case !try.Extends:
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, but locks cannot be extended there%s: %s", locked, oldest, try.Why),
			Do: "set full-every = \"" + fits + "\", which fits the lock, or lock for longer",
		}
	case behind(base, facts.LockDays):
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, and this host can extend locks%s: that is before the locks end of what builds on it, of %s", locked, oldest, date(base.Newest)),
			Do: "ship a restore point, which extends them",
		}
	}
	return Check{Check: name, OK: true, Why: locked + ", and each ship locks what it builds on for as long as itself" + oldest}
}

// fitting is a full-every in days with which every restore point, and all that
// it builds on, is locked for at least half of what the bucket locks for.
func fitting(lockDays uint) uint { return max(lockDays/2, 1) }

// fits tells whether full streams come often enough where locks cannot be
// extended: by the configuration, and by what lies there.
func fits(facts s3.Facts, base *agent.BaseLock, fullEvery time.Duration) bool {
	if fullEvery == 0 || fullEvery > time.Duration(fitting(facts.LockDays))*day || base == nil || base.Unknown {
		return false
	}
	half := time.Duration(facts.LockDays) * day / 2
	return base.Base.IsZero() || !base.Until.Before(base.Newest.Add(half-time.Hour))
}

// behind tells whether a base's lock ends so much earlier than that of what
// builds on it that a ship would have extended it.
func behind(base *agent.BaseLock, lockDays uint) bool {
	if base == nil || base.Base.IsZero() || base.Unknown {
		return false
	}
	period := time.Duration(lockDays) * day
	return base.Until.Before(base.Newest.Add(period - period/10 - time.Hour))
}

func until(base *agent.BaseLock, lockDays uint) string {
	switch {
	case base.Unknown:
		return "locked until " + date(base.Base.Add(time.Duration(lockDays)*day)) + " if the bucket locked then as it does now"
	case base.Until.IsZero():
		return "not locked"
	}
	return "locked until " + date(base.Until)
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02") }

const day = 24 * time.Hour

func days[T uint | time.Duration](n T) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
