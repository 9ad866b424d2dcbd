package ship

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"snapd/internal/advice"

	"aead.dev/minisign"
)

// Versions of the format that docs/FORMAT.md describes. Everything is written
// in the newest; a reader accepts both.
const (
	formatOne     = 1 // points and streams know no ledger
	formatVersion = 2
)

// Types of signed objects.
const (
	typeRepository = "repository"
	typePoint      = "point"
	typeStream     = "stream"
	typePart       = "part"
	typeEvent      = "event"
	typeLease      = "lease"
)

// maxSigned bounds every signed object, so that a reader never has to take
// more than this into memory before it knows which key signed it.
const maxSigned = 16 << 20

// maxSignatureLines bounds the four lines of the signature: two comments of
// ours with a key in one of them, two lines of base64.
const maxSignatureLines = 2048

// header begins every signed document, so that one can tell what it is before
// decoding the rest.
type header struct {
	Format     int    `json:"format"`
	Type       string `json:"type"`
	Repository string `json:"repository"`
}

func (h *header) head() *header { return h }

// document is what is signed: it begins with a header.
type document interface{ head() *header }

const magicStart = "snapd repository format "

func magic(format int, typ string) string { return fmt.Sprintf("%s%d: %s", magicStart, format, typ) }

// formatOf is the version that the first line of an object of a type names.
func formatOf(comment, typ string) (format int, ok bool) {
	for _, format := range []int{formatOne, formatVersion} {
		if comment == magic(format, typ) {
			return format, formatHas(format, typ)
		}
	}
	return 0, false
}

// formatHas tells whether a version of the format knows a type of object.
func formatHas(format int, typ string) bool {
	return format >= formatVersion || typ != typeEvent && typ != typeLease
}

// newer tells whether the first line names a version that only a later program
// writes.
func newer(comment string) (named string, ok bool) {
	named, ok = strings.CutPrefix(comment, magicStart)
	if !ok {
		return "", false
	}
	digits, _, _ := strings.Cut(named, ":")
	format, err := strconv.Atoi(digits)
	return named, err == nil && format > formatVersion
}

// sign makes a signed object: four lines that are a minisign signature file,
// then the document. The trusted comment holds repository and key, so that an
// object that was moved to another key does not verify there. The result
// depends on nothing but its arguments: an object put twice is the same twice.
func sign(s *Signer, typ, repository, key string, doc document) ([]byte, error) {
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	body = append(body, '\n')
	r := minisign.NewReader(bytes.NewReader(body))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return nil, fmt.Errorf("sign %s: %w", key, err)
	}
	object := append(r.SignWithComments(s.key, repository+" "+key, magic(formatVersion, typ)), body...)
	if len(object) > maxSigned {
		return nil, fmt.Errorf("object %s would be %d bytes long, more than the %d that a reader accepts", key, len(object), maxSigned)
	}
	return object, nil
}

// split takes a signed object apart without checking the signature.
func split(object []byte) (signature, body []byte, err error) {
	end := 0
	for range 4 {
		i := bytes.IndexByte(object[end:min(len(object), maxSignatureLines)], '\n')
		if i < 0 {
			return nil, nil, fmt.Errorf("%w: it has no four lines of signature", ErrDamaged)
		}
		end += i + 1
	}
	return object[:end], object[end:], nil
}

// open checks which key signed an object, that it is of this type and lies where it
// was put, and decodes it into doc. An unknown field, or anything that would
// be written differently, is an error: what was signed is exactly what is
// understood.
func open(trusted PublicKey, object []byte, typ, repository, key string, doc document) error {
	signature, body, err := split(object)
	if err != nil {
		return fmt.Errorf("object %s: %w", key, err)
	}
	var s minisign.Signature
	if err := s.UnmarshalText(signature); err != nil || s.Algorithm != minisign.HashEdDSA || s.String() != string(signature) {
		return fmt.Errorf("object %s: %w: its first four lines are no minisign signature", key, ErrDamaged)
	}
	format, ok := formatOf(s.UntrustedComment, typ)
	later, isNewer := newer(s.UntrustedComment)
	if !ok && !isNewer {
		return fmt.Errorf("object %s: %w: it is not a %s of a snapd repository", key, ErrDamaged, typ)
	}
	r := minisign.NewReader(bytes.NewReader(body))
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("verify %s: %w", key, err)
	}
	if !r.Verify(trusted.key, signature) {
		return fmt.Errorf("object %s: %w: it is damaged, or was not signed by %s", key, ErrSignature, trusted)
	}
	if want := repository + " " + key; repository != "" && s.TrustedComment != want {
		return fmt.Errorf("object %s: %w: it was signed for %q", key, ErrSignature, s.TrustedComment)
	}
	if isNewer {
		// Only the signer may say so: the first line is not signed, and one
		// flipped digit there must not stop everything.
		return advice.With(fmt.Errorf("object %s is of another format (%q): %w", key, later, ErrNewer), "update snapd on this host")
	}
	err = decode(body, doc)
	if err == nil && doc.head().Format != format {
		err = fmt.Errorf("its document says format %d", doc.head().Format)
	}
	if err != nil {
		return fmt.Errorf("object %s: %w: %w", key, ErrDamaged, err)
	}
	return nil
}

// decode is strict: encoding what was decoded gives the same bytes.
func decode(body []byte, doc any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	again, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if !bytes.Equal(append(again, '\n'), body) {
		return fmt.Errorf("decode: not in the form in which it is written")
	}
	return nil
}

// checkHeader compares what every document begins with.
func checkHeader(h header, typ, repository string) error {
	if h.Format != formatOne && h.Format != formatVersion || h.Type != typ || h.Repository != repository {
		return fmt.Errorf("%w: it says format %d, type %q, repository %q", ErrDamaged, h.Format, h.Type, h.Repository)
	}
	return nil
}
