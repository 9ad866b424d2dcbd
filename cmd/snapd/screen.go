package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"snapd/internal/agent"
	"snapd/internal/show"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// screen shows on standard error what happens: a bar on a terminal for what
// lasts over a second, and warnings always.
type screen struct {
	mu       sync.Mutex
	w        io.Writer // the bar's, which moves the cursor; all else goes through a show.Writer
	now      func() time.Time
	terminal bool
	width    int // of the terminal, in characters; 0: it is none
	bar      *progressbar.ProgressBar
	name     string
	total    int64
	said     map[string]bool // warnings already shown
}

func newScreen(w io.Writer, now func() time.Time) *screen {
	f, ok := w.(*os.File)
	return &screen{w: w, now: now, width: terminalWidth(w), terminal: ok && term.IsTerminal(int(f.Fd())), said: map[string]bool{}}
}

func (s *screen) report(e agent.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case agent.Warning:
		s.warn(e)
	case agent.Progress:
		s.progress(e)
	case agent.Step: // the bar says enough
	}
}

func (s *screen) warn(e agent.Event) {
	text := e.Text
	if e.Group != "" {
		text = e.Group + ": " + text
	}
	if s.said[text] {
		return
	}
	s.said[text] = true
	s.clear()
	out := show.Writer(s.w)
	printLine(out, s.width, 2, "warning: "+joined(text))
	if do := whatToDoAbout(e); do != "" {
		printLine(out, s.width, 4, "  to do: "+joined(do))
	}
}

func (s *screen) progress(e agent.Event) {
	if !s.terminal {
		return
	}
	if s.name != e.Text || s.total != e.Total {
		s.end()
		s.name, s.total = e.Text, e.Total
	}
	if s.bar == nil {
		s.bar = s.newBar()
	}
	_ = s.bar.Set64(e.Bytes) // a bar that cannot be drawn stops nothing
}

func (s *screen) newBar() *progressbar.ProgressBar {
	total := s.total
	if total == 0 {
		total = -1 // a spinner with bytes and rate
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(&later{w: s.w, now: s.now, from: s.now().Add(time.Second)}), // so that rates are right from the first
		progressbar.OptionSetDescription(show.Text(s.name)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionShowCount(),
		progressbar.OptionSetSpinnerChangeInterval(0), // else it draws on after its end, between the lines of results
		progressbar.OptionClearOnFinish(),
		progressbar.OptionFullWidth(),
	)
}

func (s *screen) clear() {
	if s.bar != nil {
		_ = s.bar.Clear() // see progress
	}
}

func (s *screen) end() {
	s.clear()
	s.bar = nil
}

// finish takes the bar away, so that results stand on lines of their own.
func (s *screen) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end()
	s.name = ""
}

// later drops what is written before its time.
type later struct {
	w    io.Writer
	now  func() time.Time
	from time.Time
}

func (l *later) Write(p []byte) (int, error) {
	if l.now().Before(l.from) {
		return len(p), nil
	}
	return l.w.Write(p)
}

// results writes for the commands, on lines of their own: it takes the bar
// away first.
type results struct {
	screen *screen
	w      io.Writer
}

func (r results) Write(p []byte) (int, error) {
	r.screen.finish()
	return r.w.Write(p)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// window writes microseconds as people read them.
func window(us int64) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(us)/1000)
}
