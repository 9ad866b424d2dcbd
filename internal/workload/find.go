package workload

import (
	"errors"
	"fmt"

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
	var why error
	for _, p := range problems {
		if p.Group == name {
			why = errors.Join(why, errors.New(p.String()))
		}
	}
	if why != nil {
		return Group{}, fmt.Errorf("group %s cannot be used: %w", name, why)
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
	hint := `"snapd status" lists the groups`
	if len(known) == 0 {
		hint = "there are no groups yet: label a container snapd.enable=true, or write a [group." + name + "] into the configuration"
	}
	if near := config.Nearest(name, known); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return Group{}, fmt.Errorf("%w: %q; %s", ErrNoGroup, name, hint)
}
