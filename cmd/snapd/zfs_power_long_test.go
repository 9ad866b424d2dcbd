//go:build outside && long

package main

import "testing"

func TestZFSPowerCuts(t *testing.T) { cutPower(t, powerCuts()) }
