// Package config turns bytes into a validated Config, or into one error that
// names file, line and key. It is pure: it opens no file and asks no program, and
// it knows neither storage nor containers. Labels of containers are read by the
// same rules as keys of the file.
package config

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// Config is everything the configuration file says, checked, with defaults.
type Config struct {
	File         string // where it was read from, for errors
	Repositories map[string]Repository
	Groups       map[string]Settings // as written; a label may fill what is not set here
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
	DefaultFullEvery      = 180 * 24 * time.Hour
)

// DefaultKeep is the policy of a group that names none.
func DefaultKeep() Keep { return Keep{Hourly: 24, Daily: 7, Weekly: 4, Monthly: 12} }

// Settings are the keys of a group: what the file is decoded into, and what the
// labels of its members fill. The zero value of a field means that the key is
// not set; a key that may be written with a zero value is a pointer. A label
// that sets the same as a key is named in the field's tag.
type Settings struct {
	ComposeProject *string   `toml:"compose-project"`
	Containers     []string  `toml:"containers"`
	Units          []string  `toml:"units"`
	Paths          []string  `toml:"paths"`
	Volumes        []string  `toml:"volumes"` // only these of the members' mounts; none means all
	Exclude        []string  `toml:"exclude"` // none of these
	Freeze         Freeze    `toml:"freeze" label:"freeze"`
	MaxWindow      Duration  `toml:"max-window" label:"max-window"` // freeze to thaw
	HoldTimeout    Duration  `toml:"hold-timeout"`                  // for a database's lock
	HookTimeout    Duration  `toml:"hook-timeout"`                  // for each hook
	OnOverrun      OnOverrun `toml:"on-overrun"`
	Schedule       Schedule  `toml:"schedule" label:"schedule"` // without one, the group does not run by itself
	Repositories   []string  `toml:"repositories"`              // an empty list means none of them
	KeepLocal      Duration  `toml:"keep-local"`
	Keep           Keep      `toml:"keep"`
	FullEvery      Span      `toml:"full-every"` // how old a full stream may be that others build on

	Commands map[string]Commands `toml:"container"` // by container or Compose service
}

// defaults are the settings of a group that sets nothing. It ships to every
// configured repository.
func (c *Config) defaults() Settings {
	return Settings{
		Freeze:       FreezeAuto,
		MaxWindow:    Duration(DefaultMaxWindow),
		HoldTimeout:  Duration(DefaultHoldTimeout),
		HookTimeout:  Duration(DefaultHookTimeout),
		OnOverrun:    OverrunFail,
		Repositories: slices.Sorted(maps.Keys(c.Repositories)),
		KeepLocal:    Duration(DefaultKeepLocal),
		Keep:         DefaultKeep(),
		FullEvery:    Span(DefaultFullEvery),
	}
}

// Group is the settings of a group once file, labels and defaults are joined.
type Group struct {
	Name string
	Settings
}

// Group fills in the defaults.
func (c *Config) Group(name string, s Settings) Group {
	return Group{Name: name, Settings: s.Over(c.defaults())}
}

// Over returns s with what it does not set taken from under: configuration
// beats labels, key by key.
func (s Settings) Over(under Settings) Settings { return over(s, under) }

// Any tells whether anything is set.
func (s Settings) Any() bool { return !reflect.ValueOf(s).IsZero() }

// over takes the fields that a does not set from b.
func over[T any](a, b T) T {
	into, from := reflect.ValueOf(&a).Elem(), reflect.ValueOf(b)
	for i := range into.NumField() {
		if into.Field(i).IsZero() {
			into.Field(i).Set(from.Field(i))
		}
	}
	return a
}
