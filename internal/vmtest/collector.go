package vmtest

import (
	"bytes"
	"sync"
)

// collector keeps what is written to it, and may be read meanwhile: a command
// that was given up may still write.
type collector struct {
	limit int // bytes, the first are kept; 0 for all

	mu   sync.Mutex
	text bytes.Buffer
}

func (c *collector) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := p
	if c.limit > 0 {
		keep = p[:min(max(0, c.limit-c.text.Len()), len(p))]
	}
	c.text.Write(keep)
	return len(p), nil
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
