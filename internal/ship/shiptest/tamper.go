package shiptest

import (
	"io"
	"testing"

	"snapd/internal/ship"
)

// FlipBit turns one bit in the middle of a stored object.
func FlipBit(t *testing.T, s ship.Store, key string) {
	t.Helper()
	r, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r)
	_ = r.Close()
	if err != nil || len(body) == 0 {
		t.Fatalf("read %s: %d bytes, %v", key, len(body), err)
	}
	body[len(body)/2] ^= 0x10
	if err := s.Put(t.Context(), key, body, false); err != nil {
		t.Fatal(err)
	}
}
