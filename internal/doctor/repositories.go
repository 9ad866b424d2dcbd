package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
)

// repositories looks whether each can be read and written, and what protects it.
func (d doctor) repositories(ctx context.Context) []Check {
	var out []Check
	names := slices.Sorted(maps.Keys(d.Agent.Config.Repositories))
	if len(names) == 0 {
		none := ill("repositories", advice.In(agent.NoRepository, errors.New("none is configured, so that restore points stay on this host, and are lost with it")))
		none.Level = Warn
		out = append(out, none)
	}
	for _, name := range names {
		checks, oldest := d.repository(ctx, name)
		out = append(out, checks...)
		out = append(out, d.bucket(ctx, d.Agent.Config.Repositories[name], oldest)...)
	}
	return out
}

// repository looks at one. oldest is the age of the oldest stream that a restore
// point there needs.
func (d doctor) repository(ctx context.Context, name string) (_ []Check, oldest time.Duration) {
	check := "repository " + name
	found, err := d.Agent.Examine(ctx, name)
	if err != nil {
		return []Check{ill(check, err)}, 0
	}
	if !found.Oldest.IsZero() {
		oldest = d.Agent.Now().Sub(found.Oldest)
	}
	return append([]Check{well(check, "is ours, signed as it should be, and holds %s", plural(found.Points, "restore point", "restore points"))}, contents(name, found)...), oldest
}

// bucket says what the server behind a repository does and does not do.
func (d doctor) bucket(ctx context.Context, r config.Repository, oldest time.Duration) []Check {
	bucket, err := d.Bucket(r)
	if err != nil || bucket == nil {
		return nil // the check of the repository has said so
	}
	return []Check{probeWrites(ctx, bucket), probeProtection(ctx, bucket, oldest)}
}

func probeWrites(ctx context.Context, bucket Bucket) Check {
	const name = "  write once"
	honours, err := bucket.Probe(ctx)
	switch {
	case err != nil:
		return ill(name, err)
	case !honours:
		return Check{
			Check: name, Level: Warn, Why: "the server ignores If-None-Match: two hosts with one signing key (a clone) could overwrite each other's points",
			Do: "give each host a key and prefix of its own, or use a server that honours conditional writes",
		}
	}
	return Check{Check: name, OK: true, Why: "the server refuses to overwrite an object when asked to"}
}

func probeProtection(ctx context.Context, bucket Bucket, oldest time.Duration) Check {
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
	case oldest > time.Duration(facts.LockDays)*day:
		return Check{
			Check: name, Level: Warn, Why: fmt.Sprintf("objects are locked for %s (%s), and restore points depend on streams that were put %s ago: their locks have ended", days(facts.LockDays), facts.LockMode, days(oldest/day)),
			Do: "set full-every to less than the lock, less what keep asks for, or lock for longer",
		}
	}
	return Check{Check: name, OK: true, Why: fmt.Sprintf("objects are locked for %s (%s)", days(facts.LockDays), facts.LockMode)}
}

const day = 24 * time.Hour

func days[T uint | time.Duration](n T) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
