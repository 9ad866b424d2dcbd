package agent

import (
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// roomForAll refuses several datasets that need more together than there is where
// they are to lie. Each by itself may have room: then the last of them would fail
// after hours of the others. What no receiver knows of counts as nothing.
func roomForAll(receivers []fs.Receiver) error {
	type sum struct {
		datasets     int
		needed, free int64 // bytes
	}
	sums := map[string]*sum{}
	for _, r := range receivers {
		roomer, ok := r.(fs.Roomer)
		if !ok {
			continue
		}
		place, needed, free := roomer.Room()
		if place == "" {
			continue
		}
		s := sums[place]
		if s == nil {
			s = &sum{free: free}
			sums[place] = s
		}
		s.datasets++
		s.needed += needed
		s.free = min(s.free, free)
		if s.needed > s.free {
			return advice.With(fmt.Errorf("%w in %s: %d of the datasets need %d MiB together, and %d MiB are free", fs.ErrNoSpace, place, s.datasets, s.needed>>20, s.free>>20),
				"free some, or restore them one by one to where there is room for each")
		}
	}
	return nil
}
