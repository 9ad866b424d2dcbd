package hold

import (
	"bytes"
	"strings"
	"sync"
)

const (
	mostLine   = 4 << 10 // bytes of one line
	mostOutput = 4 << 10 // bytes of output that are kept
)

// lines hands on whole lines of what is written to it, as long as a reader
// takes them: it never blocks.
type lines struct {
	mu   sync.Mutex
	open []byte
	out  chan string
}

func newLines() *lines { return &lines{out: make(chan string, 16)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range p {
		if b != '\n' {
			if len(l.open) < mostLine {
				l.open = append(l.open, b)
			}
			continue
		}
		line := clean(bytes.TrimSuffix(l.open, []byte("\r")))
		l.open = l.open[:0]
		select {
		case l.out <- line:
		default:
		}
	}
	return len(p), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - mostOutput; over > 0 {
		t.text, t.cut = append(t.text[:0], t.text[over:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := clean(t.text)
	if t.cut {
		return "…" + s
	}
	return s
}

func clean(text []byte) string { return strings.ToValidUTF8(string(text), "�") }
