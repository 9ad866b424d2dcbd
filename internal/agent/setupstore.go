package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/ship"
)

// contact asks every repository: does it answer, is there one already and which
// host's, and if there is none, can one be made. It leaves nothing there.
func (s *setup) contact(ctx context.Context) {
	for _, p := range s.places {
		if p.fault == nil {
			p.fault = s.ask(ctx, p)
		}
	}
}

func (s *setup) ask(ctx context.Context, p *place) error {
	store, err := s.Store(ctx, p.Repository)
	if err != nil {
		return err
	}
	says, err := ship.Describe(ctx, store)
	switch {
	case errors.Is(err, ship.Undescribed):
		return s.undescribed(err, p)
	case errors.Is(err, ship.ErrNotRepository):
		return s.begin(ctx, store, p, advice.With(err, "check the address; where no repository is, there is none to go on with"))
	case err != nil:
		return err
	}
	p.there = true
	if !s.FromKit && says.Signer.String() != p.Signer {
		o := obstacle(ForeignRepository, "%s is a repository already, and not one of this host's key: it says that it belongs to the key %s (its own word, and no proof) and was made %s",
			p.URL, says.Signer, says.Created.Format("2006-01-02"))
		o.Free = s.freeAddress(ctx, p.Repository)
		return o
	}
	trusted, err := ship.ParsePublicKey(p.Signer)
	if err != nil {
		return advice.In(advice.Usage, err)
	}
	identities, err := parseIdentities(s.identities)
	if err != nil {
		return err
	}
	repo, err := ship.Open(ctx, store, ship.OpenOptions{Trusted: trusted, Identities: identities})
	if errors.Is(err, ship.Undescribed) {
		return s.undescribed(err, p)
	}
	if err != nil {
		return err
	}
	return s.fits(ctx, p, repo)
}

// undescribed is for a description that is damaged: another one is put over it
// only by a repair, which looks at what else lies there.
func (s *setup) undescribed(err error, p *place) error {
	if s.fresh || p.signer == nil {
		return err
	}
	return advice.With(err, "run: snapd repair %s, which puts the description back if what lies there is this host's; nothing is made over it", p.Name)
}

// fits tells whether a repository that is there and ours is what this call is
// about to write into the configuration.
func (s *setup) fits(ctx context.Context, p *place, repo *ship.Repository) error {
	if s.FromKit && p.signer == nil {
		o := obstacle(NoSigningKey, "the kit holds no signing key, and only the key %s can go on with %s", p.Signer, p.URL)
		o.Free = s.freeAddress(ctx, p.Repository)
		return o
	}
	if s.FromKit && repo.Encryption == ship.EncryptionAge {
		if opened, _, err := trial(p.Recipients, s.identities); err != nil {
			return err
		} else if len(opened) == 0 {
			return advice.In(advice.Usage, obstacle(NeedsIdentity, "%s is encrypted, and no identity is known that opens it: %s holds none for it", p.URL, s.KitFile))
		}
	}
	if repo.Encryption != string(p.Encryption) {
		return advice.Usagef("%s was made with encryption = %q, and %q is wanted", p.URL, repo.Encryption, p.Encryption)
	}
	if !s.fresh {
		return nil
	}
	id, err := repo.OpenNewest(ctx)
	if errors.Is(err, ship.ErrNoIdentity) {
		return obstacle(PointsThere, "%s is a repository of this host's key already, and its restore point %s is encrypted for another identity", p.URL, id)
	}
	return err
}

// freeAddress finds an address beside that of a repository at which none is,
// "" when none is found.
func (s *setup) freeAddress(ctx context.Context, r config.Repository) string {
	base := strings.TrimRight(r.URL, "/")
	if s.host != "" && strings.Count(base, "/") == 2 { // a bucket without a prefix
		base += "/" + s.host
	}
	for n := 2; n < 10; n++ {
		r.URL = fmt.Sprintf("%s-%d", base, n)
		store, err := s.Store(ctx, r)
		if err != nil {
			return ""
		}
		if _, err = ship.Describe(ctx, store); errors.Is(err, ship.ErrNotRepository) {
			return r.URL
		}
	}
	return ""
}
