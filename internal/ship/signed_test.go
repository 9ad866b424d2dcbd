package ship

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"

	"aead.dev/minisign"
)

// signedAs is an object of a version that this program does not write.
func signedAs(t *testing.T, s *Signer, format int, typ, key string, doc any) []byte {
	t.Helper()
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, '\n')
	r := minisign.NewReader(bytes.NewReader(body))
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	return append(r.SignWithComments(s.key, strings.Repeat("0", 32)+" "+key, magic(format, typ)), body...)
}

// TestALaterVersion stops a reader only where it was signed.
func TestALaterVersion(t *testing.T) {
	signer := fuzzSigner(t)
	repository := strings.Repeat("0", 32)
	doc := repositoryDoc{
		header:  header{Format: 3, Type: typeRepository, Repository: repository},
		Created: time.Unix(1700000000, 0).UTC(), Encryption: EncryptionNone, Signer: signer.Public().String(), SliceBytes: defaultSlice,
	}
	var got repositoryDoc
	object := signedAs(t, signer, 3, typeRepository, keyRepository, &doc)
	if err := open(signer.Public(), object, typeRepository, repository, keyRepository, &got); !errors.Is(err, ErrNewer) || isDamage(err) || advice.Of(err) == "" {
		t.Errorf("version 3: got %v", err)
	}
	for _, format := range []int{formatOne, formatVersion} {
		doc.Format = format
		object := signedAs(t, signer, format, typeRepository, keyRepository, &doc)
		if err := open(signer.Public(), object, typeRepository, repository, keyRepository, &got); err != nil {
			t.Errorf("version %d: %v", format, err)
		}
		// The first line is not signed: an attacker that changes it damages the object.
		for _, other := range []int{1, 2, 3} {
			if other == format {
				continue
			}
			changed := bytes.Replace(object, fmt.Appendf(nil, "format %d", format), fmt.Appendf(nil, "format %d", other), 1)
			err := open(signer.Public(), changed, typeRepository, repository, keyRepository, &got)
			if err == nil || other < 3 && !isDamage(err) {
				t.Errorf("version %d called %d: got %v", format, other, err)
			}
		}
	}
}

// TestVersionsAreNotMixedInADocument: version 1 has none of the new fields,
// version 2 all of them.
func TestVersionsAreNotMixedInADocument(t *testing.T) {
	point := pointDoc{header: header{Format: formatVersion}, Point: "06gzsdvxc9c1w7br", Host: "h", GroupTag: "t", Number: 1, Consistency: "crash", Ledgered: &Ledgered{}}
	stream := PointStream{Stream: "06gzsdvxc9c1w7br", Driver: "btrfs", Origin: "o", GUID: "g", SentBytes: 1, StoredBytes: 1, Segments: 1, Digest: Digest{1}, StreamPlace: &StreamPlace{Recipients: "none"}}
	point.Streams = []PointStream{stream}
	if err := point.check(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(&point)
	if err != nil || !bytes.Contains(text, []byte(`"events":null`)) || !bytes.Contains(text, []byte(`"base_guid":null,"number":0,"depth":0,"recipients":"none"`)) {
		t.Errorf("%v: %s", err, text)
	}
	var again pointDoc
	if err := decode(append(text, '\n'), &again); err != nil || again.check() != nil {
		t.Errorf("read back: %v, %v", err, again.check())
	}
	old := point
	old.Format = formatOne
	if err := old.check(); err == nil {
		t.Error("version 1 with an event: no error")
	}
	old.Ledgered = nil
	if err := old.check(); err == nil {
		t.Error("version 1 with places of streams: no error")
	}
	stream.StreamPlace = nil
	old.Streams = []PointStream{stream}
	if err := old.check(); err != nil {
		t.Error(err)
	}
	old.Format = formatVersion
	if err := old.check(); err == nil {
		t.Error("version 2 without: no error")
	}
}
