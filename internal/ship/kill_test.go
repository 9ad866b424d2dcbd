package ship_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/dir"

	"filippo.io/age"
)

// childDir makes the test binary ship a stream instead of testing, so that it
// can be killed.
const childDir = "SNAPD_SHIP_TEST_CHILD"

func TestMain(m *testing.M) {
	if d := os.Getenv(childDir); d != "" {
		if err := shipAsChild(d); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const killSegments = 400

func killStream() []byte { return noise(77, killSegments*slice) }

// shipAsChild ships and says so after each acknowledged segment.
func shipAsChild(d string) error {
	ctx := context.Background()
	store, err := dir.New(filepath.Join(d, "repository"))
	if err != nil {
		return err
	}
	signer, err := ship.LoadSigner(filepath.Join(d, "signing.key"))
	if err != nil {
		return err
	}
	recipient, err := os.ReadFile(filepath.Join(d, "recipient"))
	if err != nil {
		return err
	}
	to, err := age.ParseX25519Recipient(string(recipient))
	if err != nil {
		return err
	}
	r, err := ship.Open(ctx, store, ship.OpenOptions{Signer: signer, Recipients: []age.Recipient{to}})
	if err != nil {
		return err
	}
	records, err := ship.OpenRecords(filepath.Join(d, "ships"))
	if err != nil {
		return err
	}
	_, err = r.Upload(ctx, full("g1"), source(killStream()), records, func(p ship.Progress) { fmt.Println(p.Segments) })
	return err
}

// TestKilled kills a process with SIGKILL in the middle of a ship, again and
// again. Each next one uploads only what is missing, and nothing half-done is
// ever listed.
func TestKilled(t *testing.T) {
	root := filepath.Join(t.TempDir(), "repository")
	store, err := dir.New(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Make(); err != nil {
		t.Fatal(err)
	}
	d := filepath.Dir(root)
	b := newBench(t, store)
	if err := b.signer.Save(filepath.Join(d, "signing.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d, "recipient"), []byte(b.identity.Recipient().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for round, killAt := range []string{"1", "60", "150"} {
		killChild(t, d, killAt)
		view, err := b.host().View(t.Context(), nil, ship.Whole)
		if err != nil || len(view.Points) != 0 || len(view.Problems) != 0 {
			t.Fatalf("round %d: half-done and seen: %+v, %+v, %v", round, view.Points, view.Problems, err)
		}
		err = store.List(t.Context(), "meta/streams/", func(o ship.Object) error {
			t.Errorf("round %d: half-done and listed: %s", round, o.Key)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	there := 0
	if err := store.List(t.Context(), "data/", func(ship.Object) error { there++; return nil }); err != nil {
		t.Fatal(err)
	}
	records, err := ship.OpenRecords(filepath.Join(d, "ships"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.host().Upload(t.Context(), full("g1"), source(killStream()), records, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Each kill can strike between an object and its line in the record, once
	// for each put under way.
	if s.Reused < 150 || there-s.Reused > 3*5 || s.Reused+s.Uploaded != killSegments {
		t.Errorf("%d objects were there, used again were %d: %+v", there, s.Reused, s)
	}
	if got, err := b.read(b.reader(), s.ID); err != nil || !bytes.Equal(got, killStream()) {
		t.Errorf("read back: %d bytes, %v", len(got), err)
	}
	t.Logf("%s", s.Resumed)
}

// killChild starts a child and kills it once it has said killAt.
func killChild(t *testing.T, d, killAt string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+d)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := false
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == killAt {
			said = true
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, _ = io.Copy(io.Discard, out)
	if err := child.Wait(); err == nil || !said {
		t.Fatalf("the child ended by itself: %v, said %s: %v, %s", err, killAt, said, stderr.String())
	}
}
