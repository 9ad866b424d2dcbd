package ship

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"snapd/internal/point"
)

// leaseDoc says that an upload is alive. While one lies in the repository, no
// keeper deletes what the stream has so far, nor what it builds on.
type leaseDoc struct {
	header
	Stream point.ID  `json:"stream"`
	Base   *point.ID `json:"base"` // null for a full stream
	Host   string    `json:"host"`
	Time   time.Time `json:"time"`
	Count  int       `json:"count"` // from 1; each renewal adds one
}

func (d *leaseDoc) check() error {
	if d.Format < formatVersion {
		return errors.New("format 1 has no leases")
	}
	if err := parseStored(d.Stream); err != nil {
		return err
	}
	if d.Base != nil {
		if err := parseStored(*d.Base); err != nil {
			return err
		}
	}
	if d.Count < 1 || d.Count > maxLease {
		return fmt.Errorf("count %d is out of range", d.Count)
	}
	return checkWord("host", d.Host)
}

// maxLease is the highest count that six digits can name: 19 years of renewals
// every ten minutes.
const maxLease = 999_999

// Lease is a verified one.
type Lease struct {
	Stream point.ID
	Base   point.ID  // "" for a full stream
	Host   string    // opaque id
	Time   time.Time // by the clock of the host that put it
	Count  int

	Key     string
	PutTime time.Time // by the store's clock
}

func leaseKey(stream point.ID, count int) string {
	return fmt.Sprintf("%s%s.%06d", prefixLeases, stream, count)
}

func parseLeaseKey(key string) (stream point.ID, count int, ok bool) {
	name, ok := strings.CutPrefix(key, prefixLeases)
	id, digits, two := strings.Cut(name, ".")
	if !ok || !two || len(digits) != 6 || parseStored(point.ID(id)) != nil {
		return "", 0, false
	}
	count, err := strconv.Atoi(digits)
	if err != nil || count < 1 || leaseKey(point.ID(id), count) != key {
		return "", 0, false
	}
	return point.ID(id), count, true
}

// isKnownKey tells whether a key below meta/ is one that the format explains.
func isKnownKey(key string) bool {
	if _, ok := parseNumbered(prefixPoints, key); ok {
		return true
	}
	if _, ok := parseNumbered(prefixLedger, key); ok {
		return true
	}
	if _, _, ok := parseLeaseKey(key); ok {
		return true
	}
	_, ok := parseStreamKey(key)
	return ok
}
