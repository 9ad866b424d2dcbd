package ship

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

func fuzzSigner(t testing.TB) *Signer {
	t.Helper()
	// A checkout has it readable by all, which LoadSigner refuses.
	text, err := os.ReadFile("testdata/v1/signing.key")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "signing.key")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := LoadSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzDecode: whatever a document's bytes, decoding them neither panics nor
// accepts what would be written differently, and what is accepted passes or
// fails its check without a panic.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"format":1,"type":"stream","repository":""}`, `{"format":1,"format":1}`,
		`{"rows":[["` + strings.Repeat("0", 64) + `",1,1]]}`, `{"rows":[[]]}`, `[1,2]`, `null`,
	} {
		f.Add([]byte(seed + "\n"))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var s streamDoc
		if decode(body, &s) == nil {
			_ = s.check()
		}
		var p pointDoc
		if decode(body, &p) == nil {
			_ = p.check()
		}
		var d partDoc
		if decode(body, &d) == nil {
			_, _ = sumRows(d.Rows, 0, defaultSlice, true)
		}
		var e eventDoc
		if decode(body, &e) == nil {
			_ = e.check()
		}
		var l leaseDoc
		if decode(body, &l) == nil {
			_ = l.check()
		}
		var r repositoryDoc
		if decode(body, &r) == nil {
			_ = r.check()
		}
	})
}

// FuzzOpen: no change of a signed object is accepted.
func FuzzOpen(f *testing.F) {
	signer := fuzzSigner(f)
	doc := repositoryDoc{
		header:  header{Format: formatVersion, Type: typeRepository, Repository: strings.Repeat("0", 32)},
		Created: time.Unix(1700000000, 0).UTC(), Encryption: EncryptionNone, Signer: signer.Public().String(), SliceBytes: defaultSlice,
	}
	object, err := sign(signer, typeRepository, doc.Repository, keyRepository, &doc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(object)
	f.Add(bytes.Replace(object, []byte("none"), []byte("age"), 1))
	f.Add(object[:100])
	f.Add([]byte("\n\n\n\n"))
	f.Fuzz(func(t *testing.T, changed []byte) {
		var got repositoryDoc
		if err := open(signer.Public(), changed, typeRepository, doc.Repository, keyRepository, &got); err == nil && !bytes.Equal(changed, object) {
			t.Errorf("accepted: %q", changed)
		}
	})
}

// FuzzKeys: a key that is understood is written in the same way.
func FuzzKeys(f *testing.F) {
	f.Add("meta/points/0000000001")
	f.Add("meta/ledger/0000000001")
	f.Add("meta/leases/06gzsdvxc9c1w7br.000001")
	f.Add("meta/streams/06gzsdvxc9c1w7br.o-1.g-1.full.0.0")
	f.Add("meta/streams/06gzsdvxc9c1w7br.o-1.g-1.06gzsdvxc9c1w7bq.12.3")
	f.Add("meta/streams/06gzsdvxc9c1w7br.o-1.g-1.full.+0.0")
	f.Fuzz(func(t *testing.T, key string) {
		if n, ok := parseNumbered(prefixPoints, key); ok && (pointKey(n) != key || CheckKey(key) != nil) {
			t.Errorf("%q is understood as point %d", key, n)
		}
		if n, ok := parseNumbered(prefixLedger, key); ok && (eventKey(n) != key || CheckKey(key) != nil) {
			t.Errorf("%q is understood as event %d", key, n)
		}
		if id, n, ok := parseLeaseKey(key); ok && (leaseKey(id, n) != key || CheckKey(key) != nil) {
			t.Errorf("%q is understood as lease %d of %s", key, n, id)
		}
		if s, ok := parseStreamKey(key); ok && (streamKey(s) != key || CheckKey(key) != nil || s.check() != nil) {
			t.Errorf("%q is understood as stream %+v", key, s)
		}
	})
}

// FuzzRecord: a record that was damaged anyhow is read up to the damage.
func FuzzRecord(f *testing.F) {
	const id = point.ID("06gzsdvxc9c1w7br")
	head := `{"format":1,"type":"ship-record","repository":"r","stream":"06gzsdvxc9c1w7br","driver":"btrfs","stream_format":"btrfs-2","origin":"o","guid":"g","base":"","slice_bytes":4096,"recipients":"none"}` + "\n"
	line := `{"n":0,"plain_sha256":"` + strings.Repeat("1", 64) + `","object_sha256":"` + strings.Repeat("2", 64) + `","plain_bytes":4096,"stored_bytes":100}` + "\n"
	f.Add([]byte(head + line))
	f.Add([]byte(head + line + line[:50]))
	f.Add([]byte(head + strings.Replace(line, `"n":0`, `"n":99999999`, 1)))
	f.Add([]byte(head))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, file []byte) {
		rec := &record{}
		_, whole, err := readRecord(bytes.NewReader(file), id, rec.remember)
		if whole > int64(len(file)) || err != nil && whole != 0 || whole > 0 && file[whole-1] != '\n' {
			t.Errorf("%d of %d bytes are good, %v", whole, len(file), err)
		}
		for n := range rec.done {
			if row, ok := rec.reuse(n, rec.done[n].plain, int(rec.done[n].plainBytes)); ok && (row.Plain < 1 || row.Stored < 1) {
				t.Errorf("segment %d: %+v", n, row)
			}
		}
	})
}

// FuzzUnseal: no stored bytes make a reader panic or take more than a slice.
func FuzzUnseal(f *testing.F) {
	enc, err := newEncoder()
	if err != nil {
		f.Fatal(err)
	}
	var dst bytes.Buffer
	if err := sealInto(&dst, bytes.Repeat([]byte("abc"), 1000), enc, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(dst.Bytes())
	f.Add(dst.Bytes()[:20])
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(_ *testing.T, stored []byte) {
		dec, err := newDecoder()
		if err != nil {
			panic(err)
		}
		defer dec.Close()
		_ = unseal(make([]byte, 3000), stored, dec, nil)
		_, _ = unsealSecret(stored, nil)
	})
}
