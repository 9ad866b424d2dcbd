package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/fs/fstest"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/workload"
)

// bench is an agent on a driver in memory with one dataset, with repositories in
// directories.
type bench struct {
	*Agent
	t       *testing.T
	dir     string
	storage *fstest.Memory
	dataset fs.Dataset
	down    map[string]bool // repositories that do not answer
	now     time.Time
}

func newBench(t *testing.T, group string, repositories ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), down: map[string]bool{}, now: time.Now()}
	b.storage = &fstest.Memory{Kind: fs.Btrfs}
	var err error
	b.dataset, err = b.storage.Add(b.path("data"))
	b.check(err)
	signer, err := ship.NewSigner()
	b.check(err)
	b.check(signer.Save(b.path("key")))
	text := ""
	for _, name := range repositories {
		text += fmt.Sprintf("[repository.%s]\nurl = %q\nencryption = \"none\"\nsigning-key-file = %q\n", name, "file://"+b.path(name), b.path("key"))
	}
	conf, err := config.Parse("test.toml", fmt.Appendf(nil, "%s[group.shop]\npaths = [%q]\n%s\n", text, b.path("data"), group))
	b.check(err)
	for _, name := range repositories {
		b.create(name)
	}
	b.Agent, err = New(Options{
		Config: conf, Drivers: map[string]fs.Driver{fs.Btrfs: b.storage}, State: b.path("state"), Run: b.path("run"),
		Now:    func() time.Time { return b.now },
		Engine: func(context.Context) (*workload.Engine, error) { return nil, workload.ErrNoEngine },
		Open: func(ctx context.Context, r config.Repository, _ Report) (*ship.Repository, error) {
			if b.down[r.Name] {
				return nil, ship.ErrUnavailable
			}
			store, err := dir.New(b.path(r.Name))
			if err != nil {
				return nil, err
			}
			return ship.Open(ctx, store, ship.OpenOptions{Signer: signer})
		},
		Report: func(e Event) {
			if e.Kind == Warning {
				t.Logf("warning: %s", e.Text)
			}
		},
	})
	b.check(err)
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// write writes a file of the dataset.
func (b *bench) write(name, text string) {
	b.t.Helper()
	b.check(os.WriteFile(filepath.Join(b.path("data"), name), []byte(text), 0o600))
}

// snaps counts the snapshots that are there.
func (b *bench) snaps() int { return len(b.storage.All()) }

// create makes a repository anew.
func (b *bench) create(name string) {
	b.t.Helper()
	b.check(os.RemoveAll(b.path(name)))
	store, err := dir.New(b.path(name))
	b.check(err)
	b.check(store.Make())
	signer, err := ship.LoadSigner(b.path("key"))
	b.check(err)
	_, err = ship.Create(b.t.Context(), store, ship.CreateOptions{Signer: signer, Encryption: ship.EncryptionNone, Now: b.now})
	b.check(err)
}

// take takes a point an hour later.
func (b *bench) take() point.Point {
	b.t.Helper()
	b.now = b.now.Add(time.Hour)
	points, err := b.Snapshot(b.t.Context(), []string{"shop"})
	b.check(err)
	return points[0]
}

func (b *bench) ship() []point.Point {
	b.t.Helper()
	points, err := b.Ship(b.t.Context(), []string{"shop"})
	b.check(err)
	return points
}

func (b *bench) view(name string) *ship.View {
	b.t.Helper()
	repo, err := b.Open(b.t.Context(), b.Config.Repositories[name], b.Report)
	b.check(err)
	view, err := repo.View(b.t.Context(), nil, ship.Whole)
	b.check(err)
	return view
}

// lose removes what matches below the test's folder.
func (b *bench) lose(pattern string) {
	b.t.Helper()
	found, err := filepath.Glob(b.path(pattern))
	b.check(err)
	if len(found) == 0 {
		b.t.Fatalf("nothing is called %s", pattern)
	}
	for _, f := range found {
		b.check(os.Remove(f))
	}
}

// amnesia makes the host forget what it has seen of repositories.
func (b *bench) amnesia() { b.check(os.RemoveAll(b.path("state/repositories"))) }
