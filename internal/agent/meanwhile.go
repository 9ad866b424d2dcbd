package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/plan"
	"snapd/internal/point"
	"snapd/internal/workload"
)

// meanwhile looks for what wrote to the group's files and was not frozen, because
// it was started, or got them, after the members had been looked up.
//
// A container is a passing event. In one domain the point is then worth a power
// cut; over several it is worth nothing: the user was promised one instant, and
// another try can give it. A process of the host that writes will write the next
// time too: the point is kept, and called no more than it is.
func (t *taking) meanwhile(ctx context.Context) error {
	r, p := t.found, &t.point
	if !r.promises() {
		return nil
	}
	late, err := t.intruders(ctx)
	if err != nil {
		p.Warnings = append(p.Warnings, "whether a container was started in the middle cannot be told: "+inOneLine(err))
	}
	if wrote := strings.Join(late, "; "); wrote != "" {
		if r.plan.Domains > 1 {
			return advice.With(fmt.Errorf("%s: its %d domains are not of one instant", wrote, r.plan.Domains), "run the same command again")
		}
		p.Consistency = point.Crash
		p.Why += "; " + wrote
		p.Warnings = append(p.Warnings, wrote+": the point is as after a power cut")
	}
	t.wroteMeanwhile(ctx)
	return nil
}

// intruders says of containers what they did.
func (t *taking) intruders(ctx context.Context) ([]string, error) {
	if t.scene.engine == nil {
		return nil, nil
	}
	var did []string
	var strangers []workload.Container
	consider := func(c workload.Container) {
		_, member := t.group.Member(c.ID)
		switch {
		case !writes(c):
		case member || ofProject(c, t.group):
			did = append(did, startedText(c.Name))
		default:
			strangers = append(strangers, c)
		}
	}
	started, err := t.scene.engine.Started(ctx, t.scene.containers)
	if err != nil {
		return nil, err
	}
	for _, c := range started {
		if !c.StartedAt.After(t.taken) {
			consider(c)
		}
	}
	// A member that did not run can have run for a moment, and be down again.
	ran, untold := t.scene.engine.Ran(ctx, slices.DeleteFunc(slices.Clone(t.found.resting), func(c workload.Container) bool { return !writes(c) }), t.taken)
	for _, c := range ran {
		did = append(did, startedText(c.Name))
	}
	runs, err := t.follower.Runs(ctx, t.scene.containers)
	for _, r := range runs {
		switch {
		case !t.inTheMiddle(r) || slices.ContainsFunc(started, func(c workload.Container) bool { return c.ID == r.Container.ID }):
		case r.Gone:
			did = append(did, fmt.Sprintf("container %s was started while the restore point was being taken and is gone, so that it cannot be told whether it wrote to the group's files", r.Container.Name))
		default:
			consider(r.Container)
		}
	}
	found, looked := t.reached(ctx, strangers)
	slices.Sort(did)
	return slices.Compact(append(did, found...)), errors.Join(untold, err, looked)
}

func startedText(name string) string {
	return "container " + name + " was started while the restore point was being taken, and writes to the group's files"
}

// inTheMiddle tells whether a run of a container, that was not known when the
// members were looked up, can have written between the first member frozen and
// the last snapshot.
func (t *taking) inTheMiddle(r workload.Run) bool {
	if r.From.After(t.taken) || !r.To.IsZero() && r.To.Before(t.point.Time) {
		return false
	}
	i := slices.IndexFunc(t.scene.containers, func(c workload.Container) bool { return c.ID == r.Container.ID })
	if i < 0 || !t.scene.containers[i].Running {
		return true
	}
	// Then this is the run that it was in when it was listed, or a later one.
	known := t.scene.containers[i]
	return !r.From.Before(t.scene.looked) && !r.Gone && !known.StartedAt.Equal(r.Container.StartedAt)
}

// reached says which of the containers that were not frozen can write to the
// group's files: of those that were started, and of those that were there, which
// may have got more mounts since.
func (t *taking) reached(ctx context.Context, strangers []workload.Container) ([]string, error) {
	is := func(list []workload.Container, id string) bool {
		return slices.ContainsFunc(list, func(c workload.Container) bool { return c.ID == id })
	}
	others := slices.Clone(strangers)
	for _, c := range t.scene.containers {
		if !t.found.freezes(c.ID) && !is(strangers, c.ID) {
			others = append(others, c)
		}
	}
	writers, warnings, err := t.found.reach.Writers(ctx, others)
	var did []string
	for _, w := range writers {
		known := func(o plan.Writer) bool { return o.ID == w.Container.ID && o.Overlaps }
		switch {
		case !w.Overlaps || slices.ContainsFunc(t.found.input.Writers, known) && !is(strangers, w.Container.ID):
		case is(strangers, w.Container.ID):
			did = append(did, startedText(w.Container.Name))
		default:
			did = append(did, fmt.Sprintf("container %s got the group's files by a mount that was made while the restore point was being taken", w.Container.Name))
		}
	}
	for _, w := range warnings {
		if !slices.Contains(t.point.Warnings, w) {
			t.point.Warnings = append(t.point.Warnings, w)
		}
	}
	return did, err
}

// writes tells whether a container has anything to write to that lasts.
func writes(c workload.Container) bool {
	return slices.ContainsFunc(c.Mounts, func(m workload.Mount) bool { return m.Writable && m.Kind != workload.Tmpfs })
}

// ofProject tells whether a new container is of the group by its project: it
// may have brought a volume that the group did not have.
func ofProject(c workload.Container, g workload.Group) bool {
	return c.Project != "" && slices.ContainsFunc(g.Members, func(m workload.Container) bool { return m.Project == c.Project })
}

// wroteMeanwhile lowers the point for processes that wrote while the snapshots
// were taken, or have files of the group open since.
func (t *taking) wroteMeanwhile(ctx context.Context) {
	r, p := t.found, &t.point
	var wrote []workload.Process
	err := t.unwatched
	if err == nil && t.watch != nil {
		wrote, err = t.watch.Wrote()
	}
	if err != nil {
		p.Warnings = append(p.Warnings, "whether a process of the host wrote while the snapshots were taken cannot be told: "+inOneLine(err))
	}
	open := workload.LookAtOpenFiles(ctx, lookLimit)
	if missed := missedText(open); missed != "" && !slices.Contains(p.Warnings, missed) {
		p.Warnings = append(p.Warnings, missed)
	}
	did := r.strangers(t.scene, wrote)
	holders := slices.DeleteFunc(r.reach.Holders(open), func(h workload.Process) bool {
		return h.Started.After(t.taken) || slices.ContainsFunc(wrote, func(w workload.Process) bool { return w.PID == h.PID && w.Device == h.Device })
	})
	has := r.strangers(t.scene, holders)
	var text []string
	if len(did) > 0 {
		text = append(text, plan.Some(namesOf(did))+" wrote to the group's files while the snapshots were taken")
	}
	if len(has) > 0 {
		text = append(text, plan.Open(namesOf(has)))
	}
	if len(text) == 0 {
		return
	}
	worth := "its datasets are each of an instant of their own"
	p.Consistency = point.Separate
	if r.plan.Domains == 1 {
		p.Consistency, worth = point.Crash, "the point is as after a power cut"
	}
	all := strings.Join(text, "; ")
	p.Why += "; " + all
	p.Warnings = append(p.Warnings, all+": "+worth)
}

func namesOf(processes []plan.Process) []string {
	var out []string
	for _, p := range processes {
		out = append(out, p.Name)
	}
	return out
}
