package config

import (
	"cmp"
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
	Group      map[string]Settings           `toml:"group"`
}

type repositoryDocument struct {
	URL             string     `toml:"url"`
	Endpoint        string     `toml:"endpoint"`
	Region          string     `toml:"region"`
	CredentialsFile string     `toml:"credentials-file"`
	Recipients      []string   `toml:"recipients"`
	SigningKeyFile  string     `toml:"signing-key-file"`
	Encryption      Encryption `toml:"encryption"`
	Prune           *bool      `toml:"prune"`
	IdentityFile    string     `toml:"identity-file"`
	Signer          string     `toml:"signer"`
	RetryFor        Duration   `toml:"retry-for"`
}

// check validates a repository; the key it returns is the one at fault.
func (d repositoryDocument) check(name string) (Repository, string, error) {
	r := Repository{
		Name: name, URL: d.URL, Endpoint: d.Endpoint, Region: d.Region, CredentialsFile: d.CredentialsFile,
		Recipients: d.Recipients, SigningKeyFile: cmp.Or(d.SigningKeyFile, DefaultSigningKeyFile), Encryption: cmp.Or(d.Encryption, EncryptionAge),
		Prune: d.Prune == nil || *d.Prune, IdentityFile: d.IdentityFile, Signer: d.Signer,
		RetryFor: time.Duration(cmp.Or(d.RetryFor, Duration(DefaultRetryFor))),
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
		return r, "", advice.With(errors.New(`names no recipients, so that no key could decrypt it`), `run snapd init, which makes a key, or name one ("age1…")`)
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
func (c *Config) checkGroup(name string, s Settings) (key string, err error) {
	if err := CheckGroupName(name); err != nil {
		return "", err
	}
	for _, p := range s.Paths {
		if !filepath.IsAbs(p) {
			return "paths", advice.With(fmt.Errorf("%q is not an absolute path", p), "write the whole path, from the root on")
		}
	}
	for _, r := range s.Repositories {
		if _, known := c.Repositories[r]; !known {
			return "repositories", meant(fmt.Errorf("there is no [repository.%s]", r), r, sortedKeys(c.Repositories))
		}
	}
	return "", nil
}
