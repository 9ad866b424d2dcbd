package ship

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// RangeLister is what a Store may also be, if it can begin a listing in the middle.
// A server needs longer for a page than the next request does, and gives the pages of
// a listing one after the other: two halves take half the time.
type RangeLister interface {
	// ListAfter is List of the keys that come after one, which need not be there.
	// errors.ErrUnsupported when what lies behind cannot.
	ListAfter(ctx context.Context, prefix, after string, each func(Object) error) error
}

// pastMiddle is how many keys of the second half the first one goes on for, to see
// whether they are in order: a page of a server.
const pastMiddle = 1000

// errEnough ends a half where the other one begins.
var errEnough = errors.New("the rest is in the other half")

// listMeta lists meta/ in two halves, which meet where the manifests begin: there are
// about as many of them as of points. A listing that is not in order is not cut, so
// that no half ends too soon: then it is made as a whole.
func listMeta(ctx context.Context, s Store) ([]Object, error) {
	ranges, ok := s.(RangeLister)
	if !ok {
		return listAll(ctx, s, prefixMeta)
	}
	middle := strings.TrimSuffix(prefixStreams, "/")
	var halves [2][]Object
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		past := 0
		err := s.List(gctx, prefixMeta, func(o Object) error {
			halves[0] = append(halves[0], o)
			if o.Key > middle {
				past++
			}
			if past == pastMiddle {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
	g.Go(func() error {
		return ranges.ListAfter(gctx, prefixMeta, middle, func(o Object) error {
			halves[1] = append(halves[1], o)
			return nil
		})
	})
	switch err := g.Wait(); {
	case errors.Is(err, errors.ErrUnsupported):
		return listAll(ctx, s, prefixMeta)
	case err != nil:
		return nil, err
	}
	if !slices.IsSortedFunc(halves[0], byKey) || !slices.IsSortedFunc(halves[1], byKey) {
		return listAll(ctx, s, prefixMeta)
	}
	return slices.Concat(halves[0], halves[1]), nil // the caller drops what comes twice
}

func listAll(ctx context.Context, s Store, prefix string) (all []Object, err error) {
	err = s.List(ctx, prefix, func(o Object) error {
		all = append(all, o)
		return nil
	})
	return all, err
}

func byKey(a, b Object) int { return strings.Compare(a.Key, b.Key) }
