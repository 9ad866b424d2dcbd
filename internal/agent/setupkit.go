package agent

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/ship"
)

// fromOldKit are the repositories of the old kit that this call goes on with:
// that which the caller named, or all. Where a configuration is there, it must
// name them.
func (s *setup) fromOldKit(configured []config.Repository) ([]config.Repository, error) {
	chosen, err := s.chosen()
	if err != nil {
		return nil, err
	}
	var out []config.Repository
	for _, r := range chosen {
		if len(r.Recipients) == 0 { // a kit of an older snapd
			if r.Recipients, err = recipientsOf(s.identities); err != nil {
				return nil, err
			}
		}
		if r.Encryption = config.EncryptionAge; len(r.Recipients) == 0 {
			r.Encryption = config.EncryptionNone // asking the repository will tell
		}
		if r.SigningKeyFile = s.signingKeyFile(r, chosen); s.fresh {
			out = append(out, r)
			continue
		}
		i := slices.IndexFunc(configured, func(c config.Repository) bool { return c.URL == r.URL })
		if i < 0 {
			return nil, advice.With(advice.Usagef("%s is there already and does not name %s", s.File, r.URL),
				"name that repository in it, or move the file away, then run the same command again")
		}
		there := configured[i]
		there.Signer, there.SealedSigningKey, there.Identity = r.Signer, r.SealedSigningKey, r.Identity
		out = append(out, there)
	}
	return out, nil
}

func (s *setup) chosen() ([]config.Repository, error) {
	var all []config.Repository
	for _, name := range slices.Sorted(maps.Keys(s.kit.Repositories)) {
		r := s.kit.Repositories[name]
		if r.URL == s.URL {
			return []config.Repository{s.at(r)}, nil
		}
		all = append(all, r)
	}
	switch {
	case s.URL == "":
		return all, nil
	case len(all) > 1:
		return nil, advice.Usagef("%s does not name %s, and has several repositories", s.KitFile, s.URL)
	}
	moved, err := config.NewRepository(all[0].Name, s.URL, s.Endpoint, s.Region)
	if err != nil {
		return nil, advice.In(advice.Usage, err)
	}
	return []config.Repository{s.at(all[0], moved.URL)}, nil
}

// at is a repository at the address that the caller named.
func (s *setup) at(r config.Repository, url ...string) config.Repository {
	for _, u := range url {
		r.URL, r.Endpoint, r.Region = u, "", ""
	}
	if s.Endpoint != "" {
		r.Endpoint = s.Endpoint
	}
	if s.Region != "" {
		r.Region = s.Region
	}
	return r
}

// signingKeyFile is where the key of such a repository goes: one file,
// unless the repositories have several.
func (s *setup) signingKeyFile(r config.Repository, all []config.Repository) string {
	name := "signing.key"
	if slices.ContainsFunc(all, func(o config.Repository) bool { return o.Signer != r.Signer }) {
		name = "signing-" + r.Name + ".key"
	}
	return filepath.Join(filepath.Dir(s.File), name)
}

// kitSigner opens the signing key in the kit; nil when it holds none.
func (s *setup) kitSigner(r config.Repository) (*ship.Signer, error) {
	if r.SealedSigningKey == "" {
		return nil, nil //nolint:nilnil // said when the repository was asked, with an address to go on at
	}
	return openSigner(r, s.identities)
}

// proveOldKit tries the old kit, with the identities that were named beside
// it, before a configuration relies on it.
func (s *setup) proveOldKit(ctx context.Context) error {
	made := &KitMade{File: s.KitFile}
	for _, p := range s.places {
		r := p.Repository
		if r.Identity == "" && len(s.identities) > 0 {
			r.Identity = strings.Join(s.identities, "\n")
		}
		proved, err := s.proveOne(ctx, r, p.Recipients)
		if err != nil {
			return fmt.Errorf("try the kit: repository %s: %w", p.Name, err)
		}
		made.Proved = append(made.Proved, proved)
	}
	s.out.note(&s.out.There, "recovery kit "+s.KitFile)
	s.out.Kit = made
	return nil
}
