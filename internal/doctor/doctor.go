// Package doctor is every check of snapd doctor, one file a subject: it looks at
// this host, its storage, its groups, systemd and the repositories, and says what
// is wrong and what to do. It repairs nothing, and takes no restore point.
package doctor

import (
	"context"
	"errors"
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship/s3"

	systemd "snapd/internal/host"
)

// Level is how a check ended.
type Level string

// The levels, from the best.
const (
	OK   Level = "ok"   // there is nothing to do
	Warn Level = "warn" // it works, and less well or less safely than it could
	Fail Level = "fail" // something does not work
)

// Check is one thing that doctor looked at.
type Check struct {
	Check string `json:"check"`
	Level Level  `json:"level"` // Run fills it in: what is not OK, and does not say Warn, is Fail
	OK    bool   `json:"ok"`
	Why   string `json:"why"`
	Do    string `json:"do"` // "" when it is well
	Err   error  `json:"-"`  // why it is not well, for advice that only the caller knows; nil when Do says all
}

// Bucket is what lies behind the address of a repository on S3.
type Bucket interface {
	// Probe says whether the server refuses to overwrite when asked to. It puts
	// an object and removes it again, if it may.
	Probe(ctx context.Context) (honoursIfNoneMatch bool, err error)
	// Inspect asks for the bucket's protections. What this host has no right to
	// ask is in Unknown and no error.
	Inspect(ctx context.Context) (s3.Facts, error)
	// ProbeLock tries to extend the lock of an object that it puts, and that is
	// locked for a minute.
	ProbeLock(ctx context.Context, mode string) (s3.LockTry, error)
}

// Options are what the checks work with. All of them have to be set.
type Options struct {
	Agent *agent.Agent
	// Bucket gives what lies behind a repository, nil when that is no bucket. Its
	// error is not told: opening the repository has the same one.
	Bucket func(r config.Repository) (Bucket, error)
	// Units are what the configuration asks of systemd.
	Units systemd.Wanted
}

type doctor struct{ Options }

// Run makes all checks. A new one is a method in the file of its subject, and
// stands in that subject's list.
func Run(ctx context.Context, o Options) []Check {
	d := doctor{o}
	checks := d.host()
	checks = append(checks, d.programs()...)
	checks = append(checks, d.groups(ctx)...)
	checks = append(checks, d.repositories(ctx)...)
	checks = append(checks, d.service(ctx)...)
	for i, c := range checks {
		checks[i].Level = c.level()
	}
	return checks
}

func (c Check) level() Level {
	switch {
	case c.OK:
		return OK
	case c.Level == "":
		return Fail
	}
	return c.Level
}

func well(check, format string, args ...any) Check {
	return Check{Check: check, OK: true, Why: fmt.Sprintf(format, args...)}
}

func ill(check string, err error) Check {
	return Check{Check: check, Why: err.Error(), Do: advice.Of(err), Err: err}
}

// Failed counts the checks that are not well.
func Failed(checks []Check) error {
	n := 0
	for _, c := range checks {
		if !c.OK {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return errors.New(plural(n, "check needs attention", "checks need attention"))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
