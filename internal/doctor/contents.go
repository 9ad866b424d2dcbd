package doctor

import (
	"fmt"
	"strings"

	"snapd/internal/agent"
)

// contents are the checks of what lies in a repository.
func contents(name string, f agent.Examined) []Check {
	checks := []Check{damage(name, f), explained(name, f)}
	if f.Encrypted {
		checks = append(checks, recipients(f))
	}
	if f.Room.Known() {
		checks = append(checks, space(f.Room))
	}
	if len(f.Future) > 0 {
		checks = append(checks, Check{
			Check: "  clock", Level: Warn, Why: fmt.Sprintf("%s in the future (%s): a clock was wrong when they were taken", points(f.Future), some(f.Future)),
			Do: "set the clock of the host that took them; snapd drop " + f.Future[0] + " removes a point",
		})
	}
	return checks
}

func damage(name string, f agent.Examined) Check {
	const check = "  damage"
	switch {
	case len(f.Damaged)+len(f.Lost) > 0:
		var parts []string
		if len(f.Damaged) > 0 {
			parts = append(parts, fmt.Sprintf("%s damaged (%s)", points(f.Damaged), some(f.Damaged)))
		}
		if len(f.Lost) > 0 {
			parts = append(parts, fmt.Sprintf("%s gone without a signed record of removal (%s)", points(f.Lost), some(f.Lost)))
		}
		return Check{Check: check, Why: strings.Join(parts, "; "), Do: "run: snapd repair " + name + ", which ships anew what has its snapshot here"}
	case f.Spoiled > 0:
		return Check{Check: check, OK: true, Why: plural(f.Spoiled, "stream is damaged, and another one takes its place", "streams are damaged, and others take their place")}
	}
	return well(check, "none is known: snapd verify reads everything")
}

// explained tells what keeps everything there from being removed.
func explained(name string, f agent.Examined) Check {
	const check = "  records"
	if len(f.Problems) == 0 {
		return well(check, "everything there is explained by a signed record")
	}
	why := f.Problems[0]
	if n := len(f.Problems) - 1; n > 0 {
		why += fmt.Sprintf(" (and %d more)", n)
	}
	return Check{Check: check, Why: why + "; nothing is removed there while that is so", Do: "run: snapd repair " + name + ", which says of each what can be done"}
}

// recipients compares those of every living chain with the configured ones.
func recipients(f agent.Examined) Check {
	const check = "  recipients"
	switch {
	case len(f.Mixed) > 0:
		return Check{
			Check: check, Why: fmt.Sprintf("%s opened by no single set of recipients (%s): a stream was encrypted for others than what it builds on", points(f.Mixed), some(f.Mixed)),
			Do: "keep the identities of all of them; the next ship begins with full streams for the recipients of now",
		}
	case len(f.Other) > 0:
		return Check{
			Check: check, Level: Warn, Why: fmt.Sprintf("%s encrypted for others than the recipients of now (%s)", points(f.Other), some(f.Other)),
			Do: "keep the identity that opens them until they are gone; the next ship begins with full streams for the recipients of now",
		}
	}
	return well(check, "those of now open all restore points, as far as the points tell")
}

func space(room agent.Room) Check {
	const check = "  space"
	c := Check{Check: check, Why: room.String(), Do: "make room there, or drop points: snapd prune says what goes"}
	switch {
	case room.None():
	case room.Little():
		c.Level = Warn
	default:
		return well(check, "%s", room)
	}
	return c
}

func points(ids []string) string {
	return plural(len(ids), "restore point is", "restore points are")
}

// someIDs is how many ids a check names.
const someIDs = 3

func some(ids []string) string {
	var words []string
	for i, id := range ids {
		if i == someIDs {
			words = append(words, fmt.Sprintf("and %d more", len(ids)-i))
			break
		}
		words = append(words, id)
	}
	return strings.Join(words, ", ")
}
