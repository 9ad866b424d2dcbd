package ship

import (
	"fmt"

	"snapd/internal/point"
)

const (
	prefixMeta    = "meta/"
	prefixPoints  = "meta/points/"
	prefixLedger  = "meta/ledger/"
	prefixLeases  = "meta/leases/"
	prefixStreams = "meta/streams/"
	prefixData    = "data/"

	keyDigits = 16 // hexadecimal digits of a digest in a key

	full = "full" // stands in a key where an incremental stream has its base
)

func pointKey(number int64) string { return fmt.Sprintf("%s%010d", prefixPoints, number) }

func dataPrefix(stream point.ID) string { return prefixData + string(stream) + "/" }

func segmentKey(stream point.ID, n int, d Digest) string {
	return fmt.Sprintf("%s%08d-%s", dataPrefix(stream), n, d.String()[:keyDigits])
}

// partName is what a part of a manifest is signed for.
func partName(stream point.ID, k int) string {
	return fmt.Sprintf("%spart-%05d", dataPrefix(stream), k)
}

func partKey(stream point.ID, k int, d Digest) string {
	return partName(stream, k) + "-" + d.String()[:keyDigits]
}
