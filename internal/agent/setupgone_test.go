package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A disk that is not mounted, or a bucket that was emptied, gets no second
// repository: what was shipped would be hidden from then on.
func TestInitMakesNoSecondRepository(t *testing.T) {
	root := t.TempDir()
	o := beginning(root)
	o.State = filepath.Join(root, "state")
	mustInit(t, o)
	ships(t, o)
	repository := filepath.Join(root, "repository")
	seen := filepath.Join(o.State, "repositories", "id")
	text, err := json.Marshal(found{Format: foundFormat, Repository: "main", Address: "file://" + repository + " ", Newest: 3})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(seen, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(seen, foundFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(repository, repository+".away"); err != nil {
		t.Fatal(err)
	}
	for _, mountPoint := range []bool{false, true} {
		if mountPoint {
			if err := os.Mkdir(repository, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := initialize(t, o); met(err) != RepositoryGone || !strings.Contains(err.Error(), "number 3") {
			t.Errorf("got %v", err)
		}
	}
	if left, err := os.ReadDir(repository); err != nil || len(left) > 0 {
		t.Errorf("%v was made all the same, %v", left, err)
	}
	if err := os.Remove(repository); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(repository+".away", repository); err != nil {
		t.Fatal(err)
	}
	mustInit(t, o)
	kitIsTrue(t, o)
}

// Who removes the description of a repository makes none of it worthless: init
// gives it back to the same repository.
func TestInitMakesTheDescriptionAgain(t *testing.T) {
	root := t.TempDir()
	o := beginning(root)
	mustInit(t, o)
	ships(t, o)
	description := filepath.Join(root, "repository", "repository")
	if err := os.Remove(description); err != nil {
		t.Fatal(err)
	}
	out := mustInit(t, o)
	if len(out.Made) != 1 || !strings.HasPrefix(out.Made[0], "the description of repository ") {
		t.Errorf("made %q", out.Made)
	}
	if out.Kit == nil || out.Kit.Proved[0].Point == "" {
		t.Errorf("the point that lies there was not opened: %+v", out.Kit)
	}
	kitIsTrue(t, o)
	// With another key nothing is made on top of it.
	if err := os.Remove(description); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(o.File)); err != nil {
		t.Fatal(err)
	}
	old := o.KitFile
	o.KitFile += ".new"
	if _, err := initialize(t, o); met(err) != RemainsThere {
		t.Errorf("got %v", err)
	}
	// The kit that holds the signing key goes on.
	o.KitFile, o.FromKit, o.SigningKey, o.URL = old, true, false, ""
	if out := mustInit(t, o); out.Kit == nil || out.Kit.Proved[0].Point == "" {
		t.Errorf("the point that lies there was not opened: %+v", out.Kit)
	}
}

// A key that was made and not kept stands on no card.
func TestNoCardOfAKeyThatSignedNothing(t *testing.T) {
	o := beginning(t.TempDir())
	mustInit(t, o)
	if err := os.Remove(filepath.Join(filepath.Dir(o.File), "signing.key")); err != nil {
		t.Fatal(err)
	}
	o.KitFile, o.SigningKey = "", false
	o.Show = func(text string, _ bool) error {
		t.Errorf("it shows\n%s", text)
		return nil
	}
	if _, err := initialize(t, o); met(err) != ForeignRepository {
		t.Errorf("got %v", err)
	}
}
