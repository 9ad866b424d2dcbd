package ship

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"snapd/internal/point"
)

// eventDoc is a signed, numbered record of the ledger: what became of points
// and streams after they were put.
type eventDoc struct {
	header
	Number   int64     `json:"number"`
	Previous *Link     `json:"previous"` // the event before, null for the first
	Points   *Link     `json:"points"`   // the newest point that was known, null if none
	Time     time.Time `json:"time"`
	Host     string    `json:"host"`
	eventBody
}

// eventBody is what an event says: one or more of these.
type eventBody struct {
	Drop    []dropped    `json:"drop,omitempty"`    // points that were removed, with what they were made of
	Absent  []int64      `json:"absent,omitempty"`  // numbers that are gone for good, each asked for by name
	Remove  []point.ID   `json:"remove,omitempty"`  // streams that nothing needs any more: they are deleted from now on
	Abandon []point.ID   `json:"abandon,omitempty"` // streams whose upload was given up: their data may go
	Pin     []point.ID   `json:"pin,omitempty"`     // points that retention keeps
	Unpin   []point.ID   `json:"unpin,omitempty"`   // points that it need not keep any more
	Damage  []noted      `json:"damage,omitempty"`  // what was found damaged or missing
	Whole   []point.ID   `json:"whole,omitempty"`   // streams that were found whole again
	Adopt   *adoptedHost `json:"adopt,omitempty"`   // which host goes on

	LostEvents []int64 `json:"lost_events,omitempty"` // numbers of earlier events that cannot be read any more
}

// dropped is a point that was removed: retention, a person, or a record of the
// same point with a higher number said so.
type dropped struct {
	Number  int64           `json:"number"`
	Point   point.ID        `json:"point"`
	Digest  Digest          `json:"sha256"` // of the point's object
	Streams []droppedStream `json:"streams"`
}

// droppedStream keeps a chain known when the point that named it is gone.
type droppedStream struct {
	Stream   point.ID  `json:"stream"`
	Origin   string    `json:"origin"`
	GUID     string    `json:"guid"`
	Base     *point.ID `json:"base"`
	BaseGUID *string   `json:"base_guid"` // null with a base: format 1, and the manifest could not be read
	Number   int       `json:"number"`
	Depth    int       `json:"depth"`
	Segments int       `json:"segments"`
	Digest   Digest    `json:"sha256"` // of the manifest's object
}

type noted struct {
	Stream  point.ID `json:"stream"`
	Object  string   `json:"object"` // key
	Problem string   `json:"problem"`
}

type adoptedHost struct {
	Host string `json:"host"`
}

func (b *eventBody) empty() bool {
	return len(b.Drop)+len(b.Absent)+len(b.Remove)+len(b.Abandon)+len(b.Pin)+len(b.Unpin)+len(b.Damage)+len(b.Whole)+len(b.LostEvents) == 0 && b.Adopt == nil
}

// prunes tells whether the event says of numbers that they are gone. The host that
// puts one has accounted for every number up to that of its newest point.
func (b *eventBody) prunes() bool { return len(b.Drop)+len(b.Absent) > 0 }

// maxProblem bounds what one event says of a damaged object.
const maxProblem = 512

func (d *eventDoc) check() error {
	if d.Format < formatVersion {
		return errors.New("format 1 has no events")
	}
	if d.Number < 1 || d.Number > maxNumber {
		return errors.New("it has no number")
	}
	if d.Previous != nil && (d.Previous.Number < 1 || d.Previous.Number >= d.Number || d.Previous.Digest.IsZero()) {
		return errors.New("its number does not follow that of the event before")
	}
	if d.Points != nil && (d.Points.Number < 1 || d.Points.Number > maxNumber || d.Points.Digest.IsZero()) {
		return errors.New("it names no point that can be")
	}
	if err := checkWord("host", d.Host); err != nil {
		return err
	}
	if d.empty() {
		return errors.New("it says nothing")
	}
	for _, n := range d.LostEvents {
		if n < 1 || n >= d.Number {
			return fmt.Errorf("lost: %d is no number of an earlier event", n)
		}
	}
	return d.checkBody()
}

func (b *eventBody) checkBody() error {
	for _, ids := range [][]point.ID{b.Remove, b.Abandon, b.Pin, b.Unpin, b.Whole} {
		for _, id := range ids {
			if err := parseStored(id); err != nil {
				return err
			}
		}
	}
	for _, n := range b.Absent {
		if n < 1 || n > maxNumber {
			return fmt.Errorf("absent: %d is no number of a point", n)
		}
	}
	for _, p := range b.Drop {
		if err := p.check(); err != nil {
			return fmt.Errorf("drop of point %d: %w", p.Number, err)
		}
	}
	for _, n := range b.Damage {
		if err := parseStored(n.Stream); err != nil {
			return err
		}
		if CheckKey(n.Object) != nil || n.Problem == "" || len(n.Problem) > maxProblem {
			return fmt.Errorf("damage of stream %s: no object, or no problem that can be told", n.Stream)
		}
	}
	if b.Adopt != nil {
		return checkWord("host", b.Adopt.Host)
	}
	return nil
}

func (p dropped) check() error {
	if p.Number < 1 || p.Number > maxNumber || p.Digest.IsZero() {
		return errors.New("number or digest is missing")
	}
	if err := parseStored(p.Point); err != nil {
		return err
	}
	if len(p.Streams) == 0 {
		return errors.New("it says of no stream")
	}
	for _, s := range p.Streams {
		ref := s.ref()
		if ref.Base != "" && ref.BaseGUID == "" {
			ref.Depth = 1
		}
		if err := ref.check(); err != nil {
			return fmt.Errorf("stream %s: %w", s.Stream, err)
		}
		if s.Base == nil && s.BaseGUID != nil || s.Segments < 1 || s.Digest.IsZero() {
			return fmt.Errorf("stream %s: base, segments or digest do not fit", s.Stream)
		}
	}
	return nil
}

func (s droppedStream) ref() StreamRef {
	ref := StreamRef{
		ID: s.Stream, Base: deref(s.Base), Origin: s.Origin, GUID: s.GUID, BaseGUID: deref(s.BaseGUID),
		Number: s.Number, Depth: s.Depth, Segments: s.Segments, Digest: s.Digest,
	}
	if ref.Base == "" || ref.BaseGUID != "" {
		ref.Key = streamKey(ref)
	}
	return ref
}

func (s StreamRef) asDropped() droppedStream {
	return droppedStream{
		Stream: s.ID, Origin: s.Origin, GUID: s.GUID, Base: optional(s.Base), BaseGUID: optional(s.BaseGUID),
		Number: s.Number, Depth: s.Depth, Segments: s.Segments, Digest: s.Digest,
	}
}

// maxNumber is the highest that ten digits can name.
const maxNumber = 9_999_999_999

func eventKey(number int64) string { return fmt.Sprintf("%s%010d", prefixLedger, number) }

// parseNumbered reads the keys of points and events.
func parseNumbered(prefix, key string) (int64, bool) {
	digits, ok := strings.CutPrefix(key, prefix)
	if !ok || len(digits) != 10 {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, err == nil && n >= 1 && fmt.Sprintf("%s%010d", prefix, n) == key
}

// event is one that was read and verified.
type event struct {
	*eventDoc
	digest Digest
}

func (e event) link() *Link { return &Link{Number: e.Number, Digest: e.digest} }

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

func sortedIDs(set map[point.ID]bool) []point.ID {
	out := make([]point.ID, 0, len(set))
	for id, in := range set {
		if in {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
