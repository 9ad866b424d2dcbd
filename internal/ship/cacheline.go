package ship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"runtime"
	"sync"

	"snapd/internal/point"
)

// cacheLine is one of records.jsonl, as it is written.
type cacheLine struct {
	Key      string          `json:"key"`
	Digest   Digest          `json:"sha256"`
	Size     int64           `json:"size"`               // bytes of the object
	Document json.RawMessage `json:"document,omitempty"` // none: the object is gone
}

// cacheLineOf is one that is read, with what its key says that it holds.
type cacheLineOf[D any] struct {
	Key      string `json:"key"`
	Digest   Digest `json:"sha256"`
	Size     int64  `json:"size"`
	Document *D     `json:"document"`
}

// remembered is what one line means: one of point, event and stream, or none
// where the object is gone.
type remembered struct {
	key    string
	length int64 // of the line
	point  *PointRecord
	sealed bool // the line holds the encrypted part of the point too
	event  event
	stream *StreamRef
}

// parseLine understands one line. A large repository has ten thousands of them,
// so that each is decoded once, into what its key says, which stands first in
// every line that this program wrote.
func parseLine(text []byte) (remembered, error) {
	r := remembered{length: int64(len(text))}
	rest, ours := bytes.CutPrefix(text, []byte(`{"key":"`))
	switch {
	case !ours:
		return r, ErrDamaged
	case bytes.HasPrefix(rest, []byte(prefixPoints)):
		var line cacheLineOf[pointDoc]
		gone, err := parseAs(text, &line)
		if r.key = line.Key; err != nil || gone {
			return r, err
		}
		rec := line.Document.record(line.Digest, line.Size)
		r.point, r.sealed = &rec, line.Document.Sealed != ""
		return r, orDamaged(line.Document.check(), pointKey(rec.Number) == line.Key)
	case bytes.HasPrefix(rest, []byte(prefixLedger)):
		var line cacheLineOf[eventDoc]
		gone, err := parseAs(text, &line)
		if r.key = line.Key; err != nil || gone {
			return r, err
		}
		r.event = event{line.Document, line.Digest}
		return r, orDamaged(line.Document.check(), eventKey(line.Document.Number) == line.Key)
	}
	var line cacheLineOf[streamDoc]
	gone, err := parseAs(text, &line)
	if r.key = line.Key; err != nil || gone {
		return r, err
	}
	ref := line.Document.ref()
	ref.Digest, ref.Size = line.Digest, line.Size
	r.stream = &ref
	return r, orDamaged(ref.check(), ref.Key == line.Key)
}

// parseAs decodes a line. gone: it has no document.
func parseAs[D any](text []byte, line *cacheLineOf[D]) (gone bool, err error) {
	if err := json.Unmarshal(text, line); err != nil {
		return false, err
	}
	if gone = line.Document == nil; gone && bytes.Contains(text, []byte(`"document"`)) {
		return false, ErrDamaged
	}
	return gone, nil
}

func orDamaged(err error, fits bool) error {
	if err == nil && !fits {
		return ErrDamaged
	}
	return err
}

// batchSize is how many bytes of lines are parsed in one go.
const batchSize = 256 << 10

// batch is some lines of the file, and what they mean: all of them, or those up
// to the first that is not whole or makes no sense.
type batch struct {
	text  []byte
	lines chan []remembered // gives them once
	whole bool              // set before lines are given
}

// eachLine reads lines, parses them on all processors, and hands them out in
// their order, up to the first that is not whole or makes no sense.
func eachLine(in io.Reader, take func(remembered)) error {
	var parsing sync.WaitGroup
	defer parsing.Wait()
	r := bufio.NewReaderSize(in, batchSize)
	most := runtime.GOMAXPROCS(0) + 1
	var queue []*batch
	for {
		text, err := readLines(r)
		if len(text) > 0 {
			b := &batch{text: text, lines: make(chan []remembered, 1)}
			parsing.Go(b.parse)
			queue = append(queue, b)
		}
		for len(queue) > 0 && (err != nil || len(queue) == most) {
			for _, line := range <-queue[0].lines {
				take(line)
			}
			if !queue[0].whole {
				return nil
			}
			queue = queue[1:]
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// readLines reads about one batch, which ends with a whole line, or with the
// end of the file.
func readLines(r *bufio.Reader) ([]byte, error) {
	text := make([]byte, batchSize)
	n, err := io.ReadFull(r, text)
	text = text[:n]
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	if err != nil {
		return text, err
	}
	rest, err := r.ReadBytes('\n')
	return append(text, rest...), err
}

func (b *batch) parse() {
	var out []remembered
	defer func() { b.lines <- out }()
	for rest := b.text; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			return // torn
		}
		line, err := parseLine(rest[:end])
		if err != nil {
			return
		}
		out = append(out, line)
		rest = rest[end:]
	}
	b.whole = true
}

// take makes a line count, which stands at a place in the file.
func (c *Cache) take(r remembered, at int64) {
	switch {
	case r.point != nil:
		c.points[r.point.Number] = r.point
		c.secret[r.point.Number] = r.sealed
	case r.event.eventDoc != nil:
		c.events[r.event.Number] = r.event
	case r.stream != nil:
		c.streams[r.stream.ID] = *r.stream
	default:
		c.forgetLocked(r.key)
		c.gone[r.key] = true
		c.place(r.key, span{at, r.length})
		return
	}
	delete(c.gone, r.key)
	c.place(r.key, span{at, r.length})
}

// known copies what is remembered, for one View. The records themselves are
// shared, and not changed by any.
func (c *Cache) known() (points map[int64]*PointRecord, events map[int64]event, streams map[point.ID]StreamRef) {
	if c == nil {
		return map[int64]*PointRecord{}, map[int64]event{}, map[point.ID]StreamRef{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.points), maps.Clone(c.events), maps.Clone(c.streams)
}

// remember keeps a point, with its encrypted part only where it can be decrypted.
func (r *Repository) remember(c *Cache, doc *pointDoc, digest Digest, size int64) {
	short := *doc
	if !r.canUnseal() {
		short.Sealed = ""
	}
	c.add(pointKey(doc.Number), digest, size, &short)
}
