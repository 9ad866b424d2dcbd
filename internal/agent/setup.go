package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapd/internal/config"
	"snapd/internal/ship"
)

// InitOptions say what a call of init makes.
type InitOptions struct {
	File       string // the configuration; made when it is missing
	State      string // where this host remembers what it has seen; only read
	URL        string // of the repository of a configuration that is made
	Endpoint   string
	Region     string
	Encryption config.Encryption
	// EncryptionSaid tells that a person asked for it, and it is no default.
	EncryptionSaid bool

	KitFile       string   // where the recovery kit is kept, "" to show it; with FromKit the old kit, which is only read
	SigningKey    bool     // the kit also holds the signing key, encrypted
	IdentityFiles []string // age identities, or kits that hold some
	FromKit       bool     // go on with the repositories of the kit in KitFile

	Commands     []string // for the comment of a kit: what a person types to use it
	CardCommands []string // the same for an address card

	// Store opens what an address names. It makes nothing, and does not ask
	// whether there is a repository.
	Store func(ctx context.Context, r config.Repository) (ship.Store, error)
	// Show shows a recovery kit, which is secret, this once. It is called
	// before anything depends on what stands in it. nil when there is a KitFile
	// and address cards are of no use.
	Show func(text string, recovery bool) error

	after func(step string) // called after each step that writes; for tests
}

// Initialized says what init made and what there was before.
type Initialized struct {
	Made  []string `json:"made"`
	There []string `json:"there"`
	Kit   *KitMade `json:"kit,omitempty"`
}

// KitMade is a recovery kit and what was tried with it.
type KitMade struct {
	File   string   `json:"file"` // "" when it was shown
	Proved []Proved `json:"proved"`
}

func (*Initialized) note(list *[]string, text string) {
	if !slices.Contains(*list, text) {
		*list = append(*list, text)
	}
}

// Obstacle keeps init from going on, before it has made anything. What helps
// is said with flags, which only the caller knows.
type Obstacle struct {
	Kind ObstacleKind
	Free string // an address where no repository is, for those where one helps; "" when none was found
	// Memory is the folder that says so, for RepositoryGone.
	Memory string
	err    error
}

// ObstacleKind is what keeps init from going on.
type ObstacleKind int

// The obstacles.
const (
	KitThere          ObstacleKind = iota // the file for the kit is there, and is not the kit of these repositories
	KitOfOtherKey                         // it is their kit, but of a signing key that is not on this host
	NeedsIdentity                         // no identity that is known opens what is encrypted there
	ForeignRepository                     // the repository is there and belongs to another key
	PointsThere                           // the repository is there with points that a new identity would not open
	NoSigningKey                          // the kit to go on with holds no signing key
	RemainsThere                          // what a repository of another key leaves lies there, without its description
	RepositoryGone                        // this host has seen a repository there, and nothing is there now
)

func (o *Obstacle) Error() string { return o.err.Error() }
func (o *Obstacle) Unwrap() error { return o.err }

func obstacle(kind ObstacleKind, format string, args ...any) *Obstacle {
	return &Obstacle{Kind: kind, err: fmt.Errorf(format, args...)}
}

// setup is one call of init.
type setup struct {
	InitOptions
	host string
	now  time.Time
	out  Initialized

	fresh      bool // there is no configuration yet
	places     []*place
	identities []string       // all that are known, one each
	madeNew    bool           // the identity was made by this call
	kit        *config.Config // what lies in KitFile, nil for nothing
}

// place is a repository of the configuration, or to be.
type place struct {
	config.Repository

	signer *ship.Signer // nil when only the kit knows whose it is
	unsave bool         // the signer is not in its file yet
	there  bool         // the repository exists
	// remains is what lies there of a repository of this key that lost its
	// description: the same one gets another.
	remains ship.Remains
	fault   error // why this one is left out
}

// Init makes what is missing and never touches what is there: a first
// configuration, the signing key, and the repositories that the configuration
// names. Nothing else ever makes a repository. It asks the repositories before
// it writes anything, and the same call again ends what one that was killed
// began; what each step leaves is in DESIGN.md.
func Init(ctx context.Context, o InitOptions, host string, now func() time.Time) (Initialized, error) {
	s := &setup{InitOptions: o, host: host, now: now(), out: Initialized{Made: []string{}, There: []string{}}}
	if err := s.plan(); err != nil {
		return s.out, err
	}
	s.contact(ctx)
	if err := s.faults(); err != nil && (s.fresh || s.FromKit) {
		return s.out, err // nothing was written yet
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"identity", s.keepIdentity},
		{"keys", s.saveSigners},
		{"repositories", s.createRepositories},
		{"kit", s.finishKit},
		{"configuration", s.writeConfiguration},
	} {
		if err := step.do(ctx); err != nil {
			if faults := s.faults(); faults != nil && faults.Error() != err.Error() {
				err = errors.Join(faults, err)
			}
			return s.out, err
		}
		if s.after != nil {
			s.after(step.name)
		}
	}
	return s.out, s.faults()
}

// faults joins what is wrong with single repositories.
func (s *setup) faults() error {
	var all []error
	for _, p := range s.places {
		if p.fault != nil {
			all = append(all, fmt.Errorf("repository %s: %w", p.Name, p.fault))
		}
	}
	return errors.Join(all...)
}

// saveSigners keeps new signing keys.
func (s *setup) saveSigners(context.Context) error {
	saved := map[string]bool{}
	for _, p := range s.places {
		what := "signing key " + p.SigningKeyFile
		switch {
		case p.fault != nil || saved[p.SigningKeyFile]:
		case !p.unsave:
			s.out.note(&s.out.There, what)
		default:
			if p.fault = saveSigner(p.signer, p.SigningKeyFile); p.fault == nil {
				saved[p.SigningKeyFile] = true
				s.out.note(&s.out.Made, what)
			}
		}
	}
	if s.fresh {
		return s.faults()
	}
	return nil
}

// createRepositories makes the repositories that are missing.
func (s *setup) createRepositories(ctx context.Context) error {
	for _, p := range s.places {
		if p.fault != nil {
			continue
		}
		if !p.there {
			p.fault = s.create(ctx, p)
		}
		switch what := "repository " + p.URL; {
		case p.fault != nil:
		case p.there:
			s.out.note(&s.out.There, what)
		case p.remains.ID != "":
			s.out.note(&s.out.Made, "the description of "+what+", which was gone: its objects say which one it is")
		default:
			s.out.note(&s.out.Made, what)
		}
	}
	if s.fresh {
		return s.faults()
	}
	return nil
}

func (s *setup) create(ctx context.Context, p *place) error {
	store, err := s.Store(ctx, p.Repository)
	if err != nil {
		return err
	}
	if p.remains.ID != "" {
		_, err = ship.Redescribe(ctx, store, ship.CreateOptions{Signer: p.signer, Encryption: string(p.Encryption), Now: s.now}, describedAt(s.State, p.Repository), false)
		return err
	}
	_, err = ship.Create(ctx, store, ship.CreateOptions{
		Signer: p.signer, Encryption: string(p.Encryption), Now: s.now,
	})
	if errors.Is(err, ship.ErrExists) { // since it was looked for
		p.there = true
		_, err = ship.Open(ctx, store, ship.OpenOptions{Trusted: p.signer.Public()})
	}
	return err
}
