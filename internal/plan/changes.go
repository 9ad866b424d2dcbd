package plan

import (
	"slices"

	"snapd/internal/point"
)

// Changes compares a new point with the last one of its group. It returns the
// items of the new one, with what is to be remembered of them, and what is not as
// it was: each change stays, from point to point, with the first point that had
// it, until things are again as they were or accepted says that a user wants it so.
// What is new is no change. A last point without an id means that there is none.
//
// What a change says that something was counts as expected, not what has taken
// its place: so the last point alone is enough to compare with, whatever became of
// those before it.
func Changes(last, now point.Point, accepted func(point.Change) bool) ([]point.Item, []point.Change) {
	c := comparison{last: last, now: now, items: slices.Clone(now.Items)}
	for _, change := range last.Changed {
		if !accepted(change) {
			c.open = append(c.open, change)
		} else if change.What == point.ItemEmptied {
			c.mayBeEmpty = append(c.mayBeEmpty, change.Was)
		}
	}
	expected := c.expected()
	byKey := map[point.ItemKey][]int{}
	for i, item := range c.items {
		c.items[i].Filled = item.Empty != nil && !*item.Empty
		byKey[item.Key()] = append(byKey[item.Key()], i)
	}
	for _, was := range expected {
		if i := c.at(byKey[was.Key()], was.Place); i >= 0 {
			c.stayed(was, &c.items[i])
			byKey[was.Key()] = without(byKey[was.Key()], i)
		} else {
			c.left = append(c.left, was)
		}
	}
	for _, was := range c.left {
		rest := byKey[was.Key()]
		if len(rest) == 0 {
			c.gone(was)
			continue
		}
		c.elsewhere(was, c.items[rest[0]])
		byKey[was.Key()] = rest[1:]
	}
	c.datasets()
	return c.items, c.found
}

// comparison is one call of Changes.
type comparison struct {
	last, now  point.Point
	items      []point.Item   // of the new point
	open       []point.Change // of the last one, that no user has accepted
	mayBeEmpty []point.Item
	left       []point.Item // expected, and not at its place
	found      []point.Change
}

// expected are the items that the new point should have: those that open changes
// speak of as they were, and the last point's others.
func (c *comparison) expected() []point.Item {
	var out []point.Item
	for _, change := range c.open {
		if change.Was.Kind != point.ItemDataset {
			out = append(out, change.Was)
		}
	}
	for _, item := range c.last.Items {
		stands := func(change point.Change) bool { // in for what is missing
			return change.Is != nil && change.Was.Key() == item.Key() && change.Is.Same(item.Place)
		}
		if slices.ContainsFunc(c.open, stands) {
			continue
		}
		item.EmptyAccepted = item.EmptyAccepted || slices.ContainsFunc(c.mayBeEmpty, func(o point.Item) bool {
			return o.Key() == item.Key() && o.Same(item.Place)
		})
		out = append(out, item)
	}
	return out
}

// at finds among items the one at a place, -1 when there is none.
func (c *comparison) at(among []int, place point.Place) int {
	for _, i := range among {
		if c.items[i].Same(place) {
			return i
		}
	}
	return -1
}

func without(list []int, i int) []int {
	return slices.DeleteFunc(slices.Clone(list), func(o int) bool { return o == i })
}

// stayed is for an item at its place: it may be empty now.
func (c *comparison) stayed(was point.Item, is *point.Item) {
	is.EmptyAccepted = was.EmptyAccepted
	if is.Empty == nil {
		is.Filled = was.Filled
	}
	empty := is.Empty != nil && *is.Empty
	if is.Empty == nil { // what cannot be told ends no mark
		empty = slices.ContainsFunc(c.open, func(o point.Change) bool { return o.What == point.ItemEmptied && sameItem(o.Was, was) })
	}
	if empty && was.Filled && !was.EmptyAccepted {
		place := is.Place
		c.add(point.ItemEmptied, was, &place)
	}
}

// gone is for an item that the group has no more. Where another item has the
// place, as after a service was renamed, nothing is missing.
func (c *comparison) gone(was point.Item) {
	for _, item := range c.items {
		if item.Driver == was.Driver && item.Origin == was.Origin && holds(item.Path, was.Path) {
			return
		}
	}
	if was.Anonymous() && was.Empty != nil && *was.Empty && c.hasDataset(was.Origin) {
		return
	}
	c.add(point.ItemLost, was, nil)
}

// elsewhere is for an item that has another place. A volume that Docker names and
// makes anew with each container has lost nothing if it was empty.
func (c *comparison) elsewhere(was, is point.Item) {
	what := point.ItemExchanged
	if was.Driver == is.Driver && was.Origin == is.Origin {
		what = point.ItemMoved
		if was.Anonymous() && is.Anonymous() && was.Empty != nil && *was.Empty {
			return
		}
	}
	place := is.Place
	c.add(what, was, &place)
}

// datasets looks for those that no item speaks of: below an item, or of a point
// that has no items because an older program took it.
func (c *comparison) datasets() {
	var want []point.Place
	for _, change := range c.open {
		if change.Was.Kind == point.ItemDataset {
			want = append(want, change.Was.Place)
		}
	}
	for _, d := range c.last.Datasets {
		stands := func(change point.Change) bool {
			return change.Is != nil && change.Is.Origin == d.Origin && change.Was.Origin != d.Origin
		}
		if !slices.ContainsFunc(c.open, stands) {
			want = append(want, point.Place{Driver: d.Driver, Dataset: d.Dataset, Origin: d.Origin, Path: "."})
		}
	}
	for _, p := range want {
		told := func(change point.Change) bool { return change.Was.Origin == p.Origin }
		if !c.hasDataset(p.Origin) && !slices.ContainsFunc(c.found, told) {
			c.add(point.ItemLost, point.Item{Kind: point.ItemDataset, Target: p.Driver + " " + p.Dataset, Place: p}, nil)
		}
	}
}

func (c *comparison) hasDataset(origin string) bool {
	return slices.ContainsFunc(c.now.Datasets, func(d point.Dataset) bool { return d.Origin == origin })
}

func (c *comparison) add(what string, was point.Item, is *point.Place) {
	change := point.Change{Item: was.String(), What: what, Was: was, Is: is, Since: point.Since{Point: c.now.ID, Time: c.now.Time}}
	for _, before := range c.open {
		if sameItem(before.Was, was) {
			change.Since = before.Since
			break
		}
	}
	c.found = append(c.found, change)
}

func sameItem(a, b point.Item) bool { return a.Key() == b.Key() && a.Same(b.Place) }

// holds tells whether a path of a dataset is or holds another one.
func holds(outer, inner string) bool {
	return outer == "." || outer == "" || outer == inner || len(inner) > len(outer) && inner[:len(outer)] == outer && inner[len(outer)] == '/'
}
