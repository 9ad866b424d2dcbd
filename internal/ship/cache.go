package ship

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"snapd/internal/durable"
	"snapd/internal/point"
)

// Cache keeps what a host has verified of one repository, and the newest
// numbers that it has seen there. It may be lost: then more is read. Its
// methods may be called on nil, which remembers nothing, and from several
// goroutines at once. Several processes may use one folder; one does not see
// what another adds before it opens the folder again.
type Cache struct {
	dir string

	mu      sync.Mutex
	file    *os.File // records.jsonl, for appending
	points  map[int64]*PointRecord
	secret  map[int64]bool // the line of the point holds its encrypted part too
	events  map[int64]event
	streams map[point.ID]StreamRef // of manifests that were read
	gone    map[string]bool        // keys that an event removed by record and that were deleted
	lines   map[string]span        // where the living lines are
	dead    int                    // lines that stand for nothing any more
	pending []pendingLine          // not yet written
	seen    Seen
}

// span is a line of the file, in bytes.
type span struct{ at, length int64 }

type pendingLine struct {
	name string
	text []byte
}

// Seen is what a host remembers of a repository beside its records.
type Seen struct {
	Format int      `json:"format"`
	Point  *Link    `json:"point"`  // the newest point that was verified, null if none
	Event  *Link    `json:"event"`  // the newest event that was verified, null if none
	Put    int64    `json:"put"`    // number of the newest point that this host itself put or adopted
	Damage []Damage `json:"damage"` // found here, and not yet noted in the ledger
	// Suspect are keys of points and events that were read once, and later were
	// found damaged or gone: every look asks for them, until they verify.
	Suspect []string `json:"suspect,omitempty"`
	// Listed is the newest time of an object, by the store's clock, when all were
	// listed last. What is known and was changed later is read again.
	Listed time.Time `json:"listed,omitzero"`
}

const (
	cacheRecords = "records.jsonl"
	cacheSeen    = "seen.json"
	cacheLock    = "lock"

	// compactFrom is how many lines a file has before it is worth compacting,
	// when a third of them stands for nothing any more.
	compactFrom = 256
)

// OpenCache opens the folder of one repository, and makes it if need be,
// readable by its owner only.
func OpenCache(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the cache of a repository: %w", err)
	}
	c := &Cache{
		dir: dir, points: map[int64]*PointRecord{}, secret: map[int64]bool{}, events: map[int64]event{}, streams: map[point.ID]StreamRef{},
		gone: map[string]bool{}, lines: map[string]span{},
	}
	err := c.locked(func() error {
		c.seen = c.readSeen()
		if err := c.load(); err != nil {
			return err
		}
		if len(c.lines)+c.dead >= compactFrom && c.dead >= len(c.lines)/2 {
			return c.compact()
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the cache of a repository: %w", err), c.Close())
	}
	return c, nil
}

// Close ends the use of the cache.
func (c *Cache) Close() error {
	if c == nil || c.file == nil {
		return nil
	}
	return errors.Join(c.flush(), c.file.Close())
}

// locked does something while no other process changes the folder.
func (c *Cache) locked(do func() error) error {
	lock, err := os.OpenFile(filepath.Join(c.dir, cacheLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	if err == nil {
		err = do()
	}
	return errors.Join(err, lock.Close())
}

// load reads the file up to the first line that is not whole or makes no
// sense, and cuts it off there.
func (c *Cache) load() error {
	f, err := os.OpenFile(filepath.Join(c.dir, cacheRecords), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	c.file = f
	at := int64(0)
	err = eachLine(f, func(r remembered) {
		c.take(r, at)
		at += r.length
	})
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err != nil || info.Size() == at {
		return err
	}
	return f.Truncate(at)
}

func (c *Cache) place(name string, where span) {
	if _, there := c.lines[name]; there {
		c.dead++
	}
	c.lines[name] = where
}

func (c *Cache) forgetLocked(key string) {
	if n, ok := parseNumbered(prefixPoints, key); ok {
		delete(c.points, n)
		delete(c.secret, n)
	}
	if s, ok := parseStreamKey(key); ok {
		delete(c.streams, s.ID)
	}
}

// compact writes the living lines aside and puts them in place of the file.
func (c *Cache) compact() error {
	aside, err := durable.Begin(c.dir)
	if err != nil {
		return err
	}
	defer aside.Close() //nolint:errcheck // removes it, unless it was put in place
	lines := make(map[string]span, len(c.lines))
	at := int64(0)
	out := bufio.NewWriter(aside)
	for name, s := range c.lines {
		if _, err := io.Copy(out, io.NewSectionReader(c.file, s.at, s.length)); err != nil {
			return err
		}
		lines[name] = span{at, s.length}
		at += s.length
	}
	name := filepath.Join(c.dir, cacheRecords)
	if err := errors.Join(out.Flush(), aside.Replace(name), c.file.Close()); err != nil {
		return err
	}
	c.lines, c.dead = lines, 0
	c.file, err = os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0o600)
	return err
}

// add remembers a verified object. What cannot be written is read again the
// next time.
func (c *Cache) add(key string, digest Digest, size int64, doc any) {
	if c == nil {
		return
	}
	text, err := json.Marshal(doc)
	if err == nil {
		c.queue(cacheLine{Key: key, Digest: digest, Size: size, Document: text})
	}
}

// letGo remembers that an object is gone for good.
func (c *Cache) letGo(key string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	known := c.gone[key]
	c.gone[key] = true
	c.forgetLocked(key)
	c.mu.Unlock()
	if !known {
		c.queue(cacheLine{Key: key})
	}
}

func (c *Cache) queue(line cacheLine) {
	text, err := json.Marshal(line)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, pendingLine{line.Key, append(text, '\n')})
}

func (c *Cache) isGone(key string) bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone[key]
}

// flush writes what was added, all in one.
func (c *Cache) flush() error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		return nil
	}
	pending := c.pending
	c.pending = nil
	return c.locked(func() error {
		at, err := c.file.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		var all bytes.Buffer
		for _, p := range pending {
			all.Write(p.text)
		}
		if _, err := c.file.Write(all.Bytes()); err != nil {
			// Half a line is cut off when the file is opened again.
			return fmt.Errorf("write the cache: %w", err)
		}
		for _, p := range pending {
			r, err := parseLine(p.text)
			if err != nil {
				return fmt.Errorf("write the cache: %w", err)
			}
			c.take(r, at)
			at += r.length
		}
		return nil
	})
}

// sealed is the encrypted part of a cached point, base64.
func (c *Cache) sealed(number int64) (string, bool) {
	if c == nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	where, ok := c.lines[pointKey(number)]
	if !ok || !c.secret[number] {
		return "", false
	}
	text := make([]byte, where.length)
	if _, err := c.file.ReadAt(text, where.at); err != nil {
		return "", false
	}
	var line cacheLine
	var doc pointDoc
	if json.Unmarshal(text, &line) != nil || json.Unmarshal(line.Document, &doc) != nil || doc.Number != number {
		return "", false
	}
	return doc.Sealed, true
}

// stripped is a manifest without what only a reader of the stream needs.
func (d *streamDoc) stripped() *streamDoc {
	short := *d
	short.Parts, short.Rows = []partRef{}, []Row{}
	return &short
}
