package ship_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

func TestSignerFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signing key")
	s, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save(file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("saved as %v, %v", info, err)
	}
	got, err := ship.LoadSigner(file)
	if err != nil || !got.Public().Equal(s.Public()) {
		t.Fatalf("loaded: %v", err)
	}
	other, _ := ship.NewSigner()
	if err := other.Save(file); !errors.Is(err, ship.ErrExists) {
		t.Errorf("overwriting: got %v, want ErrExists", err)
	}
	if names, _ := os.ReadDir(filepath.Dir(file)); len(names) != 1 {
		t.Errorf("left beside it: %v", names)
	}
	if key, err := ship.ParsePublicKey(s.Public().String()); err != nil || !key.Equal(s.Public()) || !strings.HasPrefix(key.String(), "RW") {
		t.Errorf("public key: %v, %v", key, err)
	}
	if _, err := ship.ParsePublicKey("RWnonsense"); err == nil {
		t.Error("a nonsense key: no error")
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ship.LoadSigner(file); err == nil || !strings.Contains(advice.Of(err), "chmod") {
		t.Errorf("readable by all: got %v", err)
	}
	text, _ := os.ReadFile(file)
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ship.LoadSigner(file); err == nil {
		t.Error("a damaged key: no error")
	}
}
