// Package zfsstream reads send streams of ZFS, and makes what zfs itself does
// not: a check of a whole stream, the rest of one that was interrupted, and the
// tokens with which a sender or a receiver goes on. It needs no ZFS and no
// right, so that a stream can be checked where there is none.
package zfsstream

import (
	"fmt"
	"io"
	"strings"
)

// Formats of the streams that Send makes, as they stand in a manifest. A chain
// has one of them, for ever: it follows from whether the dataset is encrypted.
const (
	FormatClear = "zfs-1"     // zfs send -L -c
	FormatRaw   = "zfs-raw-1" // zfs send -w, of an encrypted dataset
)

// OwnFormat tells whether streams of a format are this package's.
func OwnFormat(format string) bool { return strings.HasPrefix(format, "zfs-") }

// Info is what a send stream says about itself.
type Info struct {
	GUID     uint64 // of the snapshot that it makes
	Base     uint64 // guid of the snapshot that it builds on, 0 for a full stream
	Name     string // of the snapshot where it was sent
	Volume   bool   // not a filesystem
	Features []string
	Raw      bool // encrypted, as it lay on the disks
	Bytes    int64
	Records  int64
	Dense    int64 // bytes of it that were compressed or encrypted by ZFS
}

// Check reads one whole send stream and says what is in it. Anything
// else, such as a stream that is cut off, or in which records are missing, or
// stand in another order, or have one bit flipped, gives ErrInvalid; an error
// of the reader is returned as it is. It needs no ZFS and 256 KiB at most,
// however long the stream.
func Check(r io.Reader) (Info, error) {
	var w Walker
	_, err := io.CopyBuffer(struct{ io.Writer }{&w}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err == nil && !w.Ended {
		err = w.Damaged("it is cut off")
	}
	if err != nil {
		return Info{}, fmt.Errorf("check ZFS stream: %w", err)
	}
	return w.info(), nil
}

// CheckFormat is Check for one of our formats.
func CheckFormat(format string, r io.Reader) error {
	info, err := Check(r)
	switch {
	case err != nil:
		return err
	case format != FormatClear && format != FormatRaw:
		return fmt.Errorf("check ZFS stream: this version of snapd does not know the format %q", format)
	case info.Raw != (format == FormatRaw):
		return fmt.Errorf("check ZFS stream: %w: its manifest says %s, and it is the other kind", ErrInvalid, format)
	}
	return nil
}

func (w *Walker) info() Info {
	b := &w.Begin
	return Info{
		GUID: b.ToGUID(), Base: b.FromGUID(), Name: b.toName(), Volume: b.DatasetType() == TypeVolume,
		Features: featureNames(b.Features()), Raw: b.Features()&FeatureRaw != 0,
		Bytes: w.Offset, Records: w.records, Dense: w.dense,
	}
}

// featureNames lists the features that a stream uses.
func featureNames(features uint64) []string {
	names := []struct {
		bit  uint64
		name string
	}{
		{featureDedup, "dedup"},
		{featureDedupProps, "dedupprops"},
		{featureSpill, "spill"},
		{FeatureEmbedded, "embedded"},
		{FeatureLZ4, "lz4"},
		{FeatureLargeBlocks, "large_blocks"},
		{featureResuming, "resuming"},
		{featureRedacted, "redacted"},
		{featureCompressed, "compressed"},
		{FeatureLargeDnode, "large_dnode"},
		{FeatureRaw, "raw"},
		{FeatureZstd, "zstd"},
		{featureHolds, "holds"},
		{featureSwitchToLarge, "switch_to_large_blocks"},
		{FeatureLongName, "longname"},
		{FeatureLargeMicrozap, "large_microzap"},
	}
	var out []string
	for _, f := range names {
		if features&f.bit != 0 {
			out = append(out, f.name)
		}
	}
	return out
}
