package agent

import (
	"errors"
	"fmt"
	"testing"

	"snapd/internal/fs"
)

// TestWith: one cause is told once, and two causes are both told.
func TestWith(t *testing.T) {
	gone := func(pool string) error { return fmt.Errorf("%w: pool %s", fs.ErrNotFound, pool) }
	first := fmt.Errorf("window: %w", errors.Join(fmt.Errorf("take: %w", gone("a"))))
	for _, c := range []struct {
		name  string
		after error
		want  string
	}{
		{"nothing", nil, "window: take: not found: pool a"},
		{"the same", fmt.Errorf("list: %w", gone("a")), "window: take: not found: pool a"},
		{"the same, joined", fmt.Errorf("list: %w", errors.Join(nil, fmt.Errorf("snapshots: %w", gone("a")))), "window: take: not found: pool a"},
		{"of another", fmt.Errorf("list: %w", gone("b")), "window: take: not found: pool a\nlist: not found: pool b"},
		{"another and the same", errors.Join(gone("a"), gone("b")), "window: take: not found: pool a\nnot found: pool a\nnot found: pool b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := with(first, c.after)
			if got.Error() != c.want || !errors.Is(got, fs.ErrNotFound) {
				t.Errorf("got %q", got)
			}
		})
	}
	if err := with(nil, gone("a")); err == nil || err.Error() != "not found: pool a" {
		t.Errorf("after nothing: %v", err)
	}
	if err := with(nil); err != nil {
		t.Error(err)
	}
}
