package agent

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/workload"
)

// storage is a fs.Driver of one dataset whose snapshots are entries of a list.
type storage struct {
	path  string
	snaps []fs.Snapshot
	taken uint64 // snapshots ever
	gone  bool   // its filesystem is not mounted

	sending func() // called at the beginning of each send
}

func (s *storage) dataset() fs.Dataset {
	return fs.Dataset{Driver: fs.Btrfs, Name: s.path, GUID: "origin-1", Domain: "domain-1"}
}

func (s *storage) Locate(_ context.Context, path string) (fs.Place, error) {
	return fs.Place{Dataset: s.dataset(), Path: "."}, nil
}

func (s *storage) Prepare(_ context.Context, name string, _ []fs.Dataset) (fs.Prepared, error) {
	return &prepared{s: s, name: name}, nil
}

func (s *storage) Snapshots(context.Context, fs.Dataset) ([]fs.Snapshot, error) {
	if s.gone {
		return nil, fmt.Errorf("not mounted: %w", fs.ErrNotFound)
	}
	return slices.Clone(s.snaps), nil
}

func (s *storage) Delete(_ context.Context, snap fs.Snapshot) error {
	s.snaps = slices.DeleteFunc(s.snaps, func(o fs.Snapshot) bool { return o.GUID == snap.GUID })
	return nil
}

func (s *storage) Send(_ context.Context, snap fs.Snapshot, base *fs.Snapshot) (io.ReadCloser, error) {
	if s.sending != nil {
		s.sending()
	}
	return io.NopCloser(strings.NewReader(fmt.Sprintf("%s on %v", snap.GUID, base))), nil
}

func (s *storage) Receive(context.Context, string, fs.Placement) (fs.Receiver, error) {
	return nil, fs.ErrExists
}

func (s *storage) Format(context.Context, fs.Snapshot) (string, bool, error) {
	return "btrfs-2", false, nil
}

type prepared struct {
	s    *storage
	name string
	made []fs.Snapshot
}

func (p *prepared) Take() error {
	p.made = []fs.Snapshot{{Dataset: p.s.dataset(), Name: p.name, GUID: strings.ToLower(rand.Text()), Order: p.s.taken + 1}}
	p.s.taken++
	p.s.snaps = append(p.s.snaps, p.made...)
	return nil
}

func (p *prepared) Result(context.Context) ([]fs.Snapshot, error) { return p.made, nil }
func (p *prepared) Close() error                                  { return nil }

// bench is an agent on such a storage, with repositories in directories.
type bench struct {
	*Agent
	t       *testing.T
	dir     string
	storage *storage
	down    map[string]bool // repositories that do not answer
	now     time.Time
}

func newBench(t *testing.T, group string, repositories ...string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), down: map[string]bool{}, now: time.Now()}
	b.storage = &storage{path: b.path("data")}
	b.check(os.Mkdir(b.path("data"), 0o755))
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

func (b *bench) index(name string) *ship.Index {
	b.t.Helper()
	repo, err := b.Open(b.t.Context(), b.Config.Repositories[name], b.Report)
	b.check(err)
	index, err := repo.Index(b.t.Context())
	b.check(err)
	return index
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
