package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"snapd/internal/agent"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// screen shows on standard error what happens: a bar on a terminal for what
// lasts over a second, and warnings always.
type screen struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	name     string
	total    int64
	begun    time.Time
	said     map[string]bool // warnings already shown
}

func newScreen(w io.Writer) *screen {
	f, ok := w.(*os.File)
	return &screen{w: w, terminal: ok && term.IsTerminal(int(f.Fd())), said: map[string]bool{}}
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
	fmt.Fprintf(s.w, "warning: %s\n", text)
}

func (s *screen) progress(e agent.Event) {
	if !s.terminal {
		return
	}
	if s.name != e.Text || s.total != e.Total {
		s.end()
		s.name, s.total, s.begun = e.Text, e.Total, time.Now()
	}
	if s.bar == nil {
		if time.Since(s.begun) < time.Second {
			return
		}
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
		progressbar.OptionSetWriter(s.w),
		progressbar.OptionSetDescription(s.name),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetElapsedTime(true),
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

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// window writes microseconds as people read them.
func window(us int64) string {
	if us == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", float64(us)/1000)
}
