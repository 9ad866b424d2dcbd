package main

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/doctor"
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
	r.RetryFor = min(r.RetryFor, 20*time.Second) // a person is waiting
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

// bucket is what lies behind a repository on S3, nil behind others.
func bucket(r config.Repository) (doctor.Bucket, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "s3" {
		return nil, err
	}
	return s3.New(s3Options(r, u))
}
