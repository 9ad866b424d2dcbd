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
