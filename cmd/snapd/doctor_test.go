package main

import (
	"bytes"
	"testing"
	"time"

	"snapd/internal/doctor"
)

// TestTheGravestFirst: a part says of what it is, and the same advice stands once.
func TestTheGravestFirst(t *testing.T) {
	var out bytes.Buffer
	c := &cli{stdout: &out, screen: newScreen(&out, time.Now)}
	c.showChecks([]doctor.Check{
		{Check: "group shop", Level: doctor.OK, OK: true, Why: "1 dataset"},
		{Check: "group shop", Level: doctor.Warn, Why: "not covered: a", Do: "add it"},
		{Check: "group shop", Level: doctor.Warn, Why: "not covered: b", Do: "add it"},
		{Check: "repository main", Level: doctor.OK, OK: true, Why: "is ours"},
		{Check: "  space", Level: doctor.Fail, Why: "none is free", Do: "make room"},
		{Check: "repository far", Level: doctor.Warn, Why: "is slow"},
		{Check: "  space", Level: doctor.OK, OK: true, Why: "much"},
	})
	want := `FAIL  main: space          none is free
                           do: make room
WARN  group shop           not covered: a
WARN  group shop           not covered: b
                           do: add it
WARN  repository far       is slow
OK    group shop           1 dataset
OK    repository main      is ours
OK    far: space           much
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
	out.Reset()
	c.width = 60
	c.showChecks([]doctor.Check{{Check: "group shop", Level: doctor.Warn, Why: "a long word after another, which does not fit in one line"}})
	if want = "WARN  group shop           a long word after another, which\n                           does not fit in one line\n"; out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}
