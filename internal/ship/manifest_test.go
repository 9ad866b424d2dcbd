package ship_test

import (
	"bytes"
	"strings"
	"testing"

	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// TestLongStream: a manifest longer than one part.
func TestLongStream(t *testing.T) {
	const small = 1 << 10
	const segments = 16384 + 3
	store := shiptest.NewMemory()
	b := newBenchWith(t, store, ship.EncryptionNone, small)
	r, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: b.signer})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), segments*small/16)
	s, err := r.Upload(t.Context(), full("g1"), source(data), nil, nil)
	if err != nil || s.Segments != segments {
		t.Fatalf("got %+v, %v", s, err)
	}
	var parts []string
	for _, k := range store.Keys("data/") {
		if strings.Contains(k, "/part-") {
			parts = append(parts, k)
		}
	}
	if len(parts) != 1 || s.Size > 5000 {
		t.Errorf("parts %q, a manifest of %d bytes", parts, s.Size)
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	b.point(r, s)
	if got, err := r.Prune(t.Context(), nil, nil, later()); err != nil || got.Objects != 0 {
		t.Errorf("prune: %+v, %v", got, err)
	}
	shiptest.FlipBit(t, store, parts[0])
	_, problems, err := b.reader().Verify(t.Context(), ship.VerifyOptions{}, nil)
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Problem, parts[0]) {
		t.Errorf("a damaged part: %+v, %v", problems, err)
	}
	if got, err := b.read(b.reader(), s.ID); err == nil || len(got) != 0 {
		t.Errorf("a damaged part: %d bytes, %v", len(got), err)
	}
}
