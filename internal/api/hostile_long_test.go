//go:build host && long

package api

import (
	"testing"
	"time"
)

func TestLongHostileCallers(t *testing.T) { beHostile(t, 100000, 90*time.Second) }
