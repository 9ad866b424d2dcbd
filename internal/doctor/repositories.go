package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"
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
	for i, writes := range d.answers(ctx, names) {
		name := names[i]
		if errors.Is(writes.Err, ship.ErrUnavailable) { // all else would wait for it again
			writes.Check = "repository " + name
			out = append(out, writes)
			continue
		}
		checks, base := d.repository(ctx, name)
		out = append(out, checks...)
		if writes.Check != "" {
			out = append(out, writes)
		}
		out = append(out, d.bucket(ctx, d.Agent.Config.Repositories[name], base)...)
	}
	return out
}

// answerWithin is how long the server behind a repository may take to put and read
// a few bytes: a user who waits for doctor wants to hear of the rest too.
const answerWithin = 20 * time.Second

// answers probes the servers of all repositories at once; empty for those that have
// none.
func (d doctor) answers(ctx context.Context, names []string) []Check {
	out := make([]Check, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		bucket, err := d.Bucket(d.Agent.Config.Repositories[name])
		if err != nil || bucket == nil {
			continue // the check of the repository says so
		}
		all.Go(func() {
			within, cancel := context.WithTimeout(ctx, answerWithin)
			defer cancel()
			out[i] = probeWrites(within, bucket)
			if out[i].Err != nil && within.Err() != nil && ctx.Err() == nil {
				out[i] = ill(out[i].Check, fmt.Errorf("%w within %v", ship.ErrUnavailable, answerWithin))
			}
		})
	}
	all.Wait()
	return out
}

// repository looks at one. base is what the newest streams there build on, nil
// where the store does not say how long it is locked.
func (d doctor) repository(ctx context.Context, name string) (_ []Check, base *agent.BaseLock) {
	check := "repository " + name
	found, err := d.Agent.Examine(ctx, name)
	if err != nil {
		return []Check{ill(check, err)}, nil
	}
	return append([]Check{well(check, "is ours, signed as it should be, and holds %s", plural(found.Points, "restore point", "restore points"))}, contents(name, found)...), found.Base
}

// bucket says what the server behind a repository does and does not do.
func (d doctor) bucket(ctx context.Context, r config.Repository, base *agent.BaseLock) []Check {
	bucket, err := d.Bucket(r)
	if err != nil || bucket == nil {
		return nil // the check of the repository has said so
	}
	return []Check{probeProtection(ctx, bucket, base, d.fullEvery())}
}

// fullEvery is the longest that a group has, 0 when one has no limit.
func (d doctor) fullEvery() time.Duration {
	longest := time.Duration(0)
	for _, g := range d.Agent.Config.Groups {
		if g.FullEvery <= 0 {
			return 0
		}
		longest = max(longest, time.Duration(g.FullEvery))
	}
	return longest
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
