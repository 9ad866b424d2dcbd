package zfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"snapd/internal/fs"

	gozfs "github.com/mistifyio/go-zfs/v3"
)

// Finish implements fs.Receiver: properties, then no more snapshots of ours,
// then the name. The new dataset is not mounted, and a volume shows no device:
// what is restored does nothing by itself.
func (r *receiver) Finish(ctx context.Context) (fs.Dataset, error) {
	if r.closed {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, os.ErrClosed)
	}
	dataset, err := r.finish(ctx)
	if err != nil {
		return fs.Dataset{}, fmt.Errorf("finish restore to %s: %w", r.target, err)
	}
	return dataset, nil
}

func (r *receiver) finish(ctx context.Context) (_ fs.Dataset, err error) {
	if len(r.applied) == 0 {
		return fs.Dataset{}, errors.New("nothing was received")
	}
	if err := r.findStage(ctx); err != nil {
		return fs.Dataset{}, err
	}
	if err := r.setProperties(ctx); err != nil {
		return fs.Dataset{}, err
	}
	if err := r.dropSnapshots(ctx); err != nil {
		return fs.Dataset{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.removeParents(context.WithoutCancel(ctx)))
		}
	}()
	if err := r.makeParents(ctx); err != nil {
		return fs.Dataset{}, err
	}
	if err := r.takePlace(ctx); err != nil {
		return fs.Dataset{}, err
	}
	r.done = true
	r.sayMore(ctx)
	return describe(context.WithoutCancel(ctx), r.target)
}

// dropSnapshots removes what the chain left, and the mark of the owner.
func (r *receiver) dropSnapshots(ctx context.Context) error {
	first, last := r.applied[0].name, r.applied[len(r.applied)-1].name
	err := command(ctx, r.pool(), "zfs", "destroy", r.stage+"@"+first+"%"+last)
	if err := ignoreGone(err); err != nil { // gone: Finish is called again
		return fmt.Errorf("remove the snapshots of the chain: %w", err)
	}
	return nil
}

// makeParents makes the filesystems between the nearest ancestor and the
// target. They are empty and not mounted.
func (r *receiver) makeParents(ctx context.Context) error {
	var missing []string
	for name := path.Dir(r.target); len(name) > len(r.ancestor); name = path.Dir(name) {
		missing = append(missing, name)
	}
	for _, name := range slices.Backward(missing) {
		_, err := unlessSuspended(ctx, r.pool(), func(context.Context) (*gozfs.Dataset, error) {
			return gozfs.CreateFilesystem(name, map[string]string{"canmount": "off"})
		})
		if errors.Is(err, fs.ErrExists) {
			continue // made by the restore of a sibling
		}
		if err != nil {
			return fmt.Errorf("make the parent %s: %w", name, err)
		}
		r.made = append(r.made, name)
	}
	return nil
}

func (r *receiver) removeParents(ctx context.Context) (err error) {
	for _, name := range slices.Backward(r.made) {
		err = errors.Join(err, ignoreGone(command(ctx, r.pool(), "zfs", "destroy", name)))
	}
	r.made = nil
	return err
}

// takePlace gives the dataset its name, after what has it was moved aside. It
// is not cut short: between the two renames nothing is at the target.
func (r *receiver) takePlace(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	moved := false
	if r.suffix != "" {
		there, err := exists(ctx, r.target)
		if err != nil {
			return err
		}
		if there {
			if err := rename(ctx, r.target, r.target+r.suffix); err != nil {
				return fmt.Errorf("keep what is there under another name: %w", err)
			}
			moved = true
		}
	}
	err := command(ctx, r.pool(), "zfs", "inherit", fs.PropertyOwner, r.stage)
	if err == nil && r.keeps {
		err = command(ctx, r.pool(), "zfs", "inherit", fs.PropertyTarget, r.stage)
	}
	if err == nil {
		err = rename(ctx, r.stage, r.target)
	}
	if err != nil && moved {
		err = errors.Join(err, rename(ctx, r.target+r.suffix, r.target))
	}
	return err
}

func rename(ctx context.Context, from, to string) error {
	return command(ctx, poolOf(from), "zfs", "rename", from, to)
}

// setProperties sets again what a user had set. One that cannot be set here
// is no reason to throw the data away; a note says so.
func (r *receiver) setProperties(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(r.props)) {
		if !restorable(name) {
			continue
		}
		set := &gozfs.Dataset{Name: r.stage}
		_, err := unlessSuspended(ctx, r.pool(), func(context.Context) (struct{}, error) {
			return struct{}{}, set.SetProperty(name, r.props[name])
		})
		if ctx.Err() != nil || errors.Is(err, ErrSuspended) {
			return err
		}
		if err != nil {
			r.note("%s: its property %s=%s could not be set: %v", r.target, name, r.props[name], err)
		}
	}
	return nil
}

// sayMore tells what a user has to do to use the dataset.
func (r *receiver) sayMore(ctx context.Context) {
	props, err := properties(ctx, r.target, "keystatus", "encryptionroot")
	if err == nil && props["keystatus"] == "unavailable" {
		r.note("%s is encrypted and stays locked: load its key with zfs load-key %s", r.target, quoted(props["encryptionroot"]))
	}
	if r.kind == volume {
		r.note("%s shows no device, so that nothing takes it for the original: when that is gone or renamed, run zfs inherit volmode %s", r.target, quoted(r.target))
		return
	}
	r.note("%s is not mounted: run zfs mount %s, after zfs set mountpoint=… if it shall lie elsewhere", r.target, quoted(r.target))
}

// quoted is a name as it can be pasted into a shell.
func quoted(name string) string {
	if strings.Contains(name, " ") {
		return "'" + name + "'"
	}
	return name
}
