package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/workload"

	"golang.org/x/sys/unix"
)

// Check is one thing that doctor looked at.
type Check struct {
	Check string `json:"check"`
	OK    bool   `json:"ok"`
	Why   string `json:"why"`
	Do    string `json:"do"` // "" when it is well
	Err   error  `json:"-"`  // why it is not well, for advice that only the caller knows; nil when Do says all
}

// Doctor checks this host, its storage, Docker and the repositories, and says
// what to mend. probe looks at what lies behind a repository's address. It
// changes nothing but for objects that a probe puts and removes.
func (a *Agent) Doctor(ctx context.Context, probe func(ctx context.Context, r config.Repository) []Check) []Check {
	checks := []Check{a.checkRunDir(), a.checkLeftovers(), checkCgroups(), a.checkInhibitor()}
	checks = append(checks, a.checkPrograms()...)
	checks = append(checks, a.checkGroups(ctx)...)
	names := slices.Sorted(maps.Keys(a.Config.Repositories))
	if len(names) == 0 {
		checks = append(checks, ill("repositories",
			advice.In(NoRepository, errors.New("none is configured, so that restore points stay on this host, and are lost with it"))))
	}
	for _, name := range names {
		checks = append(checks, a.checkRepository(ctx, name))
		checks = append(checks, probe(ctx, a.Config.Repositories[name])...)
	}
	return checks
}

func well(check, format string, args ...any) Check {
	return Check{Check: check, OK: true, Why: fmt.Sprintf(format, args...)}
}

func ill(check string, err error) Check {
	return Check{Check: check, Why: err.Error(), Do: advice.Of(err), Err: err}
}

// checkRunDir: a journal must not survive a power cut, which thaws by itself.
func (a *Agent) checkRunDir() Check {
	var st unix.Statfs_t
	if err := unix.Statfs(a.Run, &st); err != nil {
		return ill("run directory", fmt.Errorf("%s: %w", a.Run, err))
	}
	if st.Type != unix.TMPFS_MAGIC {
		return ill("run directory",
			advice.In(NoTmpfs, fmt.Errorf("%s is not on a tmpfs: after a power cut snapd thaw would find stale journals there", a.Run)))
	}
	return well("run directory", "%s is on a tmpfs", a.Run)
}

func checkCgroups() Check {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ill("cgroup v2", err)
	}
	if !strings.Contains(string(mounts), " - cgroup2 ") {
		return Check{
			Check: "cgroup v2", Why: "no cgroup v2 tree is mounted: containers are frozen by docker pause, which takes 50 to 75 ms each way and turns a HEALTHCHECK unhealthy",
			Do: "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 on /sys/fs/cgroup/unified",
		}
	}
	return well("cgroup v2", "containers can be frozen without the engine")
}

// checkInhibitor: without logind a shutdown can fall into a window, which costs
// the point and nothing else.
func (a *Agent) checkInhibitor() Check {
	const name = "shutdown inhibitor"
	if a.Inhibit == nil {
		return well(name, "not used")
	}
	release, err := a.Inhibit("snapd doctor looks whether it works")
	if err == nil {
		err = release()
	}
	if err != nil {
		return well(name, "%v; that costs at most the point being taken", err)
	}
	return well(name, "logind grants it")
}

// checkGroups resolves every group, as a snapshot would.
func (a *Agent) checkGroups(ctx context.Context) []Check {
	s, err := a.look(ctx)
	if err != nil {
		return []Check{ill("Docker engine", err)}
	}
	defer s.close() //nolint:errcheck // only read from
	var out []Check
	if s.noEngine != nil {
		out = append(out, well("Docker engine", "there is none: only groups of paths work (%v)", s.noEngine))
	} else {
		out = append(out, well("Docker engine", "answers"))
	}
	for _, p := range s.problems {
		out = append(out, Check{Check: "labels", Why: p.String(), Do: p.Do})
	}
	for _, g := range s.groups {
		out = append(out, a.checkGroup(ctx, s, g))
	}
	if len(s.groups) == 0 {
		out = append(out, Check{
			Check: "groups", Why: "there is none, so nothing is protected",
			Do: "label a container with snapd.enable=true, or add a [group.NAME] to " + a.Config.File,
		})
	}
	return out
}

func (a *Agent) checkGroup(ctx context.Context, s *scene, g workload.Group) Check {
	name := "group " + g.Name
	sc, err := a.resolve(ctx, s, g)
	if err != nil {
		return ill(name, err)
	}
	text := fmt.Sprintf("%d datasets; %s%s", len(sc.datasets), sc.plan.Why, willAgree(g))
	if len(sc.warnings) > 0 {
		return Check{Check: name, Why: text + "; " + strings.Join(sc.warnings, "; "), Do: "if that is not what you want: snapd show latest:" + g.Name + " says what a point covers"}
	}
	if len(sc.notes) > 0 {
		text += "; passed over: " + strings.Join(sc.notes, "; ")
	}
	return well(name, "%s", text)
}

func (a *Agent) checkRepository(ctx context.Context, name string) Check {
	check := "repository " + name
	repo, err := a.Open(ctx, a.Config.Repositories[name], a.Report)
	if err != nil {
		return ill(check, err)
	}
	index, err := repo.Index(ctx)
	if err != nil {
		return ill(check, err)
	}
	return well(check, "is ours, signed as it should be, and holds %d restore points", len(index.Points))
}

// Failed counts the checks that are not well.
func Failed(checks []Check) error {
	n := 0
	for _, c := range checks {
		if !c.OK {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return errors.New(plural(n, "check needs", "checks need") + " attention")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
