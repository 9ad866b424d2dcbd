package advice

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestParts(t *testing.T) {
	a, b := With(errors.New("a"), "do a"), With(errors.New("b"), "do b")
	both := errors.Join(a, nil, errors.Join(b))
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"one":              {a, []string{"a: do a"}},
		"joined":           {both, []string{"a: do a", "b: do b"}},
		"with a class":     {In(Partial, both), []string{"a: do a", "b: do b"}},
		"advised as whole": {With(both, "do all"), []string{"a\nb: do all"}},
		"said of both":     {fmt.Errorf("group x: %w", both), []string{"group x: a\nb: do a"}},
		"wraps two":        {fmt.Errorf("%w: %w", a, b), []string{"a: b: do a"}},
	} {
		var got []string
		for _, p := range Parts(c.err) {
			got = append(got, p.Error()+": "+Of(p))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
