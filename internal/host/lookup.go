package host

import (
	"context"
	"fmt"
	"strings"
	"time"

	"snapd/internal/advice"
)

// Unit is one systemd unit, as far as a program that freezes its cgroup has to
// know it.
type Unit struct {
	Name     string
	Active   bool
	Cgroup   string // below the root of the v2 tree, starting with a slash; "" when it has none
	MainPID  int    // 0 when it has none
	After    []string
	Watchdog time.Duration // it is killed when it says nothing for so long; 0 means never
}

// unitsLimit bounds what is asked of systemd.
const unitsLimit = 10 * time.Second

// FindUnits looks units up, in the given order. A name without a suffix means a
// service. ErrNoSystemd is wrapped; a unit that does not exist is an error.
func FindUnits(ctx context.Context, names []string) ([]Unit, error) {
	ctx, cancel := context.WithTimeout(ctx, unitsLimit)
	defer cancel()
	systemd, err := OpenUnits(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up units %s: %w", strings.Join(names, ", "), err)
	}
	defer systemd.Close()
	var out []Unit
	for _, name := range names {
		name = unitName(name)
		properties, err := systemd.conn.GetAllPropertiesContext(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("ask systemd for unit %s: %w", name, err)
		}
		u, err := unitOf(name, properties)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

func unitName(name string) string {
	for _, kind := range []string{".service", ".scope", ".slice", ".socket", ".mount", ".swap"} {
		if strings.HasSuffix(name, kind) {
			return name
		}
	}
	return name + ".service"
}

// unitOf reads what systemd says about a unit.
func unitOf(name string, properties map[string]any) (Unit, error) {
	u := Unit{Name: name}
	if state, _ := properties["LoadState"].(string); state != "loaded" {
		return u, advice.With(fmt.Errorf("there is no unit %s here (%s)", name, state), "name one of those that systemctl list-units lists")
	}
	if id, _ := properties["Id"].(string); id != "" {
		u.Name = id // of an alias, the unit itself: its cgroup is called so
	}
	state, _ := properties["ActiveState"].(string)
	u.Active = state == "active" || state == "reloading" || state == "activating" || state == "deactivating"
	u.Cgroup, _ = properties["ControlGroup"].(string)
	pid, _ := properties["MainPID"].(uint32)
	u.MainPID = int(pid)
	u.After, _ = properties["After"].([]string)
	watchdog, _ := properties["WatchdogUSec"].(uint64)
	if watchdog < uint64(24*time.Hour/time.Microsecond) { // the greatest number means never
		u.Watchdog = time.Duration(watchdog) * time.Microsecond
	}
	return u, nil
}
