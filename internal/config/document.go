package config

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"snapd/internal/advice"
)

// document is the file as written.
type document struct {
	Repository map[string]repositoryDocument `toml:"repository"`
	Group      map[string]groupDocument      `toml:"group"`
}

type repositoryDocument struct {
	URL             string   `toml:"url"`
	Endpoint        string   `toml:"endpoint"`
	Region          string   `toml:"region"`
	CredentialsFile string   `toml:"credentials-file"`
	Recipients      []string `toml:"recipients"`
	SigningKeyFile  string   `toml:"signing-key-file"`
	Encryption      *string  `toml:"encryption"`
	Prune           *bool    `toml:"prune"`
	IdentityFile    string   `toml:"identity-file"`
	Signer          string   `toml:"signer"`
	RetryFor        *string  `toml:"retry-for"`
}

type groupDocument struct {
	ComposeProject *string  `toml:"compose-project"`
	Containers     []string `toml:"containers"`
	Units          []string `toml:"units"`
	Paths          []string `toml:"paths"`
	Volumes        []string `toml:"volumes"`
	Freeze         *string  `toml:"freeze"`
	MaxWindow      *string  `toml:"max-window"`
	HoldTimeout    *string  `toml:"hold-timeout"`
	HookTimeout    *string  `toml:"hook-timeout"`
	OnOverrun      *string  `toml:"on-overrun"`
	Schedule       *string  `toml:"schedule"`
	Repositories   []string `toml:"repositories"`
	KeepLocal      *string  `toml:"keep-local"`
	Keep           *string  `toml:"keep"`

	Container map[string]commandDocument `toml:"container"`
}

// check validates a repository; the key it returns is the one at fault.
func (d repositoryDocument) check(name string) (Repository, string, error) {
	r := Repository{
		Name: name, URL: d.URL, Endpoint: d.Endpoint, Region: d.Region, CredentialsFile: d.CredentialsFile,
		Recipients: d.Recipients, SigningKeyFile: d.SigningKeyFile, Prune: value(d.Prune, true), IdentityFile: d.IdentityFile, Signer: d.Signer,
	}
	encryption, err := parsed[Encryption](d.Encryption)
	if err != nil {
		return r, "encryption", err
	}
	r.Encryption = value(encryption, EncryptionAge)
	retryFor, err := parsed[Duration](d.RetryFor)
	if err != nil {
		return r, "retry-for", err
	}
	r.RetryFor = time.Duration(value(retryFor, Duration(DefaultRetryFor)))
	if r.SigningKeyFile == "" {
		r.SigningKeyFile = DefaultSigningKeyFile
	}
	if err := CheckGroupName(name); err != nil {
		return r, "", advice.With(fmt.Errorf("%q cannot be a repository's name", name), "use a-z, 0-9, dot, dash and underscore")
	}
	if key, err := r.checkPlace(); err != nil {
		return r, key, err
	}
	if r.Encryption == EncryptionNone && len(r.Recipients) > 0 {
		return r, "recipients", advice.With(errors.New(`has recipients although encryption = "none"`), "remove one of the two")
	}
	if r.Encryption == EncryptionAge && len(r.Recipients) == 0 {
		return r, "", advice.With(errors.New(`names no recipients, so nobody could read it`), `run snapd init, which makes a key, or name one ("age1…")`)
	}
	return r, "", nil
}

func (r Repository) checkPlace() (string, error) {
	u, err := url.Parse(r.URL)
	if err != nil || r.URL == "" {
		return "url", advice.With(fmt.Errorf("%q is not an address", r.URL), `write "s3://bucket/prefix" or "file:///directory"`)
	}
	switch u.Scheme {
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return "url", advice.With(fmt.Errorf("%q names no absolute directory", r.URL), `write "file:///directory" with three slashes`)
		}
		if r.Endpoint != "" {
			return "endpoint", advice.With(errors.New("belongs to S3 only, and a file:// repository has none"), "remove it")
		}
	case "s3":
		if u.Host == "" {
			return "url", advice.With(fmt.Errorf("%q names no bucket", r.URL), `write "s3://bucket/prefix"`)
		}
		e, err := url.Parse(r.Endpoint)
		if err != nil || e.Host == "" || e.Scheme != "https" && e.Scheme != "http" || strings.Trim(e.Path, "/") != "" {
			return "endpoint", advice.With(fmt.Errorf("%q is not the address of an S3 server", r.Endpoint), `write "https://host:port"`)
		}
	default:
		return "url", advice.With(fmt.Errorf("%q: a repository is s3:// or file://", r.URL), `write "s3://bucket/prefix" or "file:///directory"`)
	}
	return "", nil
}

// checkGroup validates a group; the key it returns is the one at fault.
func (c *Config) checkGroup(name string, d groupDocument) (s Settings, key string, err error) {
	if err := CheckGroupName(name); err != nil {
		return s, "", err
	}
	if s, key, err = d.settings(); err != nil {
		return s, key, err
	}
	for _, p := range s.Paths {
		if !filepath.IsAbs(p) {
			return s, "paths", advice.With(fmt.Errorf("%q is not an absolute path", p), "write the whole path, from the root on")
		}
	}
	for _, r := range s.Repositories {
		if _, known := c.Repositories[r]; !known {
			return s, "repositories", meant(fmt.Errorf("there is no [repository.%s]", r), r, sortedKeys(c.Repositories))
		}
	}
	return s, "", nil
}

func (d groupDocument) settings() (s Settings, key string, err error) {
	s = Settings{
		ComposeProject: d.ComposeProject, Containers: d.Containers, Units: d.Units,
		Paths: d.Paths, Volumes: d.Volumes, Repositories: d.Repositories,
	}
	if s.Freeze, err = parsed[Freeze](d.Freeze); err != nil {
		return s, "freeze", err
	}
	if s.MaxWindow, err = parsed[Duration](d.MaxWindow); err != nil {
		return s, "max-window", err
	}
	if s.HoldTimeout, err = parsed[Duration](d.HoldTimeout); err != nil {
		return s, "hold-timeout", err
	}
	if s.HookTimeout, err = parsed[Duration](d.HookTimeout); err != nil {
		return s, "hook-timeout", err
	}
	if s.OnOverrun, err = parsed[OnOverrun](d.OnOverrun); err != nil {
		return s, "on-overrun", err
	}
	if s.Schedule, err = parsed[Schedule](d.Schedule); err != nil {
		return s, "schedule", err
	}
	if s.KeepLocal, err = parsed[Duration](d.KeepLocal); err != nil {
		return s, "keep-local", err
	}
	if s.Keep, err = parsed[Keep](d.Keep); err != nil {
		return s, "keep", err
	}
	s.Commands, key, err = commandSettings(d.Container)
	return s, key, err
}

// parsed reads a text that may be absent.
func parsed[T any, P interface {
	*T
	UnmarshalText(text []byte) error
}](text *string) (*T, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // nil means not set
	}
	out := new(T)
	if err := P(out).UnmarshalText([]byte(*text)); err != nil {
		return nil, err
	}
	return out, nil
}
