package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"snapd/internal/agent"
	"snapd/internal/point"
)

// summarize writes one line for each restore point of a run and for each
// dataset that was shipped, with fields to look for.
func (s *Server) summarize(done agent.Done) {
	for _, p := range done.Points {
		var names []string
		for _, d := range p.Datasets {
			names = append(names, d.Dataset)
		}
		s.Log.Info(fmt.Sprintf("%s: restore point %s, %s, window %.1f ms, of %s", p.Group, p.ID, p.Consistency, float64(p.WindowUS)/1000, strings.Join(names, ", ")),
			"group", p.Group, "point", string(p.ID), "dataset", strings.Join(names, "\n"), "window_us", p.WindowUS)
		for _, sh := range p.Shipped {
			kind := "increment"
			if sh.Base == nil {
				kind = "full"
			}
			s.Log.Info(fmt.Sprintf("%s: %s of restore point %s lies in %s: %s, %d bytes of stream, %d stored, segments: %d", p.Group, sh.Dataset, p.ID, sh.Repository, kind, sh.SentBytes, sh.StoredBytes, sh.Segments),
				"group", p.Group, "point", string(p.ID), "dataset", sh.Dataset, "repository", sh.Repository, "bytes", sh.StoredBytes)
		}
	}
}

// summary is the one line about a call.
func (s *Server) summary(ctx context.Context, c *call, result any, f *fault) {
	took := time.Since(c.began)
	attrs := []slog.Attr{
		slog.String("call", c.what), slog.Int("uid", c.who.UID), slog.Int64("duration_ms", took.Milliseconds()),
	}
	text := c.what + ":"
	if done, ok := result.(agent.Done); ok {
		bytes := stored(done.Points)
		text += fmt.Sprintf(" restore points: %d, bytes in repositories: %d, dropped: %d", len(done.Points), bytes, len(done.Pruned.Drop))
		attrs = append(attrs, slog.Int64("bytes", bytes), slog.Int("points", len(done.Points)), slog.String("group", groupsOf(done.Points)))
	}
	text += ", in " + seconds(took)
	level := slog.LevelInfo
	if f != nil {
		level = slog.LevelError
		// Another command may ship this dataset already: the hourly unit finds that
		// while a first copy takes days. An administrator need not be alarmed by it.
		if errors.Is(ctx.Err(), context.Canceled) || slices.Contains(f.Kinds, "busy") {
			level = slog.LevelWarn
		}
		text = withDo(fmt.Sprintf("%s; error: %s", text, strings.ReplaceAll(f.Why, "\n", "; ")), f.Do)
		attrs = append(attrs, slog.String("error", f.Why))
	}
	s.Log.LogAttrs(ctx, level, strings.Replace(text, ":, ", ": ", 1), attrs...)
}

// withDo adds to a line of the journal what its reader should do.
func withDo(text, do string) string {
	if do == "" {
		return text
	}
	return text + "; what to do: " + do
}

func stored(points []point.Point) (bytes int64) {
	for _, p := range points {
		for _, sh := range p.Shipped {
			bytes += sh.StoredBytes
		}
	}
	return bytes
}

func groupsOf(points []point.Point) string {
	var names []string
	seen := map[string]bool{}
	for _, p := range points {
		if !seen[p.Group] {
			seen[p.Group] = true
			names = append(names, p.Group)
		}
	}
	return strings.Join(names, "\n")
}
