package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/ship"

	"filippo.io/age"
)

// plan reads and checks what lies on this host. It asks no store and writes
// nothing.
func (s *setup) plan() error {
	repositories, err := s.readConfiguration()
	if err != nil {
		return err
	}
	if err := s.readKit(); err != nil {
		return err
	}
	if err := s.readIdentities(repositories); err != nil {
		return err
	}
	switch {
	case s.FromKit:
		repositories, err = s.fromOldKit(repositories)
	case s.fresh:
		repositories, err = s.first()
	}
	if err != nil {
		return err
	}
	for _, r := range repositories {
		s.places = append(s.places, &place{Repository: r})
	}
	s.loadSigners()
	return s.checkKit()
}

// readConfiguration returns the repositories of the configuration, ascending
// by name; none when it is to be made.
func (s *setup) readConfiguration() ([]config.Repository, error) {
	content, err := os.ReadFile(s.File)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.URL == "" && !s.FromKit:
		return nil, advice.In(NoRepository, advice.Usagef("there is no %s, and no repository is named to begin one with", s.File))
	case errors.Is(err, fs.ErrNotExist):
		s.fresh = true
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	conf, err := config.Parse(s.File, content)
	if err != nil {
		return nil, err
	}
	var out []config.Repository
	same := s.URL == ""
	for _, name := range slices.Sorted(maps.Keys(conf.Repositories)) {
		r := conf.Repositories[name]
		out = append(out, r)
		if s.EncryptionSaid && r.Encryption != s.Encryption {
			return nil, advice.In(FileThere, advice.Usagef("%s is there already, and says encryption = %q for repository %s: asking for %q here would change nothing", s.File, r.Encryption, name, s.Encryption))
		}
		same = same || r.URL == s.URL && r.Endpoint == s.Endpoint && r.Region == s.Region
	}
	if !same { // when it names the same, an earlier call was interrupted, or all is done
		return nil, advice.In(FileThere, advice.Usagef("%s is there already and does not name %s: naming it here would change nothing", s.File, s.URL))
	}
	return out, nil
}

// readKit reads what lies where the kit is to be kept.
func (s *setup) readKit() error {
	if s.KitFile == "" {
		return nil
	}
	content, err := os.ReadFile(s.KitFile)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.FromKit:
		return nil
	case err != nil:
		return advice.Usagef("read the recovery kit: %w", err)
	}
	if s.FromKit {
		s.kit, err = config.ParseKit(s.KitFile, content)
		return err
	}
	if s.kit, err = config.ParseUnfinishedKit(s.KitFile, content); err != nil {
		return advice.In(advice.Usage, obstacle(KitThere, "%s: file exists, and is no recovery kit", s.KitFile))
	}
	return nil
}

// readIdentities collects all identities that this call may use. It makes one
// where a first configuration has none.
func (s *setup) readIdentities(repositories []config.Repository) error {
	files := slices.Clone(s.IdentityFiles)
	if s.KitFile != "" {
		for _, r := range repositories {
			if r.IdentityFile != "" {
				files = append(files, r.IdentityFile)
			}
		}
	}
	for _, file := range files {
		if err := s.readIdentityFile(file); err != nil {
			return err
		}
	}
	if s.kit != nil {
		for _, r := range s.kit.Repositories {
			if err := s.addIdentities(r.Identity); err != nil {
				return advice.Usagef("%s: identity: %w", s.KitFile, err)
			}
		}
	}
	if s.fresh && !s.FromKit && s.Encryption == config.EncryptionAge && len(s.identities) == 0 {
		made, err := age.GenerateX25519Identity()
		if err != nil {
			return fmt.Errorf("make an identity: %w", err)
		}
		s.identities, s.madeNew = []string{made.String()}, true
	}
	return nil
}

// readIdentityFile reads a file of age's, or a kit.
func (s *setup) readIdentityFile(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return advice.Usagef("read the identity: %w", err)
	}
	if err = s.addIdentities(string(content)); err == nil {
		return nil
	}
	kit, kerr := config.ParseUnfinishedKit(file, content)
	if kerr != nil {
		return advice.Usagef("read the identity in %s: %w", file, err)
	}
	for _, r := range kit.Repositories {
		if err := s.addIdentities(r.Identity); err != nil {
			return advice.Usagef("read the identity in %s: %w", file, err)
		}
	}
	return nil
}

// addIdentities adds those of a text that has one a line.
func (s *setup) addIdentities(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if _, err := age.ParseIdentities(strings.NewReader(text)); err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line != "" && !strings.HasPrefix(line, "#") && !slices.Contains(s.identities, line) {
			s.identities = append(s.identities, line)
		}
	}
	return nil
}

// first is the repository of a first configuration.
func (s *setup) first() ([]config.Repository, error) {
	r, err := config.NewRepository("main", s.URL, s.Endpoint, s.Region)
	if err != nil {
		return nil, advice.In(advice.Usage, err)
	}
	r.SigningKeyFile = filepath.Join(filepath.Dir(s.File), "signing.key")
	if r.Encryption = s.Encryption; r.Encryption == config.EncryptionAge {
		if r.Recipients, err = recipientsOf(s.identities); err != nil {
			return nil, err
		}
	}
	return []config.Repository{r}, nil
}

// loadSigners reads the signing keys, and makes those that are missing, in
// memory. Repositories with one key file have one key.
func (s *setup) loadSigners() {
	made := map[string]*ship.Signer{}
	for _, p := range s.places {
		signer, err := ship.LoadSigner(p.SigningKeyFile)
		if errors.Is(err, fs.ErrNotExist) {
			if s.FromKit {
				signer, err = s.kitSigner(p.Repository)
			} else if signer, err = made[p.SigningKeyFile], nil; signer == nil {
				signer, err = ship.NewSigner()
			}
			p.unsave = signer != nil
			made[p.SigningKeyFile] = signer
		}
		if err == nil && s.FromKit && signer != nil && signer.Public().String() != p.Signer {
			err = advice.With(fmt.Errorf("signing key %s is another one than that of the kit, %s", p.SigningKeyFile, p.Signer),
				"move that file out of the way if nothing else is signed by it, then run the same command again")
		}
		if err != nil {
			p.fault = err
			continue
		}
		if p.signer = signer; signer != nil {
			p.Signer = signer.Public().String()
		}
	}
}

// checkKit tells whether the kit can be written, or is there already, before
// anything is made.
func (s *setup) checkKit() error {
	if s.FromKit {
		return nil
	}
	if s.wantsKit() {
		for _, p := range s.places {
			opened, _, err := trial(p.Recipients, s.identities)
			if err != nil {
				return fmt.Errorf("repository %s: %w", p.Name, err)
			}
			if p.Encryption == config.EncryptionAge && len(opened) == 0 {
				return advice.In(advice.Usage, obstacle(NeedsIdentity, "a recovery kit must open what is encrypted, and no identity is known that opens what repository %s encrypts for %s", p.Name, strings.Join(p.Recipients, ", ")))
			}
			if p.Encryption == config.EncryptionNone && s.SigningKey {
				return advice.Usagef("repository %s is not encrypted, so that its kit has no recipients to encrypt the signing key for", p.Name)
			}
		}
	}
	if s.kit == nil {
		return nil
	}
	return s.checkKitThere()
}

// checkKitThere compares the file that is there with what a kit must say.
func (s *setup) checkKitThere() error {
	differs := func(format string, args ...any) error {
		return advice.In(advice.Usage, obstacle(KitThere, "%s: file exists, and is another kit than this would be: %s", s.KitFile, fmt.Sprintf(format, args...)))
	}
	if len(s.kit.Repositories) != len(s.places) {
		return differs("it has %d repositories, and the configuration %d", len(s.kit.Repositories), len(s.places))
	}
	for _, p := range s.places {
		k, ok := s.kit.Repositories[p.Name]
		opened, _, err := trial(p.Recipients, kitIdentities(k))
		switch {
		case err != nil:
			return err
		case !ok || k.URL != p.URL || k.Endpoint != p.Endpoint || k.Region != p.Region:
			return differs("it does not name repository %s at %s", p.Name, p.URL)
		case p.Encryption == config.EncryptionAge && len(opened) == 0:
			return differs("it opens nothing of repository %s", p.Name)
		case k.Signer == "":
			continue // unfinished: it is written anew
		case p.fault == nil && k.Signer != p.Signer:
			return advice.In(advice.Usage, obstacle(KitOfOtherKey, "%s: file exists, and is the kit of the signing key %s, which is not on this host", s.KitFile, k.Signer))
		case len(k.Recipients) > 0 && !slices.Equal(k.Recipients, p.Recipients):
			return differs("other recipients are configured for repository %s", p.Name)
		case s.SigningKey && k.SealedSigningKey == "":
			return differs("it does not hold the signing key of repository %s", p.Name)
		}
	}
	return nil
}

// unfinished tells whether the kit that is there was begun and not ended.
func (s *setup) unfinished() bool {
	if s.kit == nil {
		return false
	}
	for _, r := range s.kit.Repositories {
		if r.Signer == "" {
			return true
		}
	}
	return false
}

// wantsKit tells whether this call makes a recovery kit, and not only a card
// with addresses.
func (s *setup) wantsKit() bool {
	encrypted := slices.ContainsFunc(s.places, func(p *place) bool { return p.Encryption == config.EncryptionAge })
	return s.fresh || s.KitFile != "" || len(s.IdentityFiles) > 0 || !encrypted
}
