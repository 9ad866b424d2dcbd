//go:build guest

package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"snapd/internal/demo"
	"snapd/internal/vmtest"
)

// TestDemoOnASystemdHost runs the whole way where users have it: systemd as
// PID 1, cgroup v2 alone, Debian 13's engine and kernel.
func TestDemoOnASystemdHost(t *testing.T) {
	vmtest.Inside(t)
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"--json", "demo", "--files", "200"}, &out, &errs); status != 0 {
		t.Fatalf("exit status %d: %s%s", status, &out, &errs)
	}
	var result demo.Result
	if err := json.Unmarshal(out.Bytes(), &result); err != nil {
		t.Fatal(err)
	}
	if !result.OK || result.WindowUS == 0 || result.Incremental.SentBytes == 0 || result.Restore.Files < 200 {
		t.Errorf("%+v", result)
	}
}
