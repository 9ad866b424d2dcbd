package advice

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestAdviceIsBesideTheError(t *testing.T) {
	err := fmt.Errorf("open: %w", With(io.ErrUnexpectedEOF, "try %s", "again"))
	if got, want := err.Error(), "open: unexpected EOF"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Of(err); got != "try again" {
		t.Errorf("got %q", got)
	}
	if got := Of(With(err, "better")); got != "better" {
		t.Errorf("the outermost advice has to win, got %q", got)
	}
	if got := Of(errors.Join(io.EOF, err, With(io.EOF, "later"))); got != "try again" {
		t.Errorf("of joined errors: got %q", got)
	}
	if With(nil, "x") != nil || In(Busy, nil) != nil || Of(nil) != "" {
		t.Error("nil did not stay nil")
	}
}

func TestClassesPrintNothing(t *testing.T) {
	for _, class := range Classes() {
		err := fmt.Errorf("ship: %w", In(class, io.EOF))
		if !errors.Is(err, class) || !errors.Is(err, io.EOF) || err.Error() != "ship: EOF" {
			t.Errorf("%s: got %q, of the class: %v", class, err, errors.Is(err, class))
		}
		for _, other := range Classes() {
			if other != class && errors.Is(err, other) {
				t.Errorf("%s is taken for %s", class, other)
			}
		}
	}
	if err := Usagef("no %d", 1); err.Error() != "no 1" || !errors.Is(err, Usage) {
		t.Errorf("got %v", err)
	}
}
