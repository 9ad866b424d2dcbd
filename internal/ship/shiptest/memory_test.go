package shiptest

import (
	"testing"

	"snapd/internal/ship"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) ship.Store { return NewMemory() })
}

func TestFaultsWithoutScript(t *testing.T) {
	Run(t, func(*testing.T) ship.Store { return NewFaults(NewMemory()) })
}

func TestRetry(t *testing.T) {
	Run(t, func(*testing.T) ship.Store { return ship.Retry(NewMemory(), ship.RetryPolicy{}) })
}
