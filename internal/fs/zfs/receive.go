package zfs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/fs/zfs/zfsstream"
	"snapd/internal/proc"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

// receiver builds a dataset under a name of ours beside the target's nearest
// ancestor, and renames it when it is whole. So nothing is ever received into
// something that exists, and no -F is needed.
type receiver struct {
	ctx      context.Context //nolint:containedctx // of the one Receive that made it, without its end: Close works on after that
	target   string
	wanted   string // the target that was asked for; a stage says which restore it belongs to by it
	suffix   string // of what exists at the target; "" when nothing may
	ancestor string // the nearest dataset above the target that exists
	stage    string
	kind     string // filesystem or volume, once a stream was received
	applied  []applied
	props    map[string]string
	needed   int64    // bytes that Expect was told of, and that are not there yet
	free     int64    // bytes below the ancestor, at that time
	made     []string // missing parents that Finish made, top first
	notes    []string
	left     *zfsstream.Left // of a stream that is there in part
	keeps    bool            // what was received is kept when that is interrupted
	kept     bool            // and it was
	done     bool            // Finish handed the dataset over
	closed   bool
}

// applied is a snapshot that was received.
type applied struct {
	name string // of the snapshot, without the dataset
	guid uint64
}

// Receive implements fs.Driver. Target is the name of a dataset, such as
// tank/restored; missing parents are made by Finish. Before any byte moves it
// looks at the pool, the name, what is there, the parent's key and its room.
func (d *Driver) Receive(ctx context.Context, target string, placement fs.Placement) (fs.Receiver, error) {
	r := &receiver{ctx: context.WithoutCancel(ctx), target: target, wanted: cmp.Or(placement.Wanted, target), suffix: placement.ReplaceSuffix}
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("restore to %s: %w", target, err)
	}
	return r, nil
}

func (r *receiver) open(ctx context.Context) error {
	if !present() {
		return advice.With(errors.New("this host has no ZFS"), "load it (modprobe zfs) or choose another target")
	}
	if err := checkName(r.target); err != nil {
		return err
	}
	if len(r.target)+len(r.suffix) > nameMax {
		return advice.With(fmt.Errorf("%s%s: the name has more than %d bytes", r.target, r.suffix, nameMax), "choose a shorter target")
	}
	if !strings.Contains(r.target, "/") {
		return advice.With(fmt.Errorf("%s is a pool: %w", r.target, fs.ErrExists), "choose a name in it, such as %s/restored", r.target)
	}
	if err := r.checkPool(ctx); err != nil {
		return err
	}
	if err := r.findAncestor(ctx); err != nil {
		return err
	}
	if err := r.checkTarget(ctx); err != nil {
		return err
	}
	if err := r.checkParent(ctx); err != nil {
		return err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	r.stage = r.ancestor + "/" + fs.StageName(hex.EncodeToString(random[:]))
	if most := nameMax - len("@") - len(streamName(1<<30)); len(r.stage) > most {
		return advice.With(fmt.Errorf("%s: its parent's name leaves no room for the dataset in which it is built", r.target), "choose a target higher up")
	}
	return nil
}

func (r *receiver) pool() string { return poolOf(r.target) }

func (r *receiver) checkPool(ctx context.Context) error {
	pool, err := unlessSuspended(ctx, r.pool(), func(context.Context) (*gozfs.Zpool, error) { return gozfs.GetZpool(r.pool()) })
	if errors.Is(err, fs.ErrNotFound) {
		return advice.With(fmt.Errorf("there is no pool %s on this host: %w", r.pool(), err), "name one of those that zpool list shows, or import one: zpool import shows those that could be")
	}
	if err != nil {
		return err
	}
	if pool.ReadOnly {
		return advice.With(fmt.Errorf("pool %s is imported read-only", r.pool()), "import it for writing, or choose another")
	}
	return nil
}

// findAncestor looks for what exists on the way to the target.
func (r *receiver) findAncestor(ctx context.Context) error {
	var above []string
	for name := path.Dir(r.target); name != "."; name = path.Dir(name) {
		above = append(above, name)
	}
	found, err := objects(ctx, above...)
	if err != nil && !errors.Is(err, fs.ErrNotFound) {
		return err
	}
	for _, o := range found {
		if len(o.name) > len(r.ancestor) {
			r.ancestor = o.name
			if o.kind == volume {
				return advice.With(fmt.Errorf("%s is a volume, and nothing can lie below one", o.name), "choose another target")
			}
		}
	}
	if r.ancestor == "" {
		return fmt.Errorf("pool %s: %w", r.pool(), fs.ErrNotFound)
	}
	return nil
}

// checkTarget looks at what is in the way before anything is touched.
func (r *receiver) checkTarget(ctx context.Context) error {
	there, err := exists(ctx, r.target)
	if err != nil || !there {
		return err
	}
	if r.suffix == "" {
		return fmt.Errorf("%s: %w", r.target, fs.ErrExists)
	}
	if there, err = exists(ctx, r.target+r.suffix); err == nil && there {
		err = advice.With(fmt.Errorf("%s, which is what the dataset at the target would be called: %w", r.target+r.suffix, fs.ErrExists), "rename it (zfs rename)")
	}
	return err
}

func exists(ctx context.Context, name string) (bool, error) {
	found, err := objects(ctx, name)
	if errors.Is(err, fs.ErrNotFound) {
		return false, nil
	}
	return len(found) > 0, err
}

// checkParent looks whether the target's parent has room, and remembers
// whether it is encrypted.
func (r *receiver) checkParent(ctx context.Context) error {
	props, err := properties(ctx, r.ancestor, "available", "readonly")
	if err != nil {
		return err
	}
	if free, err := strconv.ParseUint(props["available"], 10, 64); err == nil && free < roomNeeded {
		return advice.With(fmt.Errorf("%w in %s: %d KiB are available", fs.ErrNoSpace, r.ancestor, free>>10), "free some, or raise its quota")
	}
	return nil
}

// properties are values of one dataset, as numbers where they are some.
func properties(ctx context.Context, name string, wanted ...string) (map[string]string, error) {
	rows, err := table(ctx, poolOf(name), 2, "zfs", "get", "-Hp", "-o", "property,value", strings.Join(wanted, ","), name)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for _, row := range rows {
		out[row[0]] = row[1]
	}
	return out, nil
}

// Expect says before the first stream what the restored dataset will be like:
// what Properties said when its snapshot was taken. Room is checked by it, and
// what a user had set is set again by Finish.
func (r *receiver) Expect(ctx context.Context, props map[string]string) error {
	r.props = props
	size, err := strconv.ParseUint(props[keyReferenced], 10, 64)
	if err != nil {
		return nil //nolint:nilerr // a point of an older version: the room is not known
	}
	now, err := properties(ctx, r.ancestor, "available")
	if err != nil {
		return err
	}
	there, err := r.leftBefore(ctx)
	if err != nil {
		return err
	}
	free, err := strconv.ParseUint(now["available"], 10, 64)
	if err != nil {
		return nil //nolint:nilerr // the room is not known
	}
	r.needed, r.free = int64(size-min(size, there)), int64(free)
	if r.free < r.needed {
		return advice.With(fmt.Errorf("restore to %s: %w in %s: the dataset had %d MiB on its disks, and %d MiB are available",
			r.target, fs.ErrNoSpace, r.ancestor, size>>20, free>>20), "free some, raise the quota, or choose another pool")
	}
	return nil
}

// leftBefore is how many bytes of this restore are there already, which Continue
// goes on with.
func (r *receiver) leftBefore(ctx context.Context) (uint64, error) {
	rows, err := table(ctx, r.pool(), 4, "zfs", "list", "-Hp", "-d", "1", "-t", "filesystem,volume", "-o", "name,used,"+fs.PropertyOwner+","+fs.PropertyTarget, r.ancestor)
	if err != nil {
		return 0, fmt.Errorf("look for an interrupted restore to %s: %w", r.target, err)
	}
	var left uint64
	for _, row := range rows {
		used, err := strconv.ParseUint(row[1], 10, 64)
		if err == nil && fs.IsStageName(path.Base(row[0])) && row[3] == r.wanted && !proc.Lives(row[2]) {
			left += used
		}
	}
	return left, nil
}

// Room implements fs.Roomer.
func (r *receiver) Room() (place string, needed, free int64) {
	if r.needed == 0 {
		return "", 0, 0
	}
	return r.ancestor, r.needed, r.free
}

// Notes are what a user should know about what was restored.
func (r *receiver) Notes() []string { return r.notes }

func (r *receiver) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// Close implements fs.Receiver.
func (r *receiver) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.done || r.stage == "" {
		return nil
	}
	if stage := r.Kept(); stage != "" {
		return ignoreGone(command(r.ctx, r.pool(), "zfs", "inherit", fs.PropertyOwner, stage))
	}
	if err := r.clear(r.ctx); err != nil {
		return fmt.Errorf("remove what the restore to %s made: %w; the next restore does it again", r.target, err)
	}
	return nil
}

func (r *receiver) clear(ctx context.Context) error {
	err := r.findStage(ctx)
	if err != nil {
		return ignoreGone(err)
	}
	return destroyStage(ctx, r.stage)
}

// findStage says where the stage is now: when the dataset above it was moved
// aside for another restore (--replace of nested datasets), it went along.
func (r *receiver) findStage(ctx context.Context) error {
	there, err := exists(ctx, r.stage)
	if err != nil || there {
		return err
	}
	all, err := list(ctx, r.pool(), "-r", r.pool())
	if err != nil {
		return err
	}
	for _, o := range all {
		if path.Base(o.name) == path.Base(r.stage) {
			r.stage = o.name
			return nil
		}
	}
	return fmt.Errorf("what was received (%s): %w", r.stage, fs.ErrNotFound)
}
