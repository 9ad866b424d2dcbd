//go:build outside && long

package lvm

import "testing"

func TestLongPowerCut(t *testing.T) { testPowerCut(t, 5) }
