package ship

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"snapd/internal/point"
)

// StreamRef says what a stream is. One of a View was signed: by its manifest,
// or by a point or an event that names it.
type StreamRef struct {
	ID         point.ID
	Base       point.ID // the stream it builds on, "" for a full one
	Origin     string   // guid of the dataset
	GUID       string   // guid of the snapshot that the stream makes
	BaseGUID   string   // guid of the snapshot that it builds on, "" for a full one
	Number     int      // of the stream in its dataset's chain, as retention counts them
	Depth      int      // streams below it down to the full one, which has 0
	Recipients string   // tag of those that can decrypt it, see Repository.RecipientsTag; "" of format 1
	Segments   int
	Digest     Digest    // of the manifest's object
	Key        string    // of the manifest
	Size       int64     // bytes of the manifest's object; 0 where it was not listed
	Time       time.Time // when it was committed, by the store's clock; zero where it was not listed
}

func streamKey(s StreamRef) string {
	base := full
	if s.Base != "" {
		base = string(s.Base)
	}
	return prefixStreams + string(s.ID) + "." + s.Origin + "." + s.GUID + "." + base + "." + strconv.Itoa(s.Number) + "." + strconv.Itoa(s.Depth)
}

func parseStreamKey(key string) (StreamRef, bool) {
	name, ok := strings.CutPrefix(key, prefixStreams)
	parts := strings.Split(name, ".")
	if !ok || len(parts) != 6 {
		return StreamRef{}, false
	}
	s := StreamRef{ID: point.ID(parts[0]), Origin: parts[1], GUID: parts[2], Key: key}
	if parts[3] != full {
		s.Base = point.ID(parts[3])
	}
	var err1, err2 error
	s.Number, err1 = strconv.Atoi(parts[4])
	s.Depth, err2 = strconv.Atoi(parts[5])
	if err1 != nil || err2 != nil || s.check() != nil || streamKey(s) != key {
		return StreamRef{}, false
	}
	return s, true
}

// maxDepth is far beyond any chain that retention makes; it bounds what a
// reader follows.
const maxDepth = 10_000

func (s StreamRef) check() error {
	if err := parseStored(s.ID); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if s.Base != "" {
		if err := parseStored(s.Base); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	}
	if err := checkWord("the dataset's guid", s.Origin); err != nil {
		return err
	}
	if err := checkWord("the snapshot's guid", s.GUID); err != nil {
		return err
	}
	if s.Number < 0 || s.Depth < 0 || s.Depth > maxDepth {
		return fmt.Errorf("number %d or depth %d is out of range", s.Number, s.Depth)
	}
	if (s.Base == "") != (s.Depth == 0) {
		return fmt.Errorf("a stream has depth 0 exactly if it is full; this has depth %d and base %q", s.Depth, s.Base)
	}
	return nil
}
