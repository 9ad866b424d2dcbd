package workload

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
)

// ErrNoGroup is wrapped by Find when there is no such group.
var ErrNoGroup = errors.New("no such group")

// Find returns the group called name. The error of one that has problems
// names them all; that of one that does not exist names the nearest.
func Find(groups []Group, problems []Problem, name string) (Group, error) {
	for _, g := range groups {
		if g.Name == name {
			return g, nil
		}
	}
	var why []error
	var do []string // each of them has to be done
	for _, p := range problems {
		if p.Group != name {
			continue
		}
		why = append(why, p.Err())
		if p.Do != "" && !slices.Contains(do, p.Do) {
			do = append(do, p.Do)
		}
	}
	if len(why) > 0 {
		return Group{}, advice.With(fmt.Errorf("group %s cannot be used: %w", name, errors.Join(why...)), "%s", strings.Join(do, "; "))
	}
	var known []string
	for _, g := range groups {
		known = append(known, g.Name)
	}
	for _, p := range problems {
		if p.Group != "" {
			known = append(known, p.Group)
		}
	}
	err := fmt.Errorf("%w: %q", ErrNoGroup, name)
	if len(known) == 0 {
		return Group{}, advice.With(fmt.Errorf("%w, and there are no groups yet", err),
			"label a container snapd.enable=true, or write a [group.%s] into the configuration", name)
	}
	if near := config.Nearest(name, known); near != "" {
		return Group{}, advice.With(err, "name %s, if that is meant; snapd status lists the groups", near)
	}
	return Group{}, advice.With(err, "name one of those that snapd status lists")
}
