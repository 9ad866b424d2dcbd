package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/s3"

	systemd "snapd/internal/host"
)

// openStore decides which store an address means. It asks no server.
func openStore(r config.Repository) (ship.Store, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return dir.New(filepath.Clean(u.Path))
	}
	return s3.New(s3Options(r, u))
}

// storeOfInit is openStore for a person who waits.
func storeOfInit(r config.Repository, report agent.Report) (ship.Store, error) {
	store, err := openStore(r)
	if err != nil {
		return nil, err
	}
	if d, ok := store.(*dir.Store); ok {
		return d, nil // which init can make
	}
	r.RetryFor = min(r.RetryFor, 20*time.Second) // somebody is waiting
	return retrying(store, r, report), nil
}

func s3Options(r config.Repository, u *url.URL) s3.Options {
	file := r.CredentialsFile
	for _, name := range []string{"snapd-agent.s3." + r.Name, "snapd-agent.s3"} {
		file = cmp.Or(file, systemd.Credential(name))
	}
	return s3.Options{
		Endpoint: r.Endpoint, Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"),
		Region: r.Region, CredentialsFile: file,
	}
}

// retrying tries again for as long as the repository's retry-for says, and
// tells why it waits.
func retrying(store ship.Store, r config.Repository, report agent.Report) ship.Store {
	return ship.Retry(store, ship.RetryPolicy{
		Total: r.RetryFor,
		Notify: func(err error, wait time.Duration) {
			report(agent.Event{Kind: agent.Warning, Text: fmt.Sprintf("repository %s: %v; trying again for up to %s", r.Name, err, r.RetryFor)})
		},
	})
}

// probe says what the server behind a repository does and does not do.
func probe(ctx context.Context, r config.Repository) []agent.Check {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "s3" {
		return nil
	}
	store, err := s3.New(s3Options(r, u))
	if err != nil {
		return nil // the check of the repository has said so
	}
	return []agent.Check{probeWrites(ctx, store), probeProtection(ctx, store)}
}

func probeWrites(ctx context.Context, store *s3.Store) agent.Check {
	const name = "  write once"
	honours, err := store.Probe(ctx)
	switch {
	case err != nil:
		return agent.Check{Check: name, Why: err.Error(), Do: agent.Hint(err)}
	case !honours:
		return agent.Check{
			Check: name, Why: "the server ignores If-None-Match: two hosts with one signing key (a clone) could overwrite each other's points",
			Do: "give each host a key and prefix of its own, or use a server that honours conditional writes",
		}
	}
	return agent.Check{Check: name, OK: true, Why: "the server refuses to overwrite an object when asked to"}
}

func probeProtection(ctx context.Context, store *s3.Store) agent.Check {
	const name = "  protection"
	facts, err := store.Inspect(ctx)
	switch {
	case err != nil:
		return agent.Check{Check: name, Why: err.Error(), Do: agent.Hint(err)}
	case len(facts.Unknown) > 0:
		return agent.Check{Check: name, OK: true, Why: "this host has no right to ask for " + strings.Join(facts.Unknown, " and ")}
	case !facts.ObjectLock || facts.LockMode == "":
		return agent.Check{
			Check: name, Why: "the bucket has no object lock with a default retention: whoever takes over this host could delete restore points",
			Do: "make a bucket with object lock and a default retention for the repository, or let this host's user only put and get, and set prune = false",
		}
	}
	return agent.Check{Check: name, OK: true, Why: fmt.Sprintf("objects are locked for %d days (%s)", facts.LockDays, facts.LockMode)}
}
