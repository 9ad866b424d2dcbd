package lvm

import "testing"

func TestParseHolding(t *testing.T) {
	for line, want := range map[string]holding{
		"0 131072 thin 40960 40959\n": {bytes: 20 << 20, end: 20 << 20},
		"0 131072 thin 128 65535\n":   {bytes: 64 << 10, end: 32 << 20},
		"0 131072 thin 0 -\n":         {},
	} {
		if got, err := parseHolding(line); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", line, got, err, want)
		}
	}
	// Of these it is not known that they are empty.
	for _, line := range []string{"", "0 131072 thin Fail", "0 131072 thin -", "0 131072 linear", "0 131072 thin 128 -", "0 8 thin x 7", "0 8 error 0 -"} {
		if got, err := parseHolding(line); err == nil {
			t.Errorf("%q: got %+v", line, got)
		}
	}
}
