package ship

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/durable"

	"aead.dev/minisign"
)

// Signer is the host's private signing key, an unencrypted minisign key.
type Signer struct {
	key minisign.PrivateKey
}

// NewSigner makes a new key.
func NewSigner() (*Signer, error) {
	_, key, err := minisign.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return &Signer{key: key}, nil
}

// LoadSigner reads a key that Save wrote, or that `minisign -G -W` made.
func LoadSigner(file string) (*Signer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, advice.With(fmt.Errorf("read signing key: %w", err), "run snapd init, which makes one")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, advice.With(fmt.Errorf("signing key %s can be read by others (mode %04o)", file, info.Mode().Perm()), "run: chmod 0600 %s", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read signing key: %w", err)
	}
	if minisign.IsEncrypted(text) {
		return nil, advice.With(fmt.Errorf("signing key %s has a password, which the agent cannot type", file), "remove the password with: minisign -C -W -s %s", file)
	}
	s, err := ParseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w", file, err)
	}
	return s, nil
}

// Save writes the key to a new file that only its owner can read. It never
// overwrites: a file that is there is ErrExists.
func (s *Signer) Save(file string) error {
	text, err := s.Text()
	if err != nil {
		return err
	}
	err = durable.Create(file, text, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("save signing key: %s %w", file, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("save signing key: %w", err)
	}
	return nil
}

// Public is the key by which others know this signer.
func (s *Signer) Public() PublicKey {
	return PublicKey{key: s.key.Public().(minisign.PublicKey), set: true}
}

// PublicKey is a signer as its readers know it. The zero value means none.
type PublicKey struct {
	key minisign.PublicKey
	set bool
}

// GroupTag tells the points of one group from those of others without naming
// it, for the host that lost its record: retention needs to know. It is as
// secret as the signing key, and another one in each repository. "" where that
// key is not known.
func (r *Repository) GroupTag(group string) string {
	return r.tag("snapd group " + r.ID + " " + group)
}

// RecipientsTag tells one set of recipients from another without naming them:
// a stream can be a base only for those users that can decrypt it. "none" without
// encryption; "" where the signing key is not known, or a recipient has no
// name. The tag of a stream of format 1 is "" too: never take two of them for
// equal.
func (r *Repository) RecipientsTag() string {
	if r.Encryption == EncryptionNone {
		return EncryptionNone
	}
	names := recipientNames(r.recipients)
	if len(names) == 0 {
		return ""
	}
	return r.tag("snapd recipients " + r.ID + " " + strings.Join(names, "\n"))
}

// tag is the first 16 digits of a keyed digest, "" without the key.
func (r *Repository) tag(text string) string {
	if r.signer == nil {
		return ""
	}
	key, err := r.signer.key.MarshalText()
	if err != nil {
		return "" // a key that was read is also written
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// checkTag accepts what RecipientsTag gives, but "".
func checkTag(tag string) error {
	if b, err := hex.DecodeString(tag); tag != EncryptionNone && (err != nil || len(b) != 8 || strings.ToLower(tag) != tag) {
		return fmt.Errorf("%q is no tag of recipients", tag)
	}
	return nil
}

// ParsePublicKey reads minisign's base64 form ("RW…"), also from a whole
// public key file with its comment line.
func ParsePublicKey(s string) (PublicKey, error) {
	var k PublicKey
	if err := k.key.UnmarshalText([]byte(strings.TrimSpace(s))); err != nil {
		return PublicKey{}, fmt.Errorf("%q is not a signer's key (minisign's, beginning with RW): %w", s, err)
	}
	k.set = true
	return k, nil
}

// String is minisign's base64 form, "" for none.
func (k PublicKey) String() string {
	if !k.set {
		return ""
	}
	return k.key.String()
}

// IsZero tells whether this is no key.
func (k PublicKey) IsZero() bool { return !k.set }

// Equal compares two keys.
func (k PublicKey) Equal(x PublicKey) bool { return k.set == x.set && k.key.Equal(x.key) }
