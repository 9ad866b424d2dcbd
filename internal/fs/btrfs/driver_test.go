package btrfs

import (
	"testing"
)

func TestProgsMajor(t *testing.T) {
	for out, want := range map[string]int{
		"btrfs-progs v6.2\n":  6,
		"btrfs-progs v5.10.1": 5,
		"btrfs-progs v6.14\n-EXPERIMENTAL -INJECT -STATIC +LZO +ZSTD +UDEV +FSVERITY +ZONED CRYPTO=builtin\n": 6,
	} {
		if got, err := progsMajor(out); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", out, got, err, want)
		}
	}
	if got, err := progsMajor("busybox"); err == nil {
		t.Errorf("got %d out of nothing", got)
	}
}
