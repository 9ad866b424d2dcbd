package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"
	"snapd/internal/workload"

	storage "snapd/internal/fs"
	systemd "snapd/internal/host"

	"filippo.io/age"
	"github.com/spf13/pflag"
)

// where are the flags that say which configuration, repository and keys to
// use.
type where struct {
	config, kit                          string
	repository, endpoint, region, signer string
	identity                             string
	state, runDir                        string
	storages                             string          // instead of what the environment says of them
	looks                                *workload.Looks // of this process

	stand map[string]storage.Driver // stand in for the storages of this host, in tests, which need no root
}

func (w *where) register(f *pflag.FlagSet) {
	f.StringVar(&w.config, "config", "", "configuration file (default "+config.DefaultFile+")")
	f.StringVar(&w.kit, "kit", "", "recovery kit: repository, signer and identity in one file")
	f.StringVar(&w.repository, "repository", "", "a configured repository by name, or s3://bucket/prefix, or file:///directory")
	f.StringVar(&w.endpoint, "endpoint", "", "S3 server of --repository, such as https://minio:9000")
	f.StringVar(&w.region, "region", "", "region of --repository, if it has one")
	f.StringVar(&w.signer, "signer", "", "public key that must have signed --repository (RW…)")
	f.StringVar(&w.identity, "identity", "", "file with the age identity that can read (AGE-SECRET-KEY-…)")
	f.StringVar(&w.state, "state-dir", agent.DefaultState, "where this host remembers its points")
	f.StringVar(&w.runDir, "run-dir", agent.DefaultRun, "where journals and locks lie (tmpfs)")
}

// agent builds the agent of this call.
func (c *cli) agent(needRoot bool) (*agent.Agent, error) {
	conf, err := c.where.load()
	if os.Geteuid() != 0 && (errors.Is(err, fs.ErrPermission) || err == nil && needRoot && c.where.stand == nil) {
		return nil, agent.ErrNotRoot
	}
	if err != nil {
		return nil, err
	}
	o, err := c.where.options(conf, c.screen.report)
	if err != nil {
		return nil, err
	}
	return agent.New(o)
}

// options are those of an agent with this configuration.
func (w *where) options(conf *config.Config, report agent.Report) (agent.Options, error) {
	drivers, leftOut, err := w.chosenDrivers()
	return agent.Options{
		Config:       conf,
		Drivers:      drivers,
		LeftOut:      leftOut,
		State:        w.state,
		Run:          w.runDir,
		Now:          time.Now,
		Report:       report,
		Engine:       engine,
		Open:         w.open,
		Site:         w.site,
		Inhibit:      inhibit,
		Units:        units,
		Elapses:      nextElapses,
		TimerTrouble: systemd.Trouble,
		Looks:        w.looks,
		Guard:        true,

		OpenHidden: w.openHidden,

		OnlyRepositories: w.named(),
	}, err
}

func inhibit(why string) (func() error, error) {
	held, err := systemd.Inhibit(why)
	if err != nil {
		return nil, err
	}
	return held.Release, nil
}

// named tells whether the caller named a repository that is not the
// configuration's.
func (w *where) named() bool { return w.kit != "" || strings.Contains(w.repository, "://") }

// file is the configuration.
func (w *where) file() string { return cmp.Or(w.config, config.DefaultFile) }

// load reads the configuration, or makes one from the flags.
func (w *where) load() (*config.Config, error) {
	if w.kit != "" {
		return w.loadKit()
	}
	if w.named() {
		return w.single()
	}
	file := w.file()
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && w.config == "" {
		return config.Parse(file, nil) // labels alone can say all there is
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, advice.With(advice.Usagef("there is no %s", file), "run: snapd init, which makes a first one, or name another file with --config")
	}
	if err != nil {
		return nil, advice.Usagef("read the configuration: %w", err)
	}
	conf, err := config.Parse(file, content)
	if err != nil {
		return nil, err
	}
	if w.repository == "" {
		return conf, nil
	}
	r, known := conf.Repositories[w.repository]
	if !known {
		return nil, noSuchRepository(w.repository, file, conf.Repositories)
	}
	conf.Repositories = map[string]config.Repository{w.repository: r}
	return conf, nil
}

func noSuchRepository(name, file string, repositories map[string]config.Repository) error {
	err := advice.Usagef("there is no [repository.%s] in %s", name, file)
	if near := config.Nearest(name, slices.Collect(maps.Keys(repositories))); near != "" {
		return advice.With(err, "say --repository %s, if that is meant", near)
	}
	return advice.With(err, "name one that is there, or an address such as s3://bucket/prefix")
}

func (w *where) loadKit() (*config.Config, error) {
	content, err := os.ReadFile(w.kit)
	if err != nil {
		return nil, advice.With(advice.Usagef("read the recovery kit: %w", err), "name the file that snapd init wrote with --kit")
	}
	return config.ParseKit(w.kit, content)
}

// single is a configuration of the one repository that the flags name.
func (w *where) single() (*config.Config, error) {
	r, err := config.NewRepository("main", w.repository, w.endpoint, w.region)
	if err != nil {
		return nil, advice.In(advice.Usage, err)
	}
	r.Signer = w.signer
	return &config.Config{Repositories: map[string]config.Repository{r.Name: r}, Groups: map[string]config.Settings{}}, nil
}

// open opens a repository for writing if this host has the signing key, else
// for reading.
func (w *where) open(ctx context.Context, r config.Repository, report agent.Report) (*ship.Repository, error) {
	return w.openWith(ctx, r, report, ship.OpenOptions{})
}

// openHidden opens a repository for reading, behind delete markers too.
func (w *where) openHidden(ctx context.Context, r config.Repository, report agent.Report) (*ship.Repository, error) {
	return w.openWith(ctx, r, report, ship.OpenOptions{Hidden: true})
}

func (w *where) openWith(ctx context.Context, r config.Repository, report agent.Report, o ship.OpenOptions) (*ship.Repository, error) {
	store, err := openStore(r)
	if err != nil {
		return nil, err
	}
	o.Host = agent.HostID
	if o.Signer, o.Trusted, err = w.keys(r); err != nil {
		return nil, err
	}
	for _, text := range r.Recipients {
		recipient, err := parseRecipient(text)
		if err != nil {
			return nil, advice.Usagef("repository %s: %w", r.Name, err)
		}
		o.Recipients = append(o.Recipients, recipient)
	}
	if o.Identities, err = w.identities(r); err != nil {
		return nil, err
	}
	return ship.Open(ctx, retrying(store, r, report), o)
}

// site is where a repository lies, and the key of this host; no key where it only
// reads.
func (w *where) site(r config.Repository, report agent.Report) (ship.Store, *ship.Signer, error) {
	store, err := openStore(r)
	if err != nil {
		return nil, nil, err
	}
	signer, _, err := w.keys(r)
	return retrying(store, r, report), signer, err
}

// keys returns the signing key of this host, or the public key that the
// caller trusts. It never takes one from the bucket.
func (w *where) keys(r config.Repository) (*ship.Signer, ship.PublicKey, error) {
	if text := r.Signer; text != "" {
		trusted, err := ship.ParsePublicKey(text)
		if err != nil {
			return nil, trusted, advice.With(advice.Usagef("signer: %w", err), "name the public key of the host that wrote the repository (RW…), as it stands in the recovery kit")
		}
		return nil, trusted, nil
	}
	signer, err := ship.LoadSigner(cmp.Or(systemd.Credential("snapd-agent.signing-key"), r.SigningKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ship.PublicKey{}, advice.With(advice.Usagef("the signer of repository %s is not known here: there is no %s", r.Name, r.SigningKeyFile),
			"run snapd init, or name the key with --signer or --kit")
	}
	if err != nil {
		return nil, ship.PublicKey{}, err
	}
	return signer, signer.Public(), nil
}

func (w *where) identities(r config.Repository) ([]age.Identity, error) {
	if r.Identity != "" {
		return age.ParseIdentities(strings.NewReader(r.Identity))
	}
	file := w.identity
	if file == "" {
		file = r.IdentityFile
	}
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, advice.With(advice.Usagef("read the identity: %w", err), "name a file that holds an age identity (AGE-SECRET-KEY-…) with --identity, or the recovery kit with --kit")
	}
	defer f.Close() //nolint:errcheck // only read from
	ids, err := age.ParseIdentities(f)
	if err != nil {
		return nil, advice.With(advice.Usagef("read the identity in %s: %w", file, err), "name a file that holds an age identity (AGE-SECRET-KEY-…) with --identity, or the recovery kit with --kit")
	}
	return ids, nil
}

func parseRecipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(text, "age1") {
		return age.ParseX25519Recipient(text)
	}
	return nil, advice.With(fmt.Errorf("%q is not an age recipient", text), "write a public key of age (age1…) into recipients")
}
