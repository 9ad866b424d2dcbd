// Package demo shows the main job on real storage: a Btrfs on a loop file, a
// container that writes all the time, two restore points, a destroyed volume,
// and a restore that is compared byte by byte. It uses the same operations as
// the commands do, and leaves nothing behind.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

const (
	group    = "demo"
	fileSize = 100 << 10 // bytes
)

// ErrInterrupted means that ctx ended before the demo did.
var ErrInterrupted = errors.New("interrupted")

// Options are what the demo is told from outside.
type Options struct {
	Say     func(format string, args ...any) // one line for a person
	MinIO   string                           // a server's program: ship to S3; "" means to a directory
	Files   int                              // how many the volume holds
	Drivers map[string]fs.Driver
	// Store and Open are those of the program's commands.
	Store func(ctx context.Context, r config.Repository) (ship.Store, error)
	Open  func(ctx context.Context, r config.Repository, report agent.Report) (*ship.Repository, error)
}

// Result is what the demo measured.
type Result struct {
	OK          bool     `json:"ok"`
	WindowUS    int64    `json:"window_us"` // of the first point
	Full        Shipped  `json:"full"`
	Incremental Shipped  `json:"incremental"`
	Restore     Restored `json:"restore"`
}

// Shipped is what one ship cost.
type Shipped struct {
	SentBytes   int64   `json:"sent_bytes"`
	StoredBytes int64   `json:"stored_bytes"`
	Seconds     float64 `json:"seconds"`
}

// Restored is what the restore gave back.
type Restored struct {
	Seconds   float64 `json:"seconds"`
	Files     int     `json:"files"`
	Identical bool    `json:"identical"`
}

// show is one run of the demo.
type show struct {
	Options
	place  *place
	writer writer
	agent  *agent.Agent
	result Result
	undo   []func(context.Context) error
}

// Run shows it all. Whatever happens, it removes what it made before it
// returns, also when ctx was cancelled.
func Run(ctx context.Context, o Options) (_ Result, err error) {
	if o.Files < 100 {
		return Result{}, advice.With(advice.Usagef("%d files are too few to change one per cent of", o.Files), "ask for 100 files or more")
	}
	s := &show{Options: o}
	defer func() {
		var left error
		clean := context.WithoutCancel(ctx)
		for _, v := range slices.Backward(s.undo) {
			left = errors.Join(left, v(clean))
		}
		switch {
		case ctx.Err() == nil:
			err = errors.Join(err, left)
		case left == nil:
			err = fmt.Errorf("%w; everything that the demo made is removed", ErrInterrupted)
		default:
			err = fmt.Errorf("%w, and not everything that the demo made could be removed: %w", ErrInterrupted, left)
		}
	}()
	for _, act := range []func(context.Context) error{s.prepare, s.first, s.second, s.disaster} {
		if err := act(ctx); err != nil {
			return s.result, err
		}
	}
	s.result.OK = s.result.Restore.Identical
	return s.result, nil
}

// prepare makes the storage, the writer and the repository.
func (s *show) prepare(ctx context.Context) (err error) {
	if s.place, err = newPlace(ctx); err != nil {
		return fmt.Errorf("make a place for the demo: %w", err)
	}
	s.undo = append(s.undo, s.place.remove)
	mount, err := s.place.filesystem(ctx, "host")
	if err != nil {
		return fmt.Errorf("make a Btrfs on a loop file: %w", err)
	}
	volume, err := s.volume(ctx, mount)
	if err != nil {
		return err
	}
	s.Say("Made a Btrfs on a loop file, with a subvolume that holds %d files, %d MiB of random bytes.", s.Files, s.Files*fileSize>>20)
	if s.writer, err = s.newWriter(ctx, volume); err != nil {
		return fmt.Errorf("start something that writes: %w", err)
	}
	s.Say("%s writes to it all the time.", s.writer.what())
	repository, err := s.repository(ctx)
	if err != nil {
		return err
	}
	conf, err := s.configure(repository)
	if err != nil {
		return err
	}
	return s.begin(ctx, conf, repository)
}

// begin makes keys and repository as init does, and the agent.
func (s *show) begin(ctx context.Context, file string, r repository) error {
	kit := ""
	_, err := agent.Init(ctx, agent.InitOptions{
		File: file, URL: r.url, Endpoint: r.endpoint, Encryption: config.EncryptionAge, Store: s.Store,
		Show: func(text string, _ bool) error { kit = text; return nil },
	}, "demo", time.Now)
	if err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	s.Say("Made a repository in %s, encrypted to a key that this host does not keep, signed by one that it does.", r.name)
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	conf, err := config.Parse(file, append(content, s.writer.configuration()...))
	if err != nil {
		return err
	}
	reader, err := config.ParseKit("kit", []byte(kit))
	if err != nil {
		return err
	}
	s.agent, err = agent.New(agent.Options{
		Config: conf, Drivers: s.Drivers, State: s.place.path("state"), Run: s.place.path("run"), Now: time.Now,
		Engine: s.writer.engine, Processes: s.writer.processes,
		Open: func(ctx context.Context, r config.Repository, report agent.Report) (*ship.Repository, error) {
			r.Identity = reader.Repositories[r.Name].Identity
			return s.Open(ctx, r, report)
		},
	})
	return err
}

// first takes a restore point and ships it in full.
func (s *show) first(ctx context.Context) error {
	p, err := s.take(ctx)
	if err != nil {
		return err
	}
	s.result.WindowUS = p.WindowUS
	s.Say("The group asks for freeze so that there is a window to show; auto would have frozen nothing, since one subvolume is one instant by itself.")
	s.Say("Restore point %s: %s; the writer was frozen for %.2f ms (freeze %.2f, snapshot %.2f, thaw %.2f).", p.ID, p.Consistency,
		ms(p.WindowUS), ms(p.Timings.Freeze), ms(p.Timings.Snapshot), ms(p.Timings.Thaw))
	if s.result.Full, err = s.ship(ctx, p.ID); err != nil {
		return err
	}
	f := s.result.Full
	s.Say("Shipped it in full: %.1f MiB of stream, %.1f MiB stored, in %.2f s, while the writer went on.", mib(f.SentBytes), mib(f.StoredBytes), f.Seconds)
	return nil
}

// second changes one per cent and ships the increment.
func (s *show) second(ctx context.Context) error {
	changed, err := change(s.place.path("host", "volume"), s.Files, fileSize)
	if err != nil {
		return fmt.Errorf("change files: %w", err)
	}
	p, err := s.take(ctx)
	if err != nil {
		return err
	}
	s.Say("Files changed: %d (1 %%). Restore point %s: the writer was frozen for %.2f ms.", changed, p.ID, ms(p.WindowUS))
	if s.result.Incremental, err = s.ship(ctx, p.ID); err != nil {
		return err
	}
	i := s.result.Incremental
	s.Say("Shipped what changed: %.1f MiB of stream, %.1f MiB stored, in %.2f s.", mib(i.SentBytes), mib(i.StoredBytes), i.Seconds)
	return nil
}

// disaster destroys the volume and everything else on that filesystem, and
// restores it on a new one.
func (s *show) disaster(ctx context.Context) error {
	points, err := s.agent.List(ctx, group)
	if err != nil {
		return err
	}
	want, err := s.truth(points[len(points)-1])
	if err != nil {
		return fmt.Errorf("read the snapshot to compare with: %w", err)
	}
	if err := errors.Join(s.writer.stop(ctx), s.place.destroy("host")); err != nil {
		return fmt.Errorf("destroy the volume: %w", err)
	}
	s.Say("Destroyed the filesystem: the volume and all its snapshots are gone.")
	mount, err := s.place.filesystem(ctx, "new")
	if err != nil {
		return fmt.Errorf("make a new Btrfs: %w", err)
	}
	start := time.Now()
	restored, err := s.agent.Restore(ctx, agent.RestoreOptions{Point: "latest:" + group, To: "btrfs:" + filepath.Join(mount, "volume")})
	if err != nil {
		return err
	}
	s.result.Restore.Seconds = time.Since(start).Seconds()
	s.Say("Restored it from the repository onto a new Btrfs: %.1f MiB in %.2f s.", mib(restored[0].Bytes), s.result.Restore.Seconds)
	return s.compare(want, restored[0].Target)
}

func (s *show) compare(want tree, target string) error {
	got, err := readTree(target)
	if err != nil {
		return fmt.Errorf("read what was restored: %w", err)
	}
	s.result.Restore.Files = len(got)
	if diff := differences(want, got); len(diff) > 0 {
		return fmt.Errorf("the restored volume is not what was there (differences: %d), the first: %s", len(diff), diff[0])
	}
	s.result.Restore.Identical = true
	s.Say("Compared %d files and folders with what the snapshot held, to the last byte, owner, mode and time: identical.", len(got))
	return nil
}

// truth reads what the point's snapshot holds, before it is destroyed.
func (s *show) truth(p point.Point) (tree, error) {
	found, err := filepath.Glob(s.place.path("host", fs.BtrfsDir, "*", p.Datasets[0].Snapshot))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fmt.Errorf("%d snapshots are called %s", len(found), p.Datasets[0].Snapshot), err)
	}
	return readTree(found[0])
}

func (s *show) take(ctx context.Context) (point.Point, error) {
	points, err := s.agent.Snapshot(ctx, []string{group})
	if err != nil {
		return point.Point{}, err
	}
	return points[0], nil
}

func (s *show) ship(ctx context.Context, id point.ID) (Shipped, error) {
	start := time.Now()
	points, err := s.agent.Ship(ctx, []string{group})
	if err != nil {
		return Shipped{}, err
	}
	for _, p := range points {
		if p.ID == id && len(p.Shipped) > 0 {
			return Shipped{SentBytes: p.Shipped[0].SentBytes, StoredBytes: p.Shipped[0].StoredBytes, Seconds: time.Since(start).Seconds()}, nil
		}
	}
	return Shipped{}, fmt.Errorf("point %s was not shipped", id)
}

// volume makes the subvolume and fills it.
func (s *show) volume(ctx context.Context, mount string) (string, error) {
	volume := filepath.Join(mount, "volume")
	if err := subvolume(ctx, volume); err != nil {
		return "", err
	}
	return volume, fill(volume, s.Files, fileSize)
}

func (s *show) configure(r repository) (string, error) {
	return s.place.path("snapd.toml"), os.MkdirAll(s.place.path("repository"), 0o700)
}

func ms(us int64) float64 { return float64(us) / 1000 }
func mib(n int64) float64 { return float64(n) / (1 << 20) }
