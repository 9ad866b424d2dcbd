package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
)

// kitDocument is a recovery kit: what a user needs, with the bucket, to restore
// on an empty host.
type kitDocument struct {
	Repository map[string]kitRepository `toml:"repository"`
}

type kitRepository struct {
	URL        string   `toml:"url"`
	Endpoint   string   `toml:"endpoint"`
	Region     string   `toml:"region"`
	Signer     string   `toml:"signer"`
	Recipients []string `toml:"recipients"`
	Identity   string   `toml:"identity"`
	SigningKey string   `toml:"signing-key"`
}

// ParseKit reads a recovery kit as a configuration that can only read.
func ParseKit(file string, content []byte) (*Config, error) {
	c, err := ParseUnfinishedKit(file, content)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(c.Repositories) {
		if c.Repositories[name].Signer == "" {
			return nil, fault(file, 0, "repository."+name, advice.With(errors.New("names no signer: this recovery kit is not finished"),
				"run the same snapd init again that began it, which finishes it, or take the recovery kit as snapd init wrote it"))
		}
	}
	return c, nil
}

// ParseUnfinishedKit reads also what FormatUnfinishedKit wrote: a repository
// of such a kit has no signer.
func ParseUnfinishedKit(file string, content []byte) (*Config, error) {
	var doc kitDocument
	if err := decodeStrict(file, content, &doc); err != nil {
		return nil, err
	}
	c := &Config{File: file, Repositories: map[string]Repository{}, Groups: map[string]Settings{}}
	for _, name := range sortedKeys(doc.Repository) {
		d := doc.Repository[name]
		r, err := NewRepository(name, d.URL, d.Endpoint, d.Region)
		if err != nil {
			return nil, fault(file, 0, "repository."+name, err)
		}
		r.Signer, r.Recipients, r.Identity, r.SealedSigningKey = d.Signer, d.Recipients, strings.TrimSpace(d.Identity), d.SigningKey
		c.Repositories[name] = r
	}
	if len(c.Repositories) == 0 {
		return nil, fault(file, 0, "", advice.With(errors.New("is no recovery kit: it names no repository"), "name the file that snapd init wrote as the recovery kit"))
	}
	return c, nil
}

// Kit is what stands in a recovery kit, or in what is less than one.
type Kit struct {
	Host         string
	Made         time.Time
	Repositories []Repository // with Signer, Recipients, Identity and SealedSigningKey, as far as each is known
	Proved       []string     // what was tried with it, and what came of it, a line each
	Commands     []string     // what a person types to use it, a line each
}

// FormatKit writes a recovery kit: only what was tried with its content may be
// called one.
func FormatKit(k Kit) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# snapd recovery kit of host %s, %s.
#
# This file and the repositories below are enough to restore, on an empty host,
# what is in them. KEEP IT AWAY FROM %s: on paper or in a password manager. If
# it is lost with that host, nothing is left that can read them. Keep it secret:
# every reader of it can read the restore points that it opens.
#
`, k.Host, k.Made.UTC().Format(time.RFC3339), k.Host)
	comment(&b, "What was tried with what is written here, when it was written:", k.Proved)
	if slices.ContainsFunc(k.Repositories, func(r Repository) bool { return r.SealedSigningKey != "" }) {
		b.WriteString(`# It holds the signing key too, encrypted: every reader of this file can also
# write restore points in this host's name.
#
`)
	}
	comment(&b, "What to type:", k.Commands)
	if slices.ContainsFunc(k.Repositories, func(r Repository) bool { return strings.HasPrefix(r.URL, "s3:") }) {
		b.WriteString("# The keys of S3 are not in it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.\n")
	}
	writeRepositories(&b, k.Repositories)
	return b.String()
}

// FormatCard writes where the repositories of a host lie and who signs them,
// for a host that does not know what opens them.
func FormatCard(k Kit) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# snapd address card of host %s, %s.
#
# THIS IS NO RECOVERY KIT: IT OPENS NOTHING WITHOUT THE IDENTITY, a line that
# begins with AGE-SECRET-KEY- and is not on this host. It stands in the
# recovery kit that was written with the first configuration. The card says
# where the repositories lie and which key must have signed them, and nothing
# that has to be kept secret.
#
`, k.Host, k.Made.UTC().Format(time.RFC3339))
	comment(&b, "What to type:", k.Commands)
	bare := slices.Clone(k.Repositories)
	for i := range bare {
		bare[i].Identity, bare[i].SealedSigningKey = "", ""
	}
	writeRepositories(&b, bare)
	return b.String()
}

// FormatUnfinishedKit writes what keeps a new identity from being lost before
// anything depends on it. Without a signer it is never taken for a kit.
func FormatUnfinishedKit(k Kit) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# NOT FINISHED, begun on host %s, %s.
#
# THIS IS NO RECOVERY KIT YET. It keeps the identity that snapd init has just
# made, and nothing was tried with it. If you read this, snapd init did not come
# to its end: type the same command again, and it makes this file a recovery kit.
`, k.Host, k.Made.UTC().Format(time.RFC3339))
	bare := slices.Clone(k.Repositories)
	for i := range bare {
		bare[i].Signer, bare[i].SealedSigningKey = "", ""
	}
	writeRepositories(&b, bare)
	return b.String()
}

// comment writes lines below a title; nothing when there are none.
func comment(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "# %s\n#\n", title)
	for _, line := range lines {
		fmt.Fprintf(b, "#   %s\n", strings.ReplaceAll(line, "\n", " "))
	}
	b.WriteString("#\n")
}

func writeRepositories(b *strings.Builder, repositories []Repository) {
	for _, r := range repositories {
		fmt.Fprintf(b, "\n[repository.%s]\n", tomlKey(r.Name))
		line := func(key, value string) {
			switch {
			case value == "":
			case strings.Contains(value, "\n"):
				fmt.Fprintf(b, "%-8s = '''\n%s\n'''\n", key, strings.TrimSpace(value))
			default:
				fmt.Fprintf(b, "%-8s = %s\n", key, tomlString(value))
			}
		}
		line("url", r.URL)
		line("endpoint", r.Endpoint)
		line("region", r.Region)
		line("signer", r.Signer)
		if len(r.Recipients) > 0 {
			quoted := make([]string, len(r.Recipients))
			for i, recipient := range r.Recipients {
				quoted[i] = tomlString(recipient)
			}
			fmt.Fprintf(b, "recipients = [%s]\n", strings.Join(quoted, ", "))
		}
		line("identity", r.Identity)
		line("signing-key", r.SealedSigningKey)
		if r.Encryption == EncryptionNone {
			b.WriteString("# not encrypted: no identity is needed to read it\n")
		}
	}
}

// tomlString writes a basic string of TOML, whose escapes are not Go's.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlKey quotes a name that TOML would read as several: one with dots.
func tomlKey(name string) string {
	if strings.Contains(name, ".") {
		return tomlString(name)
	}
	return name
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
