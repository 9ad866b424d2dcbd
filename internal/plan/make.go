package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/point"
)

// Make decides. A *Refusal says why nothing can be done and what to do.
func Make(in Input) (Plan, error) {
	m := maker{in: in, plan: Plan{Domains: domains(in.Datasets), Warnings: slices.Clone(in.Warnings)}}
	if err := m.refuseEarly(); err != nil {
		return Plan{}, err
	}
	one := m.plan.Domains == 1
	asked := in.Freeze == config.FreezeGroup || in.Freeze == config.FreezePause || in.Freeze == config.FreezeStop
	m.chooseFilesystems()
	switch {
	case in.Freeze == config.FreezeNone && one:
		m.freezeNone(point.Crash, "nothing is frozen, as freeze = \"none\" asks, and "+m.oneInstant())
	case in.Freeze == config.FreezeNone:
		m.freezeNone(point.Separate, fmt.Sprintf("nothing is frozen, as freeze = \"none\" asks, and %s are not taken at one instant", m.many()))
	case one && !asked:
		m.freezeNone(point.Crash, m.oneInstant()+", so nothing needs to be frozen")
	case one && len(m.running()) == 0:
		m.freezeNone(point.Crash, m.oneInstant()+", and no member of the group runs")
	case len(in.Members) == 0 && m.allFrozen():
		m.freezeNone(point.Crash, m.frozenText()+", so that "+m.many()+" are of one instant")
		return m.plan, nil
	case len(in.Members) == 0:
		return Plan{}, m.refuse(
			fmt.Sprintf("%s would be taken at different instants, and the group has no members that could be frozen meanwhile%s", m.many(), m.unfrozenText()),
			`add the containers that write there, make one group of each dataset, or set freeze = "none" if each may be of an instant of its own`)
	default:
		m.freeze(one, asked)
	}
	if len(m.plan.Filesystems) > 0 {
		m.plan.Why += "; " + m.frozenText()
	}
	return m.plan, nil
}

type maker struct {
	in       Input
	plan     Plan
	unfrozen []fs.Filesystem // those that should be frozen and cannot be
}

func (m *maker) refuse(why, do string) error {
	return advice.With(&Refusal{Group: m.in.Group, Why: why, Do: do}, "%s", do)
}

func (m *maker) refuseEarly() error {
	in := m.in
	if in.Freeze == config.FreezeStop {
		if err := m.refuseStop(); err != nil {
			return err
		}
	}
	switch {
	case len(in.Datasets) == 0:
		return m.refuse("there is no dataset to snapshot", "give the group a volume, a bind mount or a path on Btrfs, ZFS or LVM")
	case in.OnOverrun == config.OverrunCrash && m.plan.Domains > 1:
		return m.refuse(fmt.Sprintf(`on-overrun = "crash" needs datasets that are taken at one instant, and %s are not`, m.many()),
			`set on-overrun = "fail", or bring the datasets into one pool`)
	}
	return nil
}

// refuseStop names a member that cannot be stopped and started again.
func (m *maker) refuseStop() error {
	for _, member := range m.running() {
		switch {
		case member.Kind != Container:
			return m.refuse(fmt.Sprintf(`%s %s is no container, and only containers are stopped and started again (freeze = "stop")`, member.Kind, member.Name),
				`set freeze to "freeze": its cgroup is then frozen for the window`)
		case member.AutoRemove:
			return m.refuse(fmt.Sprintf(`container %s was started with --rm: stopped (freeze = "stop"), it would be removed, and could not be started again`, member.Name),
				`start it without --rm, or set freeze to "freeze" or "pause"`)
		case member.Owner != "":
			return m.refuse(fmt.Sprintf(`container %s belongs to %s, which starts another one in its place when it stops (freeze = "stop"): two would then write to the same mounts`, member.Name, member.Owner),
				`set freeze to "freeze" or "pause": it is then frozen for the window and stays where it is`)
		}
	}
	if took := m.in.StopTook; took > 0 && took >= m.in.MaxWindow && len(m.running()) > 0 {
		took = took.Round(100 * time.Millisecond)
		return m.refuse(fmt.Sprintf(`stopping the members (freeze = "stop") took %v the last time, and max-window is %v: they would be down as long again, and there would be no restore point`, took, m.in.MaxWindow),
			fmt.Sprintf(`set max-window well above %v, have the containers end at once at their stop signal and make them anew, or set freeze to "freeze"`, took))
	}
	return nil
}

// oneInstant and many describe the datasets.
func (m *maker) oneInstant() string {
	if len(m.in.Datasets) == 1 {
		return fmt.Sprintf("the group has one dataset (%s %s), of which a snapshot is one instant", m.in.Datasets[0].Driver, m.in.Datasets[0].Name)
	}
	return fmt.Sprintf("all %d datasets are taken at one instant", len(m.in.Datasets))
}

func (m *maker) many() string {
	if m.plan.Domains == len(m.in.Datasets) {
		return fmt.Sprintf("its %d datasets", m.plan.Domains)
	}
	return fmt.Sprintf("its %d datasets in %d domains", len(m.in.Datasets), m.plan.Domains)
}

func (m *maker) running() []Member {
	var out []Member
	for _, member := range m.in.Members {
		if member.Running {
			out = append(out, member)
		}
	}
	return out
}

// freezeNone plans a point for which no member is frozen.
func (m *maker) freezeNone(c point.Consistency, why string) {
	m.plan.Consistency, m.plan.Why = c, why
}

// freeze plans to freeze the members, and with them the containers outside the
// group that write to the same files.
func (m *maker) freeze(one, asked bool) {
	stop := m.in.Freeze == config.FreezeStop
	m.plan.Consistency = point.Frozen
	members := m.running()
	outside, named := m.writers()
	if stop && len(members) > 0 && len(outside) == 0 {
		m.plan.Consistency = point.Stopped
	}
	// Those outside come first: as far as can be known they are clients of
	// the group's files. They are frozen and never stopped: their users did not
	// ask for it.
	for _, w := range outside {
		m.plan.Freeze = append(m.plan.Freeze, m.still(ranked{Member: w}, true))
	}
	for _, member := range order(members, slices.Concat(m.in.Members, m.in.Others)) {
		m.plan.Freeze = append(m.plan.Freeze, m.still(member, false))
	}
	how := be(members) + " frozen"
	if stop {
		how = be(members) + " stopped and started again"
	}
	switch {
	case len(members) == 0:
		m.plan.Why = fmt.Sprintf("no member of the group runs, so that none of them writes while %s are taken", m.many())
	case one:
		m.plan.Why = fmt.Sprintf("%s %s, as freeze = %q asks, while %s", who(members), how, m.in.Freeze, "the snapshot was taken")
	case asked:
		m.plan.Why = fmt.Sprintf("%s %s, as freeze = %q asks, so that %s are of one instant", who(members), how, m.in.Freeze, m.many())
	default:
		m.plan.Why = fmt.Sprintf("%s %s, so that %s are of one instant", who(members), how, m.many())
	}
	if len(outside) > 0 {
		m.plan.Why += fmt.Sprintf("; %s frozen too, outside the group and writing to the same files", who(outside)+" "+be(outside))
	}
	if len(named) > 0 {
		m.lower(one, named)
	}
	m.lowerForProcesses(one)
	m.coverFilesystems(one)
	m.warnOfPaths(one)
}

// writers returns the containers outside the group that are frozen with it, and
// those that write to the group's files and must not be frozen.
func (m *maker) writers() (frozen []Member, named []Writer) {
	for _, w := range m.in.Writers {
		switch {
		case !w.Running:
		case m.frozenOnAll(w.Datasets): // the frozen filesystem makes its writes wait
		case !w.Overlaps:
			m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
				"container %s writes to other files in the same dataset (%s) and was not frozen: only what belongs to the group is of one instant", w.Name, names(w)))
		case w.Refuses || w.Fault:
			named = append(named, w)
		default:
			frozen = append(frozen, w.Member)
		}
	}
	return frozen, named
}

// lower says what the point is worth when containers went on writing.
func (m *maker) lower(one bool, named []Writer) {
	m.lowerTo(one)
	var members []Member
	for _, w := range named {
		members = append(members, w.Member)
	}
	m.plan.Why += fmt.Sprintf("; %s went on writing to the group's files", who(members))
	for _, w := range named {
		if w.Fault {
			continue // warned of already
		}
		m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
			"container %s is not in the group, writes to its files and says that it must not be frozen: add it to the group, or mount the files read-only there", w.Name))
	}
}

// lowerForProcesses says what the point is worth when processes of the host, which
// nothing freezes, can write to the group's files.
func (m *maker) lowerForProcesses(one bool) {
	var writing []string
	for _, p := range m.in.Processes {
		if !m.frozenOnAll(p.Datasets) {
			writing = append(writing, p.Name)
		}
	}
	if len(writing) == 0 {
		return
	}
	m.lowerTo(one)
	m.plan.Why += "; " + Open(writing)
	m.plan.Warnings = append(m.plan.Warnings, Open(writing)+", and nothing freezes that: add its unit to the group, or end it before a point is taken")
}

// Open says of processes, by their names, that they may write to a group's files.
func Open(processes []string) string {
	if len(processes) == 1 {
		return processes[0] + " has files of the group open for writing"
	}
	return Some(processes) + " have files of the group open for writing"
}

// Some lists up to three of many.
func Some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (m *maker) lowerTo(one bool) {
	m.plan.Consistency = point.Separate
	if one {
		m.plan.Consistency = point.Crash
	}
}

// warnOfPaths names datasets that only a plain path brought in: which programs
// write there is not known, so none can be frozen.
func (m *maker) warnOfPaths(one bool) {
	if one {
		return
	}
	for _, d := range m.in.Datasets {
		if len(d.Users) == 0 && !m.frozenOnAll([]fs.Dataset{d.Dataset}) {
			m.plan.Warnings = append(m.plan.Warnings, fmt.Sprintf(
				"%s is in the group as a path: programs that write there outside of its containers were not frozen", strings.Join(d.Paths, ", ")))
		}
	}
}

func (m *maker) still(member ranked, outside bool) Still {
	how := ByCgroup
	switch {
	case member.Kind != Container:
	case m.in.Freeze == config.FreezeStop && !outside:
		how = ByStop
	case m.in.Freeze == config.FreezePause || !member.Cgroup:
		how = ByPause
	}
	return Still{Kind: member.Kind, ID: member.ID, Name: member.Name, How: how, Rank: member.rank, Outside: outside}
}

func names(w Writer) string {
	var out []string
	for _, d := range w.Datasets {
		out = append(out, d.Name)
	}
	return strings.Join(out, ", ")
}

// be is the verb after who.
func be(members []Member) string {
	if len(members) == 1 {
		return "was"
	}
	return "were"
}

// who names one or two members, and counts more.
func who(members []Member) string {
	switch len(members) {
	case 0:
		return "no member"
	case 1:
		return members[0].Name
	case 2:
		return members[0].Name + " and " + members[1].Name
	}
	if slices.ContainsFunc(members, func(m Member) bool { return m.Kind != Container }) {
		return fmt.Sprintf("%d members", len(members))
	}
	return fmt.Sprintf("%d containers", len(members))
}
