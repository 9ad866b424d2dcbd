package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/s3"
)

// probeProtection says what keeps an intruder on this host from destroying what
// lies in a bucket. base is what the newest streams build on, nil when the
// server does not say until when that is locked.
func probeProtection(ctx context.Context, bucket Bucket, base *ship.BaseLock) Check {
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
	return locks(name, facts, base, bucket.ProbeLock(ctx, ship.LockMode(facts.LockMode)))
}

// locks is for a bucket that locks what is put. refused is why locks cannot be
// extended, nil when they can.
func locks(name string, facts s3.Facts, base *ship.BaseLock, refused error) Check {
	locked := fmt.Sprintf("objects are locked for %s (%s)", days(facts.LockDays), facts.LockMode)
	oldest := ""
	if base != nil && !base.Base.IsZero() {
		oldest = fmt.Sprintf("; the oldest stream that restore points build on, of %s, is %s", date(base.Base), until(base, facts.LockDays))
	}
	fits := fitting(facts.LockDays)
	switch {
	case errors.Is(refused, ship.ErrDenied):
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, but this host cannot extend locks%s: %v", locked, oldest, refused),
			Do: "give this host's user s3:PutObjectRetention and s3:GetObjectRetention below the prefix, so that each ship locks what it builds on for as long as itself; or set full-every = \"" + fits + "\", which fits the lock",
		}
	case errors.Is(refused, errors.ErrUnsupported):
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, but locks cannot be extended there%s: %v", locked, oldest, refused),
			Do: "set full-every = \"" + fits + "\", which fits the lock, or lock for longer",
		}
	case refused != nil:
		return ill(name, refused)
	case behind(base, facts.LockDays):
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("%s, and this host can extend locks%s: that is before the locks end of what builds on it, of %s", locked, oldest, date(base.Newest)),
			Do: "ship a restore point, which extends them",
		}
	}
	return Check{Check: name, OK: true, Why: locked + ", and each ship locks what it builds on for as long as itself" + oldest}
}

// fitting is a full-every with which every restore point, and all that it
// builds on, is locked for at least half of what the bucket locks for.
func fitting(lockDays uint) string { return fmt.Sprintf("%dd", max(lockDays/2, 1)) }

// behind tells whether a base's lock ends so much earlier than that of what
// builds on it that a ship would have extended it.
func behind(base *ship.BaseLock, lockDays uint) bool {
	if base == nil || base.Base.IsZero() || base.Unknown {
		return false
	}
	period := time.Duration(lockDays) * day
	return base.Until.Before(base.Newest.Add(period - period/10 - time.Hour))
}

func until(base *ship.BaseLock, lockDays uint) string {
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
