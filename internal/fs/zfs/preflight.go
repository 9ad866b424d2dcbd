package zfs

import (
	"context"
	"fmt"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs/zfs/zfsstream"
)

// preflight looks whether the pool can take a stream, before it is given one
// byte of it.
func (r *receiver) preflight(ctx context.Context, b *zfsstream.Head) error {
	if err := r.checkFeatures(ctx, b.Features()); err != nil {
		return err
	}
	return r.checkKey(ctx, b.Features()&zfsstream.FeatureRaw != 0)
}

// poolFeatures are the features that a pool must have for those of a stream.
func poolFeatures(features uint64) []string {
	var out []string
	for _, f := range []struct {
		bit  uint64
		name string
	}{
		{zfsstream.FeatureEmbedded, "embedded_data"},
		{zfsstream.FeatureLZ4, "lz4_compress"},
		{zfsstream.FeatureLargeBlocks, "large_blocks"},
		{zfsstream.FeatureLargeDnode, "large_dnode"},
		{zfsstream.FeatureRaw, "encryption"},
		{zfsstream.FeatureZstd, "zstd_compress"},
		{zfsstream.FeatureLongName, "longname"},
		{zfsstream.FeatureLargeMicrozap, "large_microzap"},
	} {
		if features&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return out
}

func (r *receiver) checkFeatures(ctx context.Context, features uint64) error {
	needed := poolFeatures(features)
	if len(needed) == 0 {
		return nil
	}
	rows, err := table(ctx, r.pool(), 2, "zpool", "get", "-Hp", "-o", "property,value", "all", r.pool())
	if err != nil {
		return err
	}
	state := make(map[string]string)
	for _, row := range rows {
		state[row[0]] = row[1]
	}
	for _, name := range needed {
		switch value, known := state["feature@"+name]; {
		case !known:
			return advice.With(fmt.Errorf("the stream needs the feature %s, and this host's ZFS does not know it", name), "restore on a host with a newer ZFS")
		case value == "disabled":
			return advice.With(fmt.Errorf("the stream needs the feature %s, and pool %s has it disabled", name, r.pool()),
				"enable it with: zpool set feature@%s=enabled %s (older ZFS cannot read the pool then), or restore to another pool", name, r.pool())
		}
	}
	return nil
}

// checkKey looks whether the key of an encrypted parent is there: what is
// received in clear below it is encrypted with that. A raw stream brings its
// own encryption and needs no key.
func (r *receiver) checkKey(ctx context.Context, raw bool) error {
	if raw {
		return nil
	}
	props, err := properties(ctx, r.ancestor, "encryption", "keystatus", "encryptionroot")
	if err != nil {
		return err
	}
	if encryption := props["encryption"]; encryption != "off" && encryption != "-" && props["keystatus"] != "available" {
		return advice.With(fmt.Errorf("%w: %s is encrypted, and so will be what is restored below it", ErrKey, r.ancestor), "run: zfs load-key %s", strings.TrimSpace(props["encryptionroot"]))
	}
	return nil
}
