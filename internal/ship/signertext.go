package ship

import (
	"bytes"
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// Text is the private key as Save writes it.
func (s *Signer) Text() ([]byte, error) {
	text, err := s.key.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("write signing key: %w", err)
	}
	return append(bytes.TrimRight(text, "\n"), '\n'), nil
}

// ParseSigner reads what Text returned.
func ParseSigner(text []byte) (*Signer, error) {
	var s Signer
	if err := s.key.UnmarshalText(text); err != nil {
		return nil, err
	}
	// The text has no checksum; a key whose halves do not fit would sign
	// what no reader can verify.
	probe := minisign.NewReader(strings.NewReader("probe"))
	if !probe.Verify(s.Public().key, probe.SignWithComments(s.key, "probe", "probe")) {
		return nil, fmt.Errorf("%w: its halves do not belong together", ErrDamaged)
	}
	return &s, nil
}
