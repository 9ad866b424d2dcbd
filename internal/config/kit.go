package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"snapd/internal/advice"
)

// kitDocument is a recovery kit: what a user needs, with the bucket, to restore
// on an empty host.
type kitDocument struct {
	Repository map[string]struct {
		URL      string `toml:"url"`
		Endpoint string `toml:"endpoint"`
		Region   string `toml:"region"`
		Signer   string `toml:"signer"`
		Identity string `toml:"identity"`
	} `toml:"repository"`
}

// ParseKit reads a recovery kit as a configuration that can only read.
func ParseKit(file string, content []byte) (*Config, error) {
	var doc kitDocument
	if err := decodeStrict(file, content, &doc); err != nil {
		return nil, err
	}
	c := &Config{File: file, Repositories: map[string]Repository{}, Groups: map[string]Settings{}}
	for _, name := range sortedKeys(doc.Repository) {
		d := doc.Repository[name]
		r, err := NewRepository(name, d.URL, d.Endpoint, d.Region)
		if err == nil && d.Signer == "" {
			err = advice.With(errors.New("names no signer"), "take the recovery kit as snapd init wrote it")
		}
		if err != nil {
			return nil, fault(file, 0, "repository."+name, err)
		}
		r.Signer, r.Identity = d.Signer, d.Identity
		c.Repositories[name] = r
	}
	if len(c.Repositories) == 0 {
		return nil, fault(file, 0, "", advice.With(errors.New("is no recovery kit: it names no repository"), "name the file that snapd init wrote as the recovery kit"))
	}
	return c, nil
}

// FormatKit writes a recovery kit. A repository without an identity says where
// that was written down.
func FormatKit(host string, made time.Time, repositories []Repository) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# snapd recovery kit of host %s, %s.
#
# With this file and the bucket everything can be listed and restored on an
# empty host. Every person who has it can read all restore points. Keep it away
# from the host: on paper, or in a password manager.
#
#   snapd --kit THIS-FILE list
#   snapd --kit THIS-FILE restore POINT --to btrfs:/srv/restored
#
# S3 credentials are not in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
`, host, made.UTC().Format(time.RFC3339))
	for _, r := range repositories {
		fmt.Fprintf(&b, "\n[repository.%s]\n", r.Name)
		line := func(key, value string) {
			if value != "" {
				fmt.Fprintf(&b, "%-8s = %q\n", key, value)
			}
		}
		line("url", r.URL)
		line("endpoint", r.Endpoint)
		line("region", r.Region)
		line("signer", r.Signer)
		line("identity", r.Identity)
		switch {
		case r.Encryption == EncryptionNone:
			b.WriteString("# not encrypted: no identity is needed to read it\n")
		case r.Identity == "":
			b.WriteString("# The identity is not on the host: it was printed when it was made.\n")
		}
	}
	return b.String()
}

// NewRepository makes one from an address alone, for commands that read.
func NewRepository(name, url, endpoint, region string) (Repository, error) {
	r := Repository{
		Name: name, URL: url, Endpoint: endpoint, Region: region,
		SigningKeyFile: DefaultSigningKeyFile, Encryption: EncryptionAge, RetryFor: DefaultRetryFor,
	}
	if key, err := r.checkPlace(); err != nil {
		return r, fmt.Errorf("%s: %w", key, err)
	}
	return r, nil
}
