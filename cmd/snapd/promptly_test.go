package main

import (
	"context"
	"errors"
	"testing"
	"time"
)

// A look that never comes back does not keep a command from ending.
func TestAHangingLookEndsWithTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	never := make(chan struct{})
	defer close(never)
	time.AfterFunc(50*time.Millisecond, cancel)
	begun := time.Now()
	_, err := promptly(ctx, func() (int, error) { <-never; return 1, nil })
	if took := time.Since(begun); !errors.Is(err, context.Canceled) || took > time.Second {
		t.Errorf("%v after %v", err, took)
	}
	if got, err := promptly(t.Context(), func() (int, error) { return 7, nil }); got != 7 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
