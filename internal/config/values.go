package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"snapd/internal/advice"
)

// Duration is a time.Duration written as 90s, 5m, 24h, 7d or 2w.
type Duration time.Duration

// UnmarshalText reads a positive duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// ParseDuration reads what Go's durations are, and also days (d) and weeks (w).
func ParseDuration(s string) (time.Duration, error) {
	bad := advice.With(fmt.Errorf("%q is not a duration", s), `write a number and a unit, such as "500ms", "5s", "24h", "7d" or "2w"`)
	hours := map[byte]int{'d': 24, 'w': 7 * 24}
	var parsed time.Duration
	if s == "" {
		return 0, bad
	}
	if h, long := hours[s[len(s)-1]]; long {
		n, err := strconv.ParseUint(s[:len(s)-1], 10, 16)
		if err != nil {
			return 0, bad
		}
		parsed = time.Duration(n) * time.Duration(h) * time.Hour
	} else {
		var err error
		if parsed, err = time.ParseDuration(s); err != nil {
			return 0, bad
		}
	}
	if parsed <= 0 {
		return 0, advice.With(fmt.Errorf("%q is not a positive duration", s), "write one above 0")
	}
	return parsed, nil
}

// Span is a Duration that may also be "never", which is below 0.
type Span time.Duration

// Never is longer than any duration.
const Never Span = -1

// UnmarshalText reads a positive duration, or "never".
func (s *Span) UnmarshalText(text []byte) error {
	if string(text) == "never" {
		*s = Never
		return nil
	}
	parsed, err := ParseDuration(string(text))
	if err != nil {
		return err
	}
	*s = Span(parsed)
	return nil
}

func (s Span) String() string {
	if s == Never {
		return "never"
	}
	return time.Duration(s).String()
}

// Freeze says how members are frozen.
type Freeze string

// The ways to freeze.
const (
	FreezeAuto  Freeze = "auto"   // as little as the datasets need
	FreezeNone  Freeze = "none"   // nothing, even if the point is then separate
	FreezeGroup Freeze = "freeze" // the members' cgroups
	FreezePause Freeze = "pause"  // through the engine
	FreezeStop  Freeze = "stop"   // shut down and started again
)

// UnmarshalText accepts one of the names above.
func (f *Freeze) UnmarshalText(text []byte) error {
	return oneOf(f, text, FreezeAuto, FreezeNone, FreezeGroup, FreezePause, FreezeStop)
}

// OnOverrun says what becomes of a point whose window lasted too long.
type OnOverrun string

// What can become of it.
const (
	OverrunFail  OnOverrun = "fail"  // discarded
	OverrunCrash OnOverrun = "crash" // kept as crash-consistent, in one domain only
)

// UnmarshalText accepts one of the names above.
func (o *OnOverrun) UnmarshalText(text []byte) error {
	return oneOf(o, text, OverrunFail, OverrunCrash)
}

// Encryption of a repository.
type Encryption string

// The kinds of encryption.
const (
	EncryptionAge  Encryption = "age"
	EncryptionNone Encryption = "none"
)

// UnmarshalText accepts one of the names above.
func (e *Encryption) UnmarshalText(text []byte) error {
	return oneOf(e, text, EncryptionAge, EncryptionNone)
}

func oneOf[T ~string](into *T, text []byte, allowed ...T) error {
	names := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if string(a) == string(text) {
			*into = a
			return nil
		}
		names = append(names, string(a))
	}
	return meant(fmt.Errorf("%q is not one of %s", text, strings.Join(names, ", ")), string(text), names)
}

// Keep is a retention policy: for how many hours, days, … one point is kept.
type Keep struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// UnmarshalText reads "24 hourly, 7 daily, 4 weekly, 12 monthly".
func (k *Keep) UnmarshalText(text []byte) error {
	var out Keep
	slots := map[string]*int{
		"last": &out.Last, "hourly": &out.Hourly, "daily": &out.Daily,
		"weekly": &out.Weekly, "monthly": &out.Monthly, "yearly": &out.Yearly,
	}
	names := []string{"last", "hourly", "daily", "weekly", "monthly", "yearly"}
	const example = `write it like "24 hourly, 7 daily, 4 weekly, 12 monthly"`
	for part := range strings.SplitSeq(string(text), ",") {
		fields := strings.Fields(part)
		if len(fields) != 2 {
			return advice.With(fmt.Errorf("%q is not a retention rule", strings.TrimSpace(part)), example)
		}
		slot, known := slots[fields[1]]
		if !known {
			return meant(fmt.Errorf("%q is not one of %s", fields[1], strings.Join(names, ", ")), fields[1], names)
		}
		n, err := strconv.ParseUint(fields[0], 10, 16)
		if err != nil || n == 0 {
			return advice.With(fmt.Errorf("%q is not a number of points above 0", fields[0]), example)
		}
		if *slot != 0 {
			return advice.With(fmt.Errorf("%q stands twice in the retention rule", fields[1]), "leave one of them")
		}
		*slot = int(n)
	}
	*k = out
	return nil
}

var groupName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,62}$`)

// CheckGroupName tells whether a name may be a group's.
func CheckGroupName(name string) error {
	if !groupName.MatchString(name) {
		return advice.With(fmt.Errorf("%q cannot be a group's name", name), "use 1 to 63 of a-z, 0-9, dot, dash and underscore, starting with a letter or digit")
	}
	return nil
}
