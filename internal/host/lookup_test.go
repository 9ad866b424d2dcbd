package host

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestUnitOf(t *testing.T) {
	loaded := map[string]any{
		"LoadState": "loaded", "Id": "postgresql@15-main.service", "ActiveState": "active",
		"ControlGroup": "/system.slice/system-postgresql.slice/postgresql@15-main.service",
		"MainPID":      uint32(42), "After": []string{"network.target", "a.service"}, "WatchdogUSec": uint64(3_000_000),
	}
	u, err := unitOf("pg.service", loaded)
	if err != nil || u.Name != "postgresql@15-main.service" || !u.Active || u.MainPID != 42 || u.Watchdog != 3*time.Second || len(u.After) != 2 || !strings.HasSuffix(u.Cgroup, "main.service") {
		t.Errorf("got %+v, %v", u, err)
	}
	loaded["WatchdogUSec"], loaded["ActiveState"] = ^uint64(0), "inactive"
	if u, err = unitOf("pg.service", loaded); err != nil || u.Watchdog != 0 || u.Active {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := unitOf("nginx.service", map[string]any{"LoadState": "not-found"}); err == nil || !strings.Contains(err.Error(), "there is no unit nginx.service") {
		t.Errorf("got %v", err)
	}
	for name, want := range map[string]string{"nginx": "nginx.service", "a.scope": "a.scope", "a.b": "a.b.service"} {
		if got := unitName(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestUnitsWithoutSystemd(t *testing.T) {
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		return // the guest's test has units
	}
	if _, err := FindUnits(t.Context(), []string{"nginx"}); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("got %v", err)
	}
}
