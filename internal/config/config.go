// Package config turns bytes into a validated Config, or into one error that
// names file, line and key. It is pure: it opens nothing, asks nobody, and
// knows neither storage nor containers. Labels of containers are read by the
// same rules as keys of the file.
package config

import (
	"maps"
	"slices"
	"time"
)

// Config is everything the configuration file says, checked, with defaults.
type Config struct {
	File         string // where it was read from, for errors
	Repositories map[string]Repository
	Groups       map[string]Settings // as written; a label may fill what is not set
}

// Repository is where restore points are shipped to.
type Repository struct {
	Name            string
	URL             string // s3://bucket/prefix or file:///directory
	Endpoint        string // S3 only: https://host:port
	Region          string // S3 only, "" lets the server say
	CredentialsFile string // S3 only: an AWS-style file; "" means environment or systemd credentials
	Recipients      []string
	SigningKeyFile  string
	Encryption      Encryption
	Prune           bool          // whether this host may delete there
	RetryFor        time.Duration // how long an unreachable repository is tried again

	Signer       string // public key that must have signed it; "" means that of SigningKeyFile
	Identity     string // age identities themselves, one a line, from a recovery kit
	IdentityFile string // where age identities lie; "" means only --identity

	SealedSigningKey string // from a recovery kit: the signing key, as an armored age file for Recipients; "" in most
}

// Defaults of keys, as they stand in snapd.toml(5).
const (
	DefaultFile           = "/etc/snapd-agent/snapd.toml"
	DefaultSigningKeyFile = "/etc/snapd-agent/signing.key"
	DefaultRetryFor       = 10 * time.Minute
	DefaultMaxWindow      = 5 * time.Second
	DefaultHoldTimeout    = 10 * time.Second
	DefaultHookTimeout    = 60 * time.Second
	DefaultKeepLocal      = 24 * time.Hour
)

// DefaultKeep is the policy of a group that names none.
func DefaultKeep() Keep { return Keep{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12} }

// Settings are the keys of a group as far as somebody wrote them: nil means
// not set.
type Settings struct {
	ComposeProject *string
	Containers     []string
	Units          []string
	Paths          []string
	Volumes        []string
	Freeze         *Freeze
	MaxWindow      *Duration
	HoldTimeout    *Duration
	HookTimeout    *Duration
	OnOverrun      *OnOverrun
	Schedule       *Schedule
	Repositories   []string
	KeepLocal      *Duration
	Keep           *Keep
	Commands       map[string]CommandSettings // by container or Compose service
}

// Group is what applies to a group once file, labels and defaults are joined.
type Group struct {
	Name           string
	ComposeProject string
	Containers     []string
	Units          []string
	Paths          []string
	Volumes        []string // only these of the members' mounts; empty means all
	Freeze         Freeze
	MaxWindow      time.Duration // freeze to thaw
	HoldTimeout    time.Duration // for a database's lock
	HookTimeout    time.Duration // for each hook
	OnOverrun      OnOverrun
	Schedule       string // systemd calendar expression, "" means none
	Repositories   []string
	KeepLocal      time.Duration
	Keep           Keep
}

// Over returns s with what it does not set taken from under: configuration
// beats labels, key by key.
func (s Settings) Over(under Settings) Settings {
	return Settings{
		ComposeProject: first(s.ComposeProject, under.ComposeProject),
		Containers:     firstList(s.Containers, under.Containers),
		Units:          firstList(s.Units, under.Units),
		Paths:          firstList(s.Paths, under.Paths),
		Volumes:        firstList(s.Volumes, under.Volumes),
		Freeze:         first(s.Freeze, under.Freeze),
		MaxWindow:      first(s.MaxWindow, under.MaxWindow),
		HoldTimeout:    first(s.HoldTimeout, under.HoldTimeout),
		HookTimeout:    first(s.HookTimeout, under.HookTimeout),
		OnOverrun:      first(s.OnOverrun, under.OnOverrun),
		Schedule:       first(s.Schedule, under.Schedule),
		Repositories:   firstList(s.Repositories, under.Repositories),
		KeepLocal:      first(s.KeepLocal, under.KeepLocal),
		Keep:           first(s.Keep, under.Keep),
		Commands:       s.Commands,
	}
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

func firstList(a, b []string) []string {
	if a != nil {
		return a
	}
	return b
}

// Group fills in the defaults. Without a key, a group ships to every
// configured repository.
func (c *Config) Group(name string, s Settings) Group {
	g := Group{
		Name:       name,
		Containers: s.Containers, Units: s.Units, Paths: s.Paths, Volumes: s.Volumes,
		ComposeProject: value(s.ComposeProject, ""),
		Freeze:         value(s.Freeze, FreezeAuto),
		MaxWindow:      time.Duration(value(s.MaxWindow, Duration(DefaultMaxWindow))),
		HoldTimeout:    time.Duration(value(s.HoldTimeout, Duration(DefaultHoldTimeout))),
		HookTimeout:    time.Duration(value(s.HookTimeout, Duration(DefaultHookTimeout))),
		OnOverrun:      value(s.OnOverrun, OverrunFail),
		Schedule:       string(value(s.Schedule, "")),
		Repositories:   s.Repositories,
		KeepLocal:      time.Duration(value(s.KeepLocal, Duration(DefaultKeepLocal))),
		Keep:           value(s.Keep, DefaultKeep()),
	}
	if g.Repositories == nil {
		g.Repositories = slices.Sorted(maps.Keys(c.Repositories))
	}
	return g
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
