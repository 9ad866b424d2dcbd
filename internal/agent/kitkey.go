package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/ship"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// sealSigner encrypts a signing key for a kit.
func sealSigner(signer *ship.Signer, recipients []string) (string, error) {
	key, err := signer.Text()
	if err != nil {
		return "", err
	}
	to, err := age.ParseRecipients(strings.NewReader(strings.Join(recipients, "\n")))
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	lines := armor.NewWriter(&text)
	box, err := age.Encrypt(lines, to...)
	if err == nil {
		_, err = box.Write(key)
	}
	if err == nil {
		err = errors.Join(box.Close(), lines.Close())
	}
	if err != nil {
		return "", fmt.Errorf("encrypt the signing key: %w", err)
	}
	return text.String(), nil
}

// openSigner decrypts the signing key of a kit, and compares it with the
// public key there.
func openSigner(r config.Repository, identities []string) (*ship.Signer, error) {
	ids, err := parseIdentities(identities)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 {
		return nil, advice.In(advice.Usage, obstacle(NeedsIdentity, "the signing key in the kit is encrypted, and no identity is known that opens it"))
	}
	in, err := age.Decrypt(armor.NewReader(strings.NewReader(strings.TrimSpace(r.SealedSigningKey))), ids...)
	if _, other := errors.AsType[*age.NoIdentityMatchError](err); other {
		return nil, advice.In(advice.Usage, obstacle(NeedsIdentity, "the signing key in the kit is encrypted for another identity"))
	}
	if err != nil {
		return nil, fmt.Errorf("open the signing key in the kit: %w", err)
	}
	const most = 64 << 10 // bytes; a key has some hundred
	text, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return nil, fmt.Errorf("open the signing key in the kit: %w", err)
	}
	signer, err := ship.ParseSigner(text)
	if err != nil {
		return nil, fmt.Errorf("the signing key in the kit: %w", err)
	}
	if got := signer.Public().String(); got != r.Signer {
		return nil, fmt.Errorf("the signing key in the kit is that of %s, not of %s", got, r.Signer)
	}
	return signer, nil
}
