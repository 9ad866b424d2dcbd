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

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// RestoreOptions say what to restore and where to.
type RestoreOptions struct {
	Point      string // id, unique beginning of one, or "latest" or "latest:GROUP"
	To         string // driver:target
	Dataset    string // only this dataset of the point; "" means all
	Repository string // "" means the first that has it; Local means from the snapshots of this host
	Beside     bool   // use a new name next to a target that exists
	Replace    bool   // keep what exists at the target under another name
	Check      bool   // have the filesystems checked that are on what was restored
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
	Checked string  `json:"checked,omitempty"` // sound, damaged or unknown; "" when no check was asked for

	made fs.Dataset
}

// Restore brings datasets of a point back. Nothing is seen at a target before
// its dataset is whole; what exists there is never touched unless asked for.
func (a *Agent) Restore(ctx context.Context, o RestoreOptions) ([]Restored, error) {
	p, err := a.planRestore(ctx, o)
	if err != nil {
		return nil, err
	}
	return a.restore(ctx, p)
}

// restorePlan is what a restore will do.
type restorePlan struct {
	options  RestoreOptions
	driver   fs.Driver
	src      *source
	datasets []point.Dataset
	below    string   // the target that was asked for
	targets  []string // of the datasets, in their order
}

// planRestore decides what is restored, from where and where to, or refuses. It
// changes nothing.
func (a *Agent) planRestore(ctx context.Context, o RestoreOptions) (_ *restorePlan, err error) {
	p := &restorePlan{options: o}
	driverName, target, ok := strings.Cut(o.To, ":")
	p.below = target
	if o.To == "" {
		return nil, advice.In(NoTarget, advice.Usagef("no target is named"))
	}
	if !ok || target == "" {
		return nil, advice.In(NoTarget, advice.Usagef("%q is no target", o.To))
	}
	if o.Beside && o.Replace {
		return nil, advice.In(EitherOr, advice.Usagef("what is at the target cannot both be left there and be replaced"))
	}
	if p.driver, err = a.driver(driverName); err != nil {
		return nil, advice.In(NoTarget, advice.In(advice.Usage, err))
	}
	if o.Check {
		if err := canCheck(p.driver, driverName); err != nil {
			return nil, err
		}
	}
	if p.src, err = a.source(ctx, o.Point, o.Repository); err != nil {
		return nil, err
	}
	if err := a.checkUnchanged(p.src, o.Point, o.Dataset); err != nil {
		return nil, err
	}
	if p.datasets, err = chosen(p.src.point, o.Dataset); err != nil {
		return nil, err
	}
	for _, d := range p.datasets {
		if d.Driver != driverName {
			return nil, advice.With(advice.Usagef("%s was taken on %s and cannot be restored to %s", d.Dataset, d.Driver, driverName), "name a target on %s", d.Driver)
		}
	}
	if p.targets, err = targetsBelow(target, p.datasets); err != nil {
		return nil, err
	}
	return p, nil
}

// restore does what was planned.
func (a *Agent) restore(ctx context.Context, p *restorePlan) ([]Restored, error) {
	a.sweepStorage(ctx)
	undo, err := makeFolder(p.below, len(p.datasets))
	if err != nil {
		return nil, err
	}
	restored, err := a.restoreAll(ctx, p)
	if err != nil {
		undo()
		return restored, err
	}
	if p.options.Check {
		err = a.checkAll(ctx, p.driver, restored)
	}
	return restored, err
}

// restoreAll opens every target before it restores anything, so that one that
// cannot be used is found before hours of the others.
func (a *Agent) restoreAll(ctx context.Context, p *restorePlan) (out []Restored, err error) {
	datasets, targets := p.datasets, slices.Clone(p.targets) // a target may turn out to be beside
	receivers := make([]fs.Receiver, len(datasets))
	defer func() {
		for _, r := range receivers {
			if r != nil {
				err = errors.Join(err, r.Close())
			}
		}
	}()
	say := func(i int, err error) error {
		return fmt.Errorf("restore %s to %s:%s: %w", datasets[i].Dataset, datasets[i].Driver, targets[i], err)
	}
	for i := range datasets {
		if receivers[i], targets[i], err = a.receiver(ctx, p.driver, targets[i], p.options); err != nil {
			return nil, say(i, err)
		}
	}
	for i, d := range datasets {
		if err := expect(ctx, receivers[i], p.src.point, d); err != nil {
			return nil, say(i, err)
		}
	}
	if err := roomForAll(receivers); err != nil {
		return nil, fmt.Errorf("restore to %s: %w", p.options.To, err)
	}
	for i, d := range datasets {
		r, err := a.restoreOne(ctx, p.src, d, p.driver, receivers[i], targets[i])
		if err != nil && len(out) > 0 {
			return out, advice.In(OneByOne, advice.In(advice.Partial, say(i, err)))
		}
		if err != nil {
			return nil, say(i, err)
		}
		out = append(out, r)
	}
	return out, nil
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
	return nil, advice.With(advice.Usagef("point %s has no dataset %q", p.ID, only), "name one of those that it has: %s", strings.Join(names, ", "))
}

// targetsBelow places several datasets below the target, each under what
// remains of its name after the part all have in common; a single one is the
// target itself. A slash inside what remains becomes a dash, since the target
// of one dataset must not lie inside that of another; but datasets of ZFS do,
// and keep their layout.
func targetsBelow(target string, datasets []point.Dataset) ([]string, error) {
	if len(datasets) == 1 {
		if d := datasets[0]; d.Driver == fs.LVM && !strings.Contains(target, "/") {
			return []string{target + "/" + path.Base(d.Dataset)}, nil // the group alone
		}
		return []string{target}, nil
	}
	if datasets[0].Driver == fs.LVM && strings.Count(target, "/") > 1 {
		return nil, advice.In(OneName, advice.Usagef("%s:%s names one volume, and the point has %d", fs.LVM, target, len(datasets)))
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
		switch rest {
		case "":
			rest = "root"
		case ".", "..": // names come out of a bucket
			return nil, advice.In(OneByOne, advice.Usagef("dataset %q of the point has no name that can stand below a target", d.Dataset))
		}
		if d.Driver != fs.ZFS {
			rest = strings.ReplaceAll(rest, "/", "-")
		} else if path.Clean("/"+rest) != "/"+rest {
			return nil, advice.In(OneByOne, advice.Usagef("dataset %q of the point has no name that can stand below a target", d.Dataset))
		}
		out[i] = path.Join(target, rest)
		if slices.Contains(out[:i], out[i]) {
			return nil, advice.In(OneByOne, advice.Usagef("two datasets of the point would both be restored to %s", out[i]))
		}
	}
	return out, nil
}

// makeFolder makes the directory below which several datasets go. undo removes
// it again as long as it is empty, if it was not there before.
func makeFolder(target string, datasets int) (undo func(), err error) {
	if datasets == 1 || !filepath.IsAbs(target) {
		return func() {}, nil // the target is the dataset, or the storage has names of its own
	}
	if _, err := os.Stat(target); err == nil {
		return func() {}, nil
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for the datasets: %w", err)
	}
	return func() { _ = os.Remove(target) }, nil // not empty: something was restored
}

func (a *Agent) restoreOne(ctx context.Context, src *source, d point.Dataset, driver fs.Driver, receiver fs.Receiver, target string) (Restored, error) {
	start := a.Now()
	bytes, err := a.apply(ctx, src, d, driver, receiver)
	if err != nil {
		return Restored{}, err
	}
	a.step("", "making it a dataset of its own at %s", target)
	made, err := a.finish(ctx, d, receiver)
	if err != nil {
		return Restored{}, err
	}
	a.tellNotes(receiver)
	return Restored{Driver: d.Driver, Dataset: d.Dataset, Target: made.Name, Bytes: bytes, Seconds: a.Now().Sub(start).Seconds(), made: made}, nil
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
		place.Wanted = target
		target += ".restored-" + stamp
		r, err = driver.Receive(ctx, target, place)
	}
	return r, target, err
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
