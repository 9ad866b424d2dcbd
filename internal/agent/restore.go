package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"snapd/internal/fs"
	"snapd/internal/point"
	"snapd/internal/ship"
)

// RestoreOptions say what to restore and where to.
type RestoreOptions struct {
	Point      string // id, unique beginning of one, or "latest" or "latest:GROUP"
	To         string // driver:target
	Dataset    string // only this dataset of the point; "" means all
	Repository string // "" means the first that has it; Local means from the snapshots of this host
	Beside     bool   // use a new name next to a target that exists
	Replace    bool   // keep what exists at the target under another name
}

// Local names this host's own snapshots as the source of a restore.
const Local = "local"

// Restored is one dataset that was restored.
type Restored struct {
	Driver  string  `json:"driver"`
	Dataset string  `json:"dataset"` // its name when the point was taken
	Target  string  `json:"target"`
	Bytes   int64   `json:"bytes"` // read from the streams
	Seconds float64 `json:"seconds"`
}

// Restore brings datasets of a point back. Nothing is seen at a target before
// its dataset is whole; what exists there is never touched unless asked for.
func (a *Agent) Restore(ctx context.Context, o RestoreOptions) ([]Restored, error) {
	driverName, target, ok := strings.Cut(o.To, ":")
	if o.To == "" {
		return nil, hint(usage("it is not said where to"), "add the driver and the place, such as --to btrfs:/srv/restored")
	}
	if !ok || target == "" {
		return nil, hint(usage("%q is no target", o.To), "write the driver and the place, such as --to btrfs:/srv/restored")
	}
	if o.Beside && o.Replace {
		return nil, usage("--beside and --replace exclude each other")
	}
	driver, err := a.driver(driverName)
	if err != nil {
		return nil, errors.Join(ErrUsage, err)
	}
	src, err := a.source(ctx, o.Point, o.Repository)
	if err != nil {
		return nil, err
	}
	datasets, err := chosen(src.point, o.Dataset)
	if err != nil {
		return nil, err
	}
	for _, d := range datasets {
		if d.Driver != driverName {
			return nil, usage("%s was taken on %s and cannot be restored to %s", d.Dataset, d.Driver, driverName)
		}
	}
	targets, err := targetsBelow(target, datasets)
	if err != nil {
		return nil, err
	}
	var out []Restored
	for i, d := range datasets {
		r, err := a.restoreOne(ctx, src, d, driver, targets[i], o)
		if err != nil {
			return out, fmt.Errorf("restore %s to %s:%s: %w", d.Dataset, driverName, targets[i], err)
		}
		out = append(out, r)
	}
	return out, nil
}

// source is where a restore reads from: a repository, or the host's own
// snapshots.
type source struct {
	point point.Point
	repo  *ship.Repository // nil: local
	index *ship.Index
	ids   map[string]point.ID // dataset guid to stream
}

func chosen(p point.Point, only string) ([]point.Dataset, error) {
	if only == "" {
		return p.Datasets, nil
	}
	var names []string
	for _, d := range p.Datasets {
		if d.Dataset == only || d.Origin == only {
			return []point.Dataset{d}, nil
		}
		names = append(names, d.Dataset)
	}
	return nil, usage("point %s has no dataset %q; it has: %s", p.ID, only, strings.Join(names, ", "))
}

// targetsBelow places several datasets below the target, each under what
// remains of its name after the part all have in common; a single one is the
// target itself. A slash inside what remains becomes a dash: the target of one
// dataset must not lie inside that of another.
func targetsBelow(target string, datasets []point.Dataset) ([]string, error) {
	if len(datasets) == 1 {
		return []string{target}, nil
	}
	common := path.Dir(datasets[0].Dataset)
	for _, d := range datasets[1:] {
		for common != "/" && common != "." && !strings.HasPrefix(d.Dataset, common+"/") {
			common = path.Dir(common)
		}
	}
	out := make([]string, len(datasets))
	for i, d := range datasets {
		rest := strings.Trim(strings.TrimPrefix(d.Dataset, strings.TrimSuffix(common, "/")+"/"), "/")
		if rest == "" {
			rest = "root"
		}
		out[i] = path.Join(target, strings.ReplaceAll(rest, "/", "-"))
		if slices.Contains(out[:i], out[i]) {
			return nil, hint(usage("two datasets of the point would both be restored to %s", out[i]), "restore them one by one with --dataset")
		}
	}
	return out, os.MkdirAll(filepath.Clean(target), 0o755)
}

func (a *Agent) restoreOne(ctx context.Context, src *source, d point.Dataset, driver fs.Driver, target string, o RestoreOptions) (_ Restored, err error) {
	start := a.Now()
	receiver, target, err := a.receiver(ctx, driver, target, o)
	if err != nil {
		return Restored{}, err
	}
	defer func() { err = errors.Join(err, receiver.Close()) }()
	bytes, err := a.apply(ctx, src, d, driver, receiver)
	if err != nil {
		return Restored{}, err
	}
	a.step("", "making it a dataset of its own at %s", target)
	made, err := receiver.Finish(ctx)
	if err != nil {
		return Restored{}, err
	}
	return Restored{Driver: d.Driver, Dataset: d.Dataset, Target: made.Name, Bytes: bytes, Seconds: a.Now().Sub(start).Seconds()}, nil
}

// receiver opens the target, with another name when it exists and the caller
// asked for that.
func (a *Agent) receiver(ctx context.Context, driver fs.Driver, target string, o RestoreOptions) (fs.Receiver, string, error) {
	stamp := a.Now().UTC().Format("20060102T150405Z")
	place := fs.Placement{}
	if o.Replace {
		place.ReplaceSuffix = ".before-" + stamp
	}
	r, err := driver.Receive(ctx, target, place)
	if o.Beside && errors.Is(err, fs.ErrExists) {
		target += ".restored-" + stamp
		r, err = driver.Receive(ctx, target, place)
	}
	return r, target, err
}

// apply feeds the receiver with the chain of a dataset and returns how many
// bytes that were.
func (a *Agent) apply(ctx context.Context, src *source, d point.Dataset, driver fs.Driver, receiver fs.Receiver) (int64, error) {
	if src.repo == nil {
		return a.applyLocal(ctx, d, driver, receiver)
	}
	chain, err := src.repo.Chain(ctx, src.ids[d.GUID], src.index)
	if err != nil {
		return 0, err
	}
	var total, before int64
	for _, m := range chain {
		total += m.SentBytes
	}
	for i, m := range chain {
		a.step("", "%s: stream %d of %d", d.Dataset, i+1, len(chain))
		r, err := src.repo.Read(ctx, m, func(p ship.Progress) {
			a.Report(Event{Kind: Progress, Text: d.Dataset, Bytes: before + p.SentBytes, Total: total})
		})
		if err != nil {
			return before, err
		}
		err = errors.Join(receiver.Apply(ctx, r, m.GUID, m.BaseGUID), r.Close())
		if err != nil {
			return before, err
		}
		before += m.SentBytes
	}
	return total, nil
}

// applyLocal copies a snapshot of this host; no repository is needed.
func (a *Agent) applyLocal(ctx context.Context, d point.Dataset, driver fs.Driver, receiver fs.Receiver) (int64, error) {
	snaps, err := driver.Snapshots(ctx, datasetOf(d))
	if err != nil {
		return 0, err
	}
	snap := snapshotWith(snaps, d.GUID)
	if snap == nil {
		return 0, fmt.Errorf("the snapshot %s of %s: %w on this host", d.Snapshot, d.Dataset, fs.ErrNotFound)
	}
	r, err := driver.Send(ctx, *snap, nil)
	if err != nil {
		return 0, err
	}
	counted := &counter{r: r, report: func(n int64) { a.Report(Event{Kind: Progress, Text: d.Dataset, Bytes: n}) }}
	err = errors.Join(receiver.Apply(ctx, counted, d.GUID, ""), r.Close())
	return counted.n, err
}

type counter struct {
	r      io.Reader
	n      int64
	report func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.report(c.n)
	return n, err
}

// source finds a point by what the user wrote, and where to read it from.
func (a *Agent) source(ctx context.Context, wanted, repository string) (*source, error) {
	local := a.points()
	if repository == Local {
		p, err := match(local, wanted)
		if err != nil {
			return nil, err
		}
		return &source{point: p}, nil
	}
	var faults []error
	for _, name := range a.repositoryNames(repository) {
		src, err := a.sourceIn(ctx, name, wanted, local)
		if err == nil {
			return src, nil
		}
		faults = append(faults, err)
	}
	if repository == "" { // no repository has it, but perhaps this host does
		if p, err := match(local, wanted); err == nil && len(p.Numbers) == 0 {
			a.warn(p.Group, "point %s lies in no repository; it is restored from this host's own snapshots", p.ID)
			return &source{point: p}, nil
		}
	}
	if len(faults) == 0 {
		if repository != "" {
			return nil, usage("there is no [repository.%s]", repository)
		}
		_, err := match(local, wanted)
		return nil, err
	}
	return nil, errors.Join(faults...)
}

func (a *Agent) sourceIn(ctx context.Context, name, wanted string, local []point.Point) (*source, error) {
	conf := a.Config.Repositories[name]
	repo, err := a.Open(ctx, conf, a.Report)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	index, err := repo.Index(ctx)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	records, problems, err := repo.Points(ctx, index)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	for _, p := range problems {
		a.warn("", "repository %s: %s: %s", name, p.Object, p.Problem)
	}
	points := joinPoints(name, records, local)
	points = slices.DeleteFunc(points, func(p point.Point) bool { return !p.InRepository(name) })
	p, err := match(points, wanted)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", name, err)
	}
	src := &source{point: p, repo: repo, index: index, ids: map[string]point.ID{}}
	for _, r := range records {
		if r.ID != p.ID {
			continue
		}
		for _, s := range r.Streams {
			src.ids[s.GUID] = s.Stream
		}
	}
	return src, nil
}

// match finds the one point that a person means.
func match(points []point.Point, wanted string) (point.Point, error) {
	group, latest := strings.CutPrefix(wanted, "latest")
	group, named := strings.CutPrefix(group, ":")
	latest = latest && (named || group == "")
	var found []point.Point
	for _, p := range points {
		if latest && (group == "" || p.Group == group) || !latest && wanted != "" && strings.HasPrefix(string(p.ID), wanted) {
			found = append(found, p)
		}
	}
	switch {
	case len(found) == 0 && group != "" && slices.ContainsFunc(points, func(p point.Point) bool { return p.Group == "" }):
		return point.Point{}, fmt.Errorf("%q: %w of those whose group can be read: %w for the others", wanted, ErrNotThere, ship.ErrNoIdentity)
	case len(found) == 0:
		return point.Point{}, fmt.Errorf("%q: %w", wanted, ErrNotThere)
	case latest:
		return slices.MaxFunc(found, func(a, b point.Point) int { return a.Time.Compare(b.Time) }), nil
	case len(found) > 1:
		return point.Point{}, hint(usage("%q begins the ids of %d restore points", wanted, len(found)), "write more of the id")
	}
	return found[0], nil
}
