// Package zfs drives ZFS: it finds filesystems and volumes, takes snapshots of
// all datasets of a pool at one instant, bookmarks and holds what is shipped,
// sends (raw where a dataset is encrypted), goes on with a send that was
// interrupted from what it knows of its own stream, and receives into new
// datasets. Datasets, snapshots and bases are told apart by guid and
// createtxg; their names are only how they are called today.
//
// go-zfs serves for what it covers; everything else runs zfs and zpool with
// output made for machines. A stream is read by this package's own parser,
// which needs no ZFS.
//
// It is no general library for ZFS: it makes no pools, mounts nothing, forces
// nothing (-F, -f), and destroys no dataset that it did not make.
package zfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// Driver implements fs.Driver on ZFS. It keeps nothing open between calls.
type Driver struct{}

// What this storage can do; all capabilities are in fs/optional.go.
var (
	_ fs.Driver            = (*Driver)(nil)
	_ fs.Bookmarker        = (*Driver)(nil)
	_ fs.Resumer           = (*Driver)(nil)
	_ fs.Estimator         = (*Driver)(nil)
	_ fs.Describer         = (*Driver)(nil)
	_ fs.Sweeper           = (*Driver)(nil)
	_ fs.FilesystemLister  = (*Driver)(nil)
	_ fs.InterruptedLister = (*Driver)(nil)
	_ fs.HealthTeller      = (*Driver)(nil)
	_ fs.OwnLister         = (*Driver)(nil)
	_ fs.Opener            = (*Driver)(nil)

	_ fs.Prepared  = (*prepared)(nil)
	_ fs.Receiver  = (*receiver)(nil)
	_ fs.Expecter  = (*receiver)(nil)
	_ fs.Roomer    = (*receiver)(nil)
	_ fs.Continuer = (*receiver)(nil)
	_ fs.Noter     = (*receiver)(nil)
	_ fs.Stater    = (*Stream)(nil)
	_ fs.Denser    = (*Stream)(nil)
)

// New returns the driver. It works on hosts without ZFS too: nothing is on it
// there.
func New() *Driver { return &Driver{} }

const (
	filesystem = "filesystem"
	volume     = "volume"

	// nameMax is the longest name of a dataset, snapshot or bookmark, in
	// bytes (ZFS_MAX_DATASET_NAME_LEN less the end).
	nameMax = 255
)

// object is one dataset as it is now.
type object struct {
	name string
	guid uint64
	kind string // filesystem or volume
}

func (o object) pool() string { return poolOf(o.name) }

// poolOf is the pool of a dataset, snapshot or bookmark.
func poolOf(name string) string {
	pool, _, _ := strings.Cut(name, "/")
	pool, _, _ = strings.Cut(pool, "@")
	pool, _, _ = strings.Cut(pool, "#")
	return pool
}

func parseGUID(text string) (uint64, error) {
	guid, err := strconv.ParseUint(text, 10, 64)
	if err != nil || guid == 0 || strconv.FormatUint(guid, 10) != text {
		return 0, fmt.Errorf("%q is not the guid of anything on ZFS: %w", text, fs.ErrNotFound)
	}
	return guid, nil
}

func guidText(guid uint64) string { return strconv.FormatUint(guid, 10) }

// domain is what one command snapshots at one instant: a pool, by its guid.
func domain(ctx context.Context, pool string) (string, error) {
	rows, err := table(ctx, pool, 1, "zpool", "list", "-Hp", "-o", "guid", pool)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 {
		return "", fmt.Errorf("pool %s: %w", pool, fs.ErrNotFound)
	}
	return fs.ZFS + ":" + rows[0][0], nil
}

// find says what the datasets are called now, in their order. One that has
// another name than it is known by was renamed; its guid has not changed.
func (d *Driver) find(ctx context.Context, datasets ...fs.Dataset) ([]object, error) {
	out := make([]object, len(datasets))
	var names []string
	for i, dataset := range datasets {
		guid, err := parseGUID(dataset.GUID)
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %w", dataset.Name, err)
		}
		out[i].guid = guid
		if checkName(dataset.Name) == nil {
			names = append(names, dataset.Name)
		}
	}
	known, err := objects(ctx, names...)
	if err != nil && !errors.Is(err, fs.ErrNotFound) {
		return nil, err
	}
	byGUID := make(map[uint64]object)
	for _, o := range known {
		byGUID[o.guid] = o
	}
	for i, dataset := range datasets {
		o, ok := byGUID[out[i].guid]
		if !ok {
			if o, err = findRenamed(ctx, dataset, out[i].guid); err != nil {
				return nil, err
			}
		}
		out[i] = o
	}
	return out, nil
}

// objects describes datasets by name. Those that exist are returned also when
// others do not, which is fs.ErrNotFound.
func objects(ctx context.Context, names ...string) ([]object, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return list(ctx, poolOf(names[0]), names...)
}

// list describes what zfs list shows for these arguments.
func list(ctx context.Context, pool string, args ...string) ([]object, error) {
	argv := append([]string{"zfs", "list", "-Hp", "-t", "filesystem,volume", "-o", "name,guid,type"}, args...)
	rows, err := table(ctx, pool, 3, argv...)
	out := make([]object, 0, len(rows))
	for _, row := range rows {
		guid, guidErr := parseGUID(row[1])
		if guidErr != nil {
			return nil, guidErr
		}
		out = append(out, object{name: row[0], guid: guid, kind: row[2]})
	}
	return out, err
}

// findRenamed looks for a dataset that is not where its name says. Two pools
// can have datasets of one guid after zpool split: then it cannot be told which
// is meant.
func findRenamed(ctx context.Context, dataset fs.Dataset, guid uint64) (object, error) {
	pools, err := healthyPools(ctx)
	if err != nil {
		return object{}, err
	}
	var found []object
	for _, pool := range pools {
		all, err := list(ctx, pool, "-r", pool)
		if err != nil {
			return object{}, err
		}
		for _, o := range all {
			if o.guid == guid {
				found = append(found, o)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return object{}, advice.With(fmt.Errorf("dataset %s (guid %d): %w on this host", dataset.Name, guid, fs.ErrNotFound),
			"if its pool %s is only not imported, run: zpool import %[1]s", poolOf(dataset.Name))
	}
	return object{}, advice.With(fmt.Errorf("dataset %s (guid %d): %w under that name, and %s and %s both have that guid",
		dataset.Name, guid, fs.ErrNotFound, found[0].name, found[1].name), "export the pool that is not meant")
}
