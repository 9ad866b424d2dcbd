package config

import (
	"fmt"
	"regexp"
	"strings"

	"snapd/internal/advice"
)

// Schedule is a systemd calendar expression, see systemd.time(7).
type Schedule string

// UnmarshalText checks the form, so that nothing but a calendar expression
// can reach a unit. systemd has the last word on what it means.
func (s *Schedule) UnmarshalText(text []byte) error {
	if err := CheckSchedule(string(text)); err != nil {
		return err
	}
	*s = Schedule(text)
	return nil
}

var (
	shorthand = regexp.MustCompile(`^(minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually)$`)
	weekday   = regexp.MustCompile(`(?i)^(mon|tue|wed|thu|fri|sat|sun)[a-z]*((,|\.\.)(mon|tue|wed|thu|fri|sat|sun)[a-z]*)*,?$`)
	date      = regexp.MustCompile(`^[0-9*,./]+-[0-9*,./]+([-~][0-9*,./]+)?$`)
	clock     = regexp.MustCompile(`^[0-9*,./]+:[0-9*,./]+(:[0-9*,./]+)?$`)
	zone      = regexp.MustCompile(`^(UTC|[A-Z][A-Za-z_]+(/[A-Z][A-Za-z_+-]+){1,2})$`)
)

// CheckSchedule accepts a shorthand such as hourly, or weekdays, date, time
// and time zone in that order, each at most once and one of date, time or
// weekdays at least.
func CheckSchedule(s string) error {
	if shorthand.MatchString(s) {
		return nil
	}
	fields := strings.Fields(s)
	found := 0
	for _, part := range []*regexp.Regexp{weekday, date, clock, zone} {
		if len(fields) == 0 || !part.MatchString(fields[0]) {
			continue
		}
		fields = fields[1:]
		if part != zone {
			found++
		}
	}
	if len(fields) > 0 || found == 0 {
		return advice.With(fmt.Errorf("%q is not a systemd calendar expression", s),
			`write "hourly", "daily", "*-*-* 03:30" or "Mon..Fri 22:00"; systemd.time(7) describes them`)
	}
	return nil
}
