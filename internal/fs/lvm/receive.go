package lvm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/proc"
)

// Receive implements fs.Driver. The target is vg/name or vg/pool/name. Without
// a pool the volume comes into the only thin pool of its group, and becomes a
// classic one where there is none.
func (d *Driver) Receive(ctx context.Context, target string, placement fs.Placement) (fs.Receiver, error) {
	r := &receiver{driver: d, target: target, suffix: placement.ReplaceSuffix}
	r.clear = func(w *work) error { return r.discard(ctx, w) }
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("restore to %s:%s: %w", fs.LVM, target, err)
	}
	return r, nil
}

// receiver builds one volume under a name of ours.
type receiver struct {
	driver *Driver
	target string
	vg     string
	name   string
	suffix string
	pool   string            // "" for a classic volume
	built  *work             // what the streams applied so far have made
	last   lvmstream.Header  // of the last of them
	failed error             // a classic volume that could not be brought back
	clear  func(*work) error // discard, also when the restore was cancelled
	closed bool
	notes  []string
}

// lvName is what LVM allows.
var lvName = regexp.MustCompile(`^[A-Za-z0-9_+.][A-Za-z0-9_+.-]*$`)

// reservedName is what LVM keeps for itself.
var reservedName = regexp.MustCompile(`^(snapshot|pvmove)|^\.{1,2}$|_(cdata|cmeta|corig|cvol|mlog|mimage|pmspare|rimage|rmeta|tdata|tmeta|vdata|vorigin|imeta)`)

func checkName(vg, name string) error {
	switch {
	case !lvName.MatchString(name) || reservedName.MatchString(name):
		return advice.With(fmt.Errorf("%q is no name that LVM allows for a volume: letters, digits, and _ + . - are, but not in the names that it keeps for itself", name), "choose another name")
	case strings.HasPrefix(name, fs.SnapshotPrefix):
		return advice.With(fmt.Errorf("%q begins as the names of snapd's own volumes do", name), "choose another name")
	case len(dmName(vg, name, "")) > nameMax:
		return advice.With(fmt.Errorf("the names %s and %s together are too long for device-mapper", vg, name), "choose a shorter name")
	}
	return nil
}

func (r *receiver) open(ctx context.Context) error {
	parts := strings.Split(r.target, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return advice.With(fmt.Errorf("%q is no target", r.target), "write %s:GROUP/NAME or %[1]s:GROUP/POOL/NAME", fs.LVM)
	}
	if _, err := r.driver.stateDir(); err != nil {
		return err
	}
	r.vg, r.name = parts[0], parts[len(parts)-1]
	if err := checkName(r.vg, r.name+r.suffix); err != nil {
		return err
	}
	all, err := r.driver.list(ctx)
	if err != nil {
		return err
	}
	if err := r.checkGroup(ctx, all); err != nil {
		return err
	}
	if err := r.checkTarget(all); err != nil {
		return err
	}
	wanted := ""
	if len(parts) == 3 {
		wanted = parts[1]
	}
	pool, err := choosePool(all, r.vg, wanted)
	if err != nil || pool.name == "" {
		return err
	}
	r.pool = pool.name
	return pool.roomForRestore()
}

// checkGroup asks for groups too: an empty one has no volumes to be listed.
func (r *receiver) checkGroup(ctx context.Context, all volumes) error {
	if v, ok := all.find(func(v volume) bool { return v.vg == r.vg }); ok {
		return v.vgTrouble
	}
	if !lvName.MatchString(r.vg) {
		return advice.With(fmt.Errorf("%q is no name of a volume group", r.vg), "name one of those that vgs shows")
	}
	return r.driver.checkGroup(ctx, r.vg)
}

func (r *receiver) checkTarget(all volumes) error {
	v, there := all.named(r.vg, r.name)
	if !there {
		return nil
	}
	// A restore beside a pool, or instead of it, is not what the user meant.
	if v.isPool() {
		return advice.With(fmt.Errorf("%s is a thin pool", v.full()), "to restore into it, write %s:%s/NAME", fs.LVM, v.full())
	}
	if r.suffix == "" {
		return fmt.Errorf("%s/%s: %w", r.vg, r.name, fs.ErrExists)
	}
	if _, there := all.named(r.vg, r.name+r.suffix); there {
		return advice.With(fmt.Errorf("%s/%s, as which what is at the target would be kept: %w", r.vg, r.name+r.suffix, fs.ErrExists), "rename it (lvrename)")
	}
	return nil
}

// choosePool returns the zero value where a classic volume is to be made.
func choosePool(all volumes, vg, wanted string) (volume, error) {
	var pools volumes
	var names []string
	for _, v := range all {
		if v.vg == vg && v.isPool() {
			pools, names = append(pools, v), append(names, v.name)
		}
	}
	if wanted != "" {
		if p, ok := pools.named(vg, wanted); ok {
			return p, nil
		}
		what := fmt.Sprintf("there is no thin pool %s/%s", vg, wanted)
		if v, ok := all.named(vg, wanted); ok {
			what = v.full() + " is no thin pool"
		}
		return volume{}, advice.With(fmt.Errorf("%w: %s, and what stands between group and name is one; pools in %s: %s", fs.ErrNotFound, what, vg, orNone(names)),
			"restore several volumes to %s:%s or %[1]s:%[2]s/POOL, each under its own name, or one of them under a name of your choice", fs.LVM, vg)
	}
	switch len(pools) {
	case 0:
		return volume{}, nil
	case 1:
		return pools[0], nil
	}
	return volume{}, advice.With(fmt.Errorf("volume group %s has several thin pools (%s)", vg, strings.Join(names, ", ")), "say which: %s:%s/POOL/NAME", fs.LVM, vg)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// roomForRestore refuses a pool that is nearly full.
func (v volume) roomForRestore() error {
	if v.mode == "ro" || v.mode == "Fail" {
		return advice.With(fmt.Errorf("thin pool %s is in the mode %s: its metadata is damaged or full", v.full(), v.mode), "see the kernel's log, and lvmthin(7) on repairing it (lvconvert --repair)")
	}
	if v.active() && (v.dataUse >= refuseData || v.metaUse >= refuseMeta) {
		return advice.With(fmt.Errorf("%w: %s; from %d and %d %% on nothing is restored there", fs.ErrNoSpace, v.use(), refuseData, refuseMeta), "%s", v.widen())
	}
	return nil
}

// workName is a name for a volume that is being built.
func workName() string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	return fs.LVMRestorePrefix + hex.EncodeToString(random[:])
}

// create makes an empty volume and opens it.
func (r *receiver) create(ctx context.Context, size int64) (*work, error) {
	name := workName()
	argv := []string{"lvcreate", "-q", "-y", "-n", name, "-k", "y", "-a", "y", "-K", "-W", "n", "--addtag", tagOwner + proc.Mark()}
	bytes := strconv.FormatInt(size, 10) + "b"
	if r.pool == "" {
		return r.make(ctx, name, append(argv, "--addtag", tagTemporary, "-Z", "n", "-L", bytes, r.vg), size)
	}
	if err := r.lvcreate(ctx, append(argv, "--addtag", tagUnproven, "-V", bytes, "--thinpool", r.vg+"/"+r.pool), size); err != nil {
		return nil, err
	}
	if err := r.driver.prove(ctx, volume{vg: r.vg, name: name, pool: r.pool}); err != nil {
		return nil, err
	}
	return r.ready(ctx, name, size)
}

// branch makes a thin volume that begins as what was built so far.
func (r *receiver) branch(ctx context.Context, size int64) (*work, error) {
	name := workName()
	argv := []string{"lvcreate", "-q", "-y", "-s", "-n", name, "-k", "y", "-a", "y", "-K", "--addtag", tagTemporary, "--addtag", tagOwner + proc.Mark(), r.built.volume.full()}
	return r.make(ctx, name, argv, size)
}

func (r *receiver) make(ctx context.Context, name string, argv []string, size int64) (*work, error) {
	if err := r.lvcreate(ctx, argv, size); err != nil {
		return nil, err
	}
	return r.ready(ctx, name, size)
}

func (r *receiver) lvcreate(ctx context.Context, argv []string, size int64) error {
	if err := r.driver.beQuiet(ctx); err != nil {
		return err
	}
	if r.pool != "" {
		all, err := r.driver.list(ctx, r.vg)
		if err != nil {
			return err
		}
		pool, there := all.named(r.vg, r.pool)
		if !there {
			return fmt.Errorf("thin pool %s/%s: %w", r.vg, r.pool, fs.ErrNotFound)
		}
		if _, err := r.driver.nextFree(ctx, all, pool, 1); err != nil {
			return err
		}
	}
	if err := r.driver.change(ctx, argv...); err != nil {
		return fmt.Errorf("make a volume of %d MiB to restore into: %w", size>>20, err)
	}
	return nil
}

// ready opens a volume that was just made and is known to be ours; what cannot be
// opened goes.
func (r *receiver) ready(ctx context.Context, name string, size int64) (*work, error) {
	undo := volume{vg: r.vg, name: name}
	w, err := r.openWork(ctx, name, size)
	if err != nil {
		return nil, errors.Join(err, r.driver.remove(context.WithoutCancel(ctx), undo))
	}
	return w, nil
}

func (r *receiver) openWork(ctx context.Context, name string, size int64) (*work, error) {
	all, err := r.driver.list(ctx, r.vg)
	if err != nil {
		return nil, err
	}
	v, ok := all.named(r.vg, name)
	if !ok {
		return nil, fmt.Errorf("%s/%s: %w", r.vg, name, fs.ErrNotFound)
	}
	w := &work{volume: v}
	if r.pool != "" {
		pool, err := all.pool(v)
		if err != nil {
			return nil, err
		}
		w.pool = pool
		w.watch = &poolWatch{pool: pool}
	}
	if err := r.resize(ctx, &w.volume, size); err != nil {
		return nil, err
	}
	if w.device, err = r.driver.open(ctx, w.volume, os.O_RDWR|os.O_EXCL); err != nil {
		return nil, err
	}
	if w.buf, err = pages(workBuffer); err != nil {
		return nil, errors.Join(err, w.device.Close())
	}
	return w, nil
}

// resize makes a volume larger; smaller is for later, see shrink.
func (r *receiver) resize(ctx context.Context, v *volume, size int64) error {
	if size <= v.size {
		return nil
	}
	err := r.driver.change(ctx, "lvextend", "-q", "-L", strconv.FormatInt(size, 10)+"b", v.full())
	if err != nil {
		return fmt.Errorf("make %s larger: %w", v.full(), err)
	}
	v.size = (size + v.extent - 1) / v.extent * v.extent
	return nil
}

// discard removes a work volume; what is left by a failure is swept later.
func (r *receiver) discard(ctx context.Context, w *work) error {
	if w == nil {
		return nil
	}
	err := w.drop()
	return errors.Join(err, r.driver.remove(context.WithoutCancel(ctx), w.volume))
}

// Notes says, after Finish, what is left to the user who restored.
func (r *receiver) Notes() []string { return r.notes }

// Close implements fs.Receiver.
func (r *receiver) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	built := r.built
	r.built = nil
	if err := r.clear(built); err != nil {
		return fmt.Errorf("clear what the restore to %s needed: %w; the next restore does it again", r.target, err)
	}
	return nil
}
