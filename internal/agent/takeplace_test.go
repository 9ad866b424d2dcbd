package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"snapd/internal/fs"
	"snapd/internal/point"
)

// lastStep is a receiver that tells when it takes its place.
type lastStep struct {
	fs.Receiver
	finish func() error
}

func (l lastStep) Finish(context.Context) (fs.Dataset, error) { return fs.Dataset{}, l.finish() }

// TestARestoreTakesItsPlaceUndisturbed: the host is not shut down while what was
// there is moved aside. A host that cannot prevent a shutdown gets its restore
// all the same.
func TestARestoreTakesItsPlaceUndisturbed(t *testing.T) {
	failed := errors.New("the pool is gone")
	for name, c := range map[string]struct{ refused, finish error }{
		"well":           {},
		"failed":         {finish: failed},
		"without logind": {refused: errors.New("no logind")},
	} {
		t.Run(name, func(t *testing.T) {
			held, why := 0, ""
			a := &Agent{Options: Options{
				Report: func(Event) {},
				Inhibit: func(text string) (func() error, error) {
					if c.refused != nil {
						return nil, c.refused
					}
					held, why = held+1, text
					return func() error { held--; return nil }, nil
				},
			}}
			inside := -1
			_, err := a.finish(t.Context(), point.Dataset{Dataset: "tank/shop"}, lastStep{finish: func() error {
				inside = held
				return c.finish
			}})
			if !errors.Is(err, c.finish) || held != 0 {
				t.Errorf("%v, and %d locks are held after it", err, held)
			}
			if want := 1; c.refused == nil && (inside != want || !strings.Contains(why, "tank/shop")) || c.refused != nil && inside != 0 {
				t.Errorf("%d locks were held (%q)", inside, why)
			}
		})
	}
}
