package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/quote"
	"snapd/internal/ship"
)

// Several errors of a call arrive each with its own advice and its own kinds; a member
// sees of none what a user's program was called with.
func TestSeveralErrorsOfACall(t *testing.T) {
	secret := quote.Said("password=x")
	one := advice.With(fmt.Errorf("hook of a%s", secret), "look at it")
	two := fmt.Errorf("ship group b: %w", ship.ErrUnavailable)
	sent := faultOf(t.Context(), advice.In(advice.Partial, errors.Join(one, two)))
	got := sent.err()
	parts := advice.Parts(got)
	if !errors.Is(got, advice.Partial) || advice.Of(got) != "look at it" || len(parts) != 2 {
		t.Fatalf("%v, %d parts", got, len(parts))
	}
	if advice.Of(parts[0]) != "look at it" || advice.Of(parts[1]) != "" || errors.Is(parts[0], ship.ErrUnavailable) || !errors.Is(parts[1], ship.ErrUnavailable) {
		t.Errorf("%q, %q", parts[0], parts[1])
	}
	if texts := []string{parts[0].Error(), parts[1].Error()}; !slices.Equal(texts, []string{one.Error(), two.Error()}) {
		t.Errorf("%q", texts)
	}
	for _, p := range advice.Parts(publicFault(sent, Caller{Member: true}).err()) {
		if strings.Contains(p.Error(), "password") {
			t.Errorf("a member sees %q", p)
		}
	}
}
