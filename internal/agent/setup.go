package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/durable"
	"snapd/internal/ship"

	"filippo.io/age"
)

// InitOptions say what a first call of init makes.
type InitOptions struct {
	File       string // the configuration; made when it is missing
	URL        string // of the repository of a configuration that is made
	Endpoint   string
	Region     string
	Encryption config.Encryption
	// Store opens what an address names, without asking whether there is a
	// repository.
	Store func(ctx context.Context, r config.Repository) (ship.Store, error)
	// Kit keeps the recovery kit, which is secret when it carries an identity.
	// It is called before anything depends on that identity.
	Kit func(text string, withIdentity bool) error
}

// Initialized says what init made and what there was before.
type Initialized struct {
	Made  []string `json:"made"`
	There []string `json:"there"`
}

// Init makes what is missing and never touches what is there: a first
// configuration, the signing key, and the repositories that the configuration
// names. Nothing else ever makes a repository.
func Init(ctx context.Context, o InitOptions, host string, now func() time.Time) (Initialized, error) {
	out := Initialized{Made: []string{}, There: []string{}}
	text, identity, err := o.configuration()
	if err != nil {
		return out, err
	}
	conf, err := config.Parse(o.File, []byte(text))
	if err != nil {
		return out, err
	}
	var repositories []config.Repository
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(conf.Repositories)) {
		r := conf.Repositories[name]
		if err := makeSigner(&r, &out); err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", name, err))
			continue
		}
		if identity != nil {
			r.Identity = identity.String()
		}
		repositories = append(repositories, r)
	}
	if len(repositories) > 0 {
		if err := o.Kit(config.FormatKit(host, now(), repositories), identity != nil); err != nil {
			return out, errors.Join(append(faults, fmt.Errorf("keep the recovery kit: %w", err))...)
		}
	}
	if err := o.writeConfiguration(text, &out); err != nil {
		return out, errors.Join(append(faults, err)...)
	}
	for _, r := range repositories {
		if err := o.repository(ctx, r, &out, now()); err != nil {
			faults = append(faults, fmt.Errorf("repository %s: %w", r.Name, err))
		}
	}
	return out, errors.Join(faults...)
}

// configuration returns what is there, or a first one with a new identity,
// which can read and is not kept on this host.
func (o InitOptions) configuration() (string, *age.X25519Identity, error) {
	content, err := os.ReadFile(o.File)
	if err == nil && o.URL != "" {
		return "", nil, advice.In(FileThere, advice.Usagef("%s is there already, so that naming a repository would change nothing", o.File))
	}
	if err == nil {
		return string(content), nil, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("read the configuration: %w", err)
	}
	if o.URL == "" {
		return "", nil, advice.In(NoRepository, advice.Usagef("there is no %s, and no repository is named to begin one with", o.File))
	}
	if _, err := config.NewRepository("main", o.URL, o.Endpoint, o.Region); err != nil {
		return "", nil, advice.In(advice.Usage, err)
	}
	return o.first()
}

// first composes a configuration.
func (o InitOptions) first() (string, *age.X25519Identity, error) {
	var identity *age.X25519Identity
	var b strings.Builder
	b.WriteString("# snapd configuration; every key is described in docs/snapd.toml.md.\n\n[repository.main]\n")
	fmt.Fprintf(&b, "url        = %q\n", o.URL)
	if o.Endpoint != "" {
		fmt.Fprintf(&b, "endpoint   = %q\n", o.Endpoint)
	}
	if o.Region != "" {
		fmt.Fprintf(&b, "region     = %q\n", o.Region)
	}
	if o.Encryption == config.EncryptionNone {
		b.WriteString("encryption = \"none\"\n")
	} else {
		var err error
		if identity, err = age.GenerateX25519Identity(); err != nil {
			return "", nil, fmt.Errorf("make an identity: %w", err)
		}
		fmt.Fprintf(&b, "recipients = [%q]   # who can read; this host cannot\n", identity.Recipient())
	}
	fmt.Fprintf(&b, "signing-key-file = %q\n", filepath.Join(filepath.Dir(o.File), "signing.key"))
	b.WriteString(`
# One group of containers or paths that belong together. Containers can also
# say it themselves with the label snapd.enable=true.
#
# [group.shop]
# compose-project = "shop"       # or containers = ["a", "b"], or paths = ["/srv/data"]
# keep-local      = "24h"
# keep            = "24 hourly, 7 daily, 4 weekly, 12 monthly"
`)
	return b.String(), identity, nil
}

func (o InitOptions) writeConfiguration(text string, out *Initialized) error {
	if _, err := os.Stat(o.File); err == nil {
		out.note(&out.There, "configuration "+o.File)
		return nil
	}
	if err := durable.Create(o.File, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	out.note(&out.Made, "configuration "+o.File)
	return nil
}

// makeSigner makes the signing key when it is missing.
func makeSigner(r *config.Repository, out *Initialized) error {
	signer, err := ship.LoadSigner(r.SigningKeyFile)
	switch {
	case err == nil:
		out.note(&out.There, "signing key "+r.SigningKeyFile)
	case errors.Is(err, os.ErrNotExist):
		if signer, err = ship.NewSigner(); err != nil {
			return err
		}
		if err = os.MkdirAll(filepath.Dir(r.SigningKeyFile), 0o700); err != nil {
			return err
		}
		if err = signer.Save(r.SigningKeyFile); err != nil {
			return err
		}
		out.note(&out.Made, "signing key "+r.SigningKeyFile)
	default:
		return err
	}
	r.Signer = signer.Public().String()
	return nil
}

// repository makes the repository where it is missing.
func (o InitOptions) repository(ctx context.Context, r config.Repository, out *Initialized, now time.Time) error {
	signer, err := ship.LoadSigner(r.SigningKeyFile)
	if err != nil {
		return err
	}
	store, err := o.Store(ctx, r)
	if err != nil {
		return err
	}
	_, err = ship.Create(ctx, store, ship.CreateOptions{Signer: signer, Encryption: string(r.Encryption), Now: now})
	switch {
	case err == nil:
		out.note(&out.Made, "repository "+r.URL)
	case errors.Is(err, ship.ErrExists):
		if _, err = ship.Open(ctx, store, ship.OpenOptions{Trusted: signer.Public()}); err != nil {
			return err
		}
		out.note(&out.There, "repository "+r.URL)
	default:
		return err
	}
	return nil
}

func (*Initialized) note(list *[]string, text string) {
	if !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}
