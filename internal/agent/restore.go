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

// examplesOfTo are what people can write.
const examplesOfTo = "--to btrfs:/srv/restored, --to zfs:tank/restored or --to lvm:vg/restored"

// Restored is one dataset that was restored.
type Restored struct {
	Driver  string  `json:"driver"`
	Dataset string  `json:"dataset"` // its name when the point was taken
	Target  string  `json:"target"`
	Bytes   int64   `json:"bytes"` // read from the streams
	Seconds float64 `json:"seconds"`
	Checked string  `json:"checked,omitempty"` // sound, damaged or unknown; "" when nobody asked

	made fs.Dataset
}

// Restore brings datasets of a point back. Nothing is seen at a target before
// its dataset is whole; what exists there is never touched unless asked for.
func (a *Agent) Restore(ctx context.Context, o RestoreOptions) ([]Restored, error) {
	driverName, target, ok := strings.Cut(o.To, ":")
	if o.To == "" {
		return nil, hint(usage("it is not said where to"), "add the storage and the place, such as %s", examplesOfTo)
	}
	if !ok || target == "" {
		return nil, hint(usage("%q is no target", o.To), "write the storage and the place, such as %s", examplesOfTo)
	}
	if o.Beside && o.Replace {
		return nil, usage("--beside and --replace exclude each other")
	}
	driver, err := a.driver(driverName)
	if err != nil {
		return nil, hint(errors.Join(ErrUsage, err), "write the storage and the place, such as %s", examplesOfTo)
	}
	if o.Check {
		if err := canCheck(driver, driverName); err != nil {
			return nil, err
		}
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
	a.sweepStorage(ctx)
	targets, err := targetsBelow(target, datasets)
	if err != nil {
		return nil, err
	}
	undo, err := makeFolder(target, len(datasets))
	if err != nil {
		return nil, err
	}
	restored, err := a.restoreAll(ctx, src, datasets, driver, targets, o)
	if err != nil {
		undo()
		return restored, err
	}
	if o.Check {
		err = a.checkAll(ctx, driver, restored)
	}
	return restored, err
}

// restoreAll opens every target before it restores anything, so that one that
// cannot be used is found before hours of the others.
func (a *Agent) restoreAll(ctx context.Context, src *source, datasets []point.Dataset, driver fs.Driver, targets []string, o RestoreOptions) (out []Restored, err error) {
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
		if receivers[i], targets[i], err = a.receiver(ctx, driver, targets[i], o); err != nil {
			return nil, say(i, err)
		}
	}
	for i, d := range datasets {
		if err := expect(ctx, receivers[i], src.point, d); err != nil {
			return nil, say(i, err)
		}
	}
	for i, d := range datasets {
		r, err := a.restoreOne(ctx, src, d, driver, receivers[i], targets[i])
		if err != nil && len(out) > 0 {
			return out, hint(errors.Join(ErrPartial, say(i, err)), "those that were restored stay; restore the others one by one with --dataset")
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
	return nil, usage("point %s has no dataset %q; it has: %s", p.ID, only, strings.Join(names, ", "))
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
		return nil, hint(usage("%s:%s names one volume, and the point has %d", fs.LVM, target, len(datasets)),
			"restore all to %s:GROUP or %[1]s:GROUP/POOL, each under its own name, or one of them with --dataset", fs.LVM)
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
			return nil, usage("dataset %q of the point has no name that can stand below a target", d.Dataset)
		}
		if d.Driver != fs.ZFS {
			rest = strings.ReplaceAll(rest, "/", "-")
		} else if path.Clean("/"+rest) != "/"+rest {
			return nil, usage("dataset %q of the point has no name that can stand below a target", d.Dataset)
		}
		out[i] = path.Join(target, rest)
		if slices.Contains(out[:i], out[i]) {
			return nil, hint(usage("two datasets of the point would both be restored to %s", out[i]), "restore them one by one with --dataset")
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
