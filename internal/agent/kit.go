package agent

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/durable"
	"snapd/internal/point"
	"snapd/internal/ship"

	"filippo.io/age"
)

// Proved is what was tried with the content of a kit at one repository, and
// worked.
type Proved struct {
	Repository string   `json:"repository"`
	URL        string   `json:"url"`
	Opens      []string `json:"opens"`      // configured recipients whose secrets the kit opens; none where nothing is encrypted
	NotOpened  []string `json:"not_opened"` // configured recipients that need another identity
	Point      point.ID `json:"point"`      // a restore point that was opened, "" when there is none yet
	Sets       []Set    `json:"sets"`       // of each set of recipients that restore points were encrypted for
}

// Set is what came of opening one of the restore points that were encrypted for the
// same recipients.
type Set struct {
	Point  point.ID `json:"point"`  // the newest of them, which was tried
	Points int      `json:"points"` // how many there are
	Opened bool     `json:"opened"`
}

// Lines say it to people.
func (p Proved) Lines() []string {
	lines := []string{fmt.Sprintf("%s: %s answers, and is signed by the signer in the kit.", p.Repository, p.URL)}
	for _, r := range p.Opens {
		lines = append(lines, fmt.Sprintf("%s: its identity opens what is encrypted for %s.", p.Repository, r))
	}
	for _, r := range p.NotOpened {
		lines = append(lines, fmt.Sprintf("%s: it does NOT open what is encrypted for %s alone.", p.Repository, r))
	}
	if p.Point == "" {
		return append(lines, p.Repository+": there was no restore point yet to open.")
	}
	if len(p.Sets) == 0 {
		return append(lines, fmt.Sprintf("%s: restore point %s was opened.", p.Repository, p.Point))
	}
	for _, s := range p.Sets {
		opened := "was opened"
		if !s.Opened {
			opened = "was NOT opened"
		}
		of := ", the only one for its recipients"
		if s.Points > 1 {
			of = fmt.Sprintf(", the newest of %d for the same recipients; the others were not tried", s.Points)
		}
		lines = append(lines, fmt.Sprintf("%s: restore point %s %s%s.", p.Repository, s.Point, opened, of))
	}
	return lines
}

// keepIdentity keeps a new identity before anything depends on it. The file is
// no kit yet, and says so.
func (s *setup) keepIdentity(context.Context) error {
	if !s.madeNew || s.KitFile == "" {
		return nil
	}
	k, err := s.content()
	if err == nil {
		err = durable.Create(s.KitFile, []byte(config.FormatUnfinishedKit(k)), 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the identity: %w", err)
	}
	if s.kit, err = s.readBack(); err != nil {
		return fmt.Errorf("keep the identity: %w", err)
	}
	return nil
}

// finishKit makes the kit, after it was tried; or shows an address card.
func (s *setup) finishKit(ctx context.Context) error {
	if s.FromKit {
		return s.proveOldKit(ctx)
	}
	k, err := s.content()
	if err != nil {
		return fmt.Errorf("write the recovery kit: %w", err)
	}
	if !s.wantsKit() {
		if k.Commands = s.CardCommands; s.Show == nil || len(k.Repositories) == 0 || s.faults() != nil {
			return nil //nolint:nilerr // a card must not name a key that signed nothing
		}
		return s.Show(config.FormatCard(k), false)
	}
	if s.faults() != nil {
		return errors.New("write the recovery kit: it was not, because not every repository could be tried with it")
	}
	proved, err := s.prove(ctx, k)
	if err != nil {
		return fmt.Errorf("try the recovery kit: %w", err)
	}
	for _, p := range proved {
		k.Proved = append(k.Proved, p.Lines()...)
	}
	if err := s.deliver(config.FormatKit(k)); err != nil {
		return fmt.Errorf("write the recovery kit: %w", err)
	}
	s.out.Kit = &KitMade{File: s.KitFile, Proved: proved}
	return nil
}

// deliver keeps or shows a kit that was tried.
func (s *setup) deliver(text string) error {
	what := "recovery kit " + s.KitFile
	switch {
	case s.KitFile == "":
		return s.Show(text, true)
	case s.kit != nil && !s.unfinished():
		s.out.note(&s.out.There, what)
		return nil
	case s.kit != nil:
		if err := durable.Write(s.KitFile, []byte(text), 0o600); err != nil {
			return err
		}
	default:
		if err := durable.Create(s.KitFile, []byte(text), 0o600); err != nil {
			return err
		}
	}
	want, err := config.ParseKit(s.KitFile, []byte(text))
	if err != nil {
		return err
	}
	got, err := s.readBack()
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("what was written to %s is not what is read there", s.KitFile)
	}
	s.kit = got
	s.out.note(&s.out.Made, what)
	return nil
}

func (s *setup) readBack() (*config.Config, error) {
	content, err := os.ReadFile(s.KitFile)
	if err != nil {
		return nil, err
	}
	return config.ParseUnfinishedKit(s.KitFile, content)
}

// content is what a kit of these repositories says; what was tried with it is
// still missing. A finished kit that is there says what it says.
func (s *setup) content() (config.Kit, error) {
	k := config.Kit{Host: s.host, Made: s.now, Commands: s.Commands}
	for _, p := range s.places {
		r := p.Repository
		if s.kit != nil && !s.unfinished() {
			there := s.kit.Repositories[r.Name]
			r.Identity, r.SealedSigningKey = there.Identity, there.SealedSigningKey
			k.Repositories = append(k.Repositories, r)
			continue
		}
		var fitting []string
		for _, identity := range s.identities {
			opened, _, err := trial(r.Recipients, []string{identity})
			if err != nil {
				return k, err
			}
			if len(opened) > 0 {
				fitting = append(fitting, identity)
			}
		}
		r.Identity = strings.Join(fitting, "\n")
		if s.SigningKey && p.signer != nil {
			var err error
			if r.SealedSigningKey, err = sealSigner(p.signer, r.Recipients); err != nil {
				return k, err
			}
		}
		k.Repositories = append(k.Repositories, r)
	}
	return k, nil
}

// prove reads a kit as its reader would, and opens with it what can be opened.
func (s *setup) prove(ctx context.Context, k config.Kit) ([]Proved, error) {
	read, err := config.ParseKit("recovery kit", []byte(config.FormatKit(k)))
	if err != nil {
		return nil, err
	}
	var out []Proved
	for _, p := range s.places {
		r := read.Repositories[p.Name]
		r.CredentialsFile = p.CredentialsFile // these are never in a kit
		proved, err := s.proveOne(ctx, r, p.Recipients)
		if err == nil && p.signer != nil && r.SealedSigningKey != "" {
			_, err = openSigner(r, kitIdentities(r))
		}
		if err != nil {
			return out, fmt.Errorf("repository %s: %w", p.Name, err)
		}
		out = append(out, proved)
	}
	return out, nil
}

// proveOne tries one repository of a kit against the recipients that are
// configured.
func (s *setup) proveOne(ctx context.Context, r config.Repository, recipients []string) (Proved, error) {
	proved := Proved{Repository: r.Name, URL: r.URL, Opens: []string{}, NotOpened: []string{}, Sets: []Set{}}
	trusted, err := ship.ParsePublicKey(r.Signer)
	if err != nil {
		return proved, err
	}
	identities, err := parseIdentities(kitIdentities(r))
	if err != nil {
		return proved, err
	}
	store, err := s.Store(ctx, r)
	if err != nil {
		return proved, err
	}
	repo, err := ship.Open(ctx, store, ship.OpenOptions{Trusted: trusted, Identities: identities})
	if err != nil {
		return proved, err
	}
	if repo.Encryption == ship.EncryptionAge {
		if proved.Opens, proved.NotOpened, err = trial(recipients, kitIdentities(r)); err != nil {
			return proved, err
		}
		if len(proved.Opens) == 0 {
			return proved, fmt.Errorf("%w: its identity opens nothing that is encrypted for %s", ship.ErrNoIdentity, strings.Join(recipients, ", "))
		}
	}
	if proved.Point, err = repo.OpenNewest(ctx); err != nil || proved.Point == "" || repo.Encryption == ship.EncryptionNone {
		return proved, err
	}
	sets, err := repo.OpenEach(ctx)
	for _, one := range sets {
		proved.Sets = append(proved.Sets, Set(one))
	}
	return proved, err
}

// trial encrypts something for each recipient, and tells by decrypting it
// which of them the identities open.
func trial(recipients, identities []string) (opened, not []string, err error) {
	opened, not = []string{}, []string{}
	ids, err := parseIdentities(identities)
	if err != nil {
		return opened, not, err
	}
	for _, text := range recipients {
		to, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return opened, not, advice.Usagef("%q is not an age recipient (age1…): %w", text, err)
		}
		ok, err := opens(to, ids)
		switch {
		case err != nil:
			return opened, not, err
		case ok:
			opened = append(opened, text)
		default:
			not = append(not, text)
		}
	}
	return opened, not, nil
}

// opens tells whether identities open what is encrypted for recipients.
func opens(to []age.Recipient, identities []age.Identity) (bool, error) {
	if len(identities) == 0 {
		return false, nil
	}
	secret := []byte(rand.Text())
	var box bytes.Buffer
	w, err := age.Encrypt(&box, to...)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return false, fmt.Errorf("encrypt for a trial: %w", err)
	}
	r, err := age.Decrypt(&box, identities...)
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("decrypt for a trial: %w", err)
	}
	got, err := io.ReadAll(r)
	return bytes.Equal(got, secret), err
}

// parseIdentities reads texts that were read before.
func parseIdentities(texts []string) ([]age.Identity, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	return age.ParseIdentities(strings.NewReader(strings.Join(texts, "\n")))
}

// kitIdentities are those that a kit has for a repository.
func kitIdentities(r config.Repository) []string {
	if r.Identity == "" {
		return nil
	}
	return strings.Split(r.Identity, "\n")
}

// recipientsOf are those for which something is encrypted so that the
// identities open it.
func recipientsOf(identities []string) ([]string, error) {
	ids, err := parseIdentities(identities)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		x, ok := id.(*age.X25519Identity)
		if !ok {
			return nil, advice.Usagef("an identity is of a kind that repositories do not know: it must begin with AGE-SECRET-KEY-1")
		}
		out = append(out, x.Recipient().String())
	}
	return out, nil
}
