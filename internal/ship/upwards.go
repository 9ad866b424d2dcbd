package ship

import (
	"context"
	"errors"
)

// upwards asks for one number after the other, until there is none, or until there are
// only such that hold no record of ours.
func (l *looker) upwards(ctx context.Context, from int64, ask func(context.Context, int64) error, bad map[int64]error) error {
	if l.beyond > 0 { // all of them at once: there is hardly ever one
		var numbers []int64
		for n := from; n <= from+l.beyond; n++ {
			numbers = append(numbers, n)
		}
		if err := l.each(ctx, numbers, ask); err != nil {
			return err
		}
	}
	missing := int64(0)
	for n, junk := from, 0; junk < maxJunk; n++ {
		if err := ask(ctx, n); err != nil {
			return err
		}
		switch err := bad[n]; {
		case errors.Is(err, ErrNotFound):
			if missing++; missing > l.beyond {
				return nil
			}
		case err != nil:
			junk++
		default:
			missing = 0
		}
	}
	return nil
}
