package shiptest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"snapd/internal/ship"
)

func filledLiar(t *testing.T, seed uint64) *Liar {
	t.Helper()
	l := NewLiar(NewMemory(), seed)
	for _, key := range []string{
		"meta/points/0000000001", "meta/points/0000000002", "meta/points/0000000003",
		"meta/streams/06bqr2aw1m0d4e5f.o.g1.full.1.0", "meta/streams/06bqr2aw2m0d4e5f.o.g2.06bqr2aw1m0d4e5f.2.1",
	} {
		put(t, l, key, key)
	}
	return l
}

// TestLiarIsAStore: without lies it keeps the contract.
func TestLiarIsAStore(t *testing.T) {
	Run(t, func(*testing.T) ship.Store { return NewLiar(NewMemory(), 1) })
}

// TestLiarLies: each lie is told, each is told again for the same seed, and
// none changes what a get says.
func TestLiarLies(t *testing.T) {
	for i := range reflect.TypeFor[Lies]().NumField() {
		name := reflect.TypeFor[Lies]().Field(i).Name
		t.Run(name, func(t *testing.T) {
			var lies Lies
			reflect.ValueOf(&lies).Elem().Field(i).SetFloat(1)
			lied := 0
			for seed := range uint64(20) {
				if what := lieOnce(t, seed, lies); len(what) > 0 {
					lied++
					if again := lieOnce(t, seed, lies); !slices.Equal(what, again) {
						t.Errorf("seed %d: %q, and the second time %q", seed, what, again)
					}
				}
			}
			if lied < 15 {
				t.Errorf("%d lies in 20 histories", lied)
			}
		})
	}
}

func lieOnce(t *testing.T, seed uint64, lies Lies) []string {
	t.Helper()
	l := filledLiar(t, seed)
	l.Tell(1, lies)
	var listed []string
	err := l.List(t.Context(), "meta/", func(o ship.Object) error {
		listed = append(listed, o.Key)
		return nil
	})
	if (err != nil) != (lies.Broken > 0) {
		t.Errorf("list: %v", err)
	}
	perr := l.Put(t.Context(), "meta/points/0000000004", nil, true)
	if want := lies.Fail > 0 || lies.Lost > 0; errors.Is(perr, ship.ErrUnavailable) != want {
		t.Errorf("put: %v", perr)
	}
	told := l.Told()
	l.Tell(2, Lies{})
	honest := list(t, l, "meta/")
	if want := 6; len(honest) != want && lies.Fail == 0 {
		t.Errorf("an honest listing has %d keys, want %d", len(honest), want)
	}
	for _, key := range honest[:3] {
		get(t, l, key)
	}
	if perr == nil && err == nil && slices.Equal(listed, honest[:5]) {
		return nil
	}
	return append(told, fmt.Sprint(listed, perr))
}
