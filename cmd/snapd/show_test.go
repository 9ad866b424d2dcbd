package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"snapd/internal/point"
)

// Definitions of containers hold passwords: no command prints them.
func TestPointsAreShownWithoutDefinitions(t *testing.T) {
	var out bytes.Buffer
	c := &cli{stdout: &out, json: true}
	c.showPoints([]point.Point{{ID: "06gzt396vcy92bjs", Containers: json.RawMessage(`{"db":{"Env":["PASSWORD=secret"]}}`)}})
	c.printDocument(nil)
	if text := out.String(); strings.Contains(text, "PASSWORD") || !strings.Contains(text, `"shipped":[]`) {
		t.Errorf("printed %s", text)
	}
}

// TestAHiddenHook: a member's copy of a point says that something is hidden, in place
// of it.
func TestAHiddenHook(t *testing.T) {
	hook := point.Hook{When: "before", Container: "db", Exit: 3, Seconds: 1}
	for hidden, want := range map[string]string{"": "printed: \n", "(hidden: ask as root)": "printed: (hidden: ask as root)\n"} {
		var out bytes.Buffer
		c := &cli{stdout: &out}
		c.showPoint(point.Point{ID: "06gzt396vcy92bjs", Hooks: []point.Hook{hook}, Hidden: hidden})
		if text := out.String(); !strings.Contains(text, "status 3 after 1s; it "+want) || strings.Contains(text, "\nhidden ") != (hidden != "") {
			t.Errorf("printed %s", text)
		}
	}
}
