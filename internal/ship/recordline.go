package ship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"snapd/internal/point"
)

// maxRecordLine bounds a line; ours have some 200 bytes.
const maxRecordLine = 4096

// RecordHead says which upload a record belongs to. An upload is continued
// only if all of it is equal, the stream's id apart.
type RecordHead struct {
	Format     int      `json:"format"`
	Type       string   `json:"type"`
	Repository string   `json:"repository"`
	Stream     point.ID `json:"stream"`
	Driver     string   `json:"driver"`
	StreamForm string   `json:"stream_format"`
	Origin     string   `json:"origin"`
	GUID       string   `json:"guid"`
	Base       point.ID `json:"base"`
	SliceBytes int      `json:"slice_bytes"`
	Recipients string   `json:"recipients"` // digest of their names
}

const typeRecord = "ship-record"

// recordFormat is the version of the record itself, which never leaves the host.
const recordFormat = 1

type recordLine struct {
	N           int    `json:"n"`
	Plain       Digest `json:"plain_sha256"`
	Object      Digest `json:"object_sha256"`
	PlainBytes  int64  `json:"plain_bytes"`
	StoredBytes int64  `json:"stored_bytes"`
	State       string `json:"state,omitempty"` // of the storage's reader at the segment's end, for Sender.Resume
	ETag        string `json:"etag,omitempty"`  // of the object, as the store told it; since the second version of the record

	// Commit is alone in a line that stands before the manifest is put: the
	// manifest's key.
	Commit string `json:"commit,omitempty"`
	// Lease is alone in a line that stands before a lease is put: its count.
	Lease int `json:"lease,omitempty"`
}

// commitLine is a recordLine with Commit alone.
type commitLine struct {
	Commit string `json:"commit"`
}

// leaseLine is a recordLine with Lease alone.
type leaseLine struct {
	Lease int `json:"lease"`
}

// maxState bounds State, so that a line stays one.
const maxState = 1024

// readRecord reads a record and calls each for its lines, if set. A torn last
// line is what a crash leaves, and is left out; whole is how many bytes are
// good. A line that is bad in the middle ends the reading in the same way.
func readRecord(f io.Reader, stream point.ID, each func(recordLine)) (head RecordHead, whole int64, err error) {
	in := bufio.NewReaderSize(f, maxRecordLine)
	line, err := in.ReadSlice('\n')
	if err != nil || decodeLine(line, &head) != nil || head.Type != typeRecord || head.Format != recordFormat || head.Stream != stream {
		return RecordHead{}, 0, fmt.Errorf("ship record %s: %w", stream, ErrDamaged)
	}
	whole = int64(len(line))
	for each != nil {
		line, err := in.ReadSlice('\n')
		var l recordLine
		if err != nil || decodeLine(line, &l) != nil || l.check() != nil {
			break
		}
		whole += int64(len(line))
		each(l)
	}
	return head, whole, nil //nolint:nilerr // a torn line is where it ends
}

func decodeLine(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func (l recordLine) check() error {
	if l.Commit != "" {
		if _, ok := parseStreamKey(l.Commit); !ok || l != (recordLine{Commit: l.Commit}) {
			return ErrDamaged
		}
		return nil
	}
	if l.Lease != 0 {
		if l.Lease < 0 || l.Lease > maxLease || l != (recordLine{Lease: l.Lease}) {
			return ErrDamaged
		}
		return nil
	}
	if l.N < 0 || l.N >= 100_000_000 || l.PlainBytes < 1 || l.PlainBytes > maxSlice || l.StoredBytes < 1 || l.StoredBytes > maxStored(maxSlice) {
		return ErrDamaged
	}
	return nil
}
