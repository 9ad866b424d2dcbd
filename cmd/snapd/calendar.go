package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	programs "snapd/internal/run"
)

// elapsePatience bounds one question to systemd-analyze.
const elapsePatience = 5 * time.Second

// nextElapses says when a calendar expression (systemd.time(7)) elapses the next n
// times after a moment, by systemd's own arithmetic. Fewer are given when it elapses less often.
func nextElapses(ctx context.Context, calendar string, after time.Time, n int) ([]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, elapsePatience)
	defer cancel()
	base := after.UTC().Format("2006-01-02 15:04:05 UTC")
	out, err := programs.Output(ctx, "systemd-analyze", "calendar", "--iterations="+strconv.Itoa(n), "--base-time="+base, "--", calendar)
	if err != nil {
		return nil, fmt.Errorf("ask systemd-analyze when %q elapses: %w", calendar, err)
	}
	return elapses(string(out)), nil
}

// elapses reads what systemd-analyze prints: each time once in local time, and,
// where that is another zone, once more in UTC.
func elapses(text string) (all []time.Time) {
	for line := range strings.Lines(text) {
		label, value, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		label = strings.TrimSpace(label)
		// "Thu 2026-11-26 13:00:00 CET": the zone's name says too little.
		fields := strings.Fields(value)
		if len(fields) != 4 {
			continue
		}
		utc := label == "(in UTC)"
		if !utc && label != "Next elapse" && !strings.HasPrefix(label, "Iter") {
			continue
		}
		zone := time.Local
		if utc || fields[3] == "UTC" {
			zone = time.UTC
		}
		at, err := time.ParseInLocation("2006-01-02 15:04:05", fields[1]+" "+fields[2], zone)
		switch {
		case err != nil:
		case utc && len(all) > 0:
			all[len(all)-1] = at.UTC()
		case !utc:
			all = append(all, at.UTC())
		}
	}
	return all
}
