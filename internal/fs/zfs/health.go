package zfs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// Health implements fs.HealthTeller: from what zpool status says of the pools. A
// pool that is suspended is asked nothing, since it would not answer.
func (d *Driver) Health(ctx context.Context, datasets []fs.Dataset) ([]fs.Finding, error) {
	names := map[string][]string{}
	var order []string
	for _, dataset := range datasets {
		pool := poolOf(dataset.Name)
		if checkName(dataset.Name) != nil || !present() || !here(pool) {
			continue // not imported
		}
		if names[pool] == nil {
			order = append(order, pool)
		}
		if !slices.Contains(names[pool], dataset.Name) {
			names[pool] = append(names[pool], dataset.Name)
		}
	}
	var found []fs.Finding
	var failed error
	for _, pool := range order {
		all, err := healthOf(ctx, pool)
		failed = errors.Join(failed, err)
		for _, f := range all {
			f.On, f.Datasets = "pool "+pool, names[pool]
			found = append(found, f)
		}
	}
	return found, failed
}

func healthOf(ctx context.Context, pool string) ([]fs.Finding, error) {
	out, err := output(ctx, pool, "zpool", "status", "-p", pool)
	switch {
	case errors.Is(err, ErrSuspended):
		return []fs.Finding{{What: "it is suspended: its devices do not answer, and every program that uses it waits", Do: advice.Of(err), Grave: true}}, nil
	case errors.Is(err, fs.ErrNotFound):
		return nil, nil // exported just now
	case err != nil:
		return nil, fmt.Errorf("ask how pool %s is: %w", pool, err)
	}
	return parseStatus(string(out)).findings(pool), nil
}

// poolStatus is what zpool status prints of one pool.
type poolStatus struct {
	state   string
	errors  string   // the line that begins so
	devices []string // those that are not ONLINE or have errors, for users
	files   []string // with permanent errors, of -v
}

// parseStatus reads what zpool status -p prints of one pool, also with -v.
func parseStatus(text string) poolStatus {
	var st poolStatus
	part := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		label, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && part != "errors" && slices.Contains(labels(), label) { // that is the last part, and names files
			switch part = label; part {
			case "state":
				st.state = strings.TrimSpace(value)
			case "errors":
				st.errors = strings.TrimSpace(value)
			}
			continue
		}
		switch {
		case part == "config":
			if said := sickDevice(line); said != "" {
				st.devices = append(st.devices, said)
			}
		case part == "errors" && strings.HasPrefix(line, "        "):
			st.files = append(st.files, strings.TrimSpace(line))
		}
	}
	return st
}

// labels begin the parts of what zpool status prints.
func labels() []string {
	return []string{"pool", "state", "status", "action", "see", "scan", "remove", "checkpoint", "config", "errors", "comment", "expand"}
}

// sickDevice reads a line such as
//
//	sdb     FAULTED      3     0     0  too many errors
//
// and returns what it says for users, "" when the device is well. Of a mirror and
// the like, whose devices follow it, it returns "".
func sickDevice(line string) string {
	words := strings.Fields(line)
	if len(words) < 5 || !slices.Contains(states(), words[1]) {
		return ""
	}
	// The pool's own line is the least indented one.
	if !strings.HasPrefix(strings.TrimLeft(line, "\t"), " ") || madeOf.MatchString(words[0]) {
		return ""
	}
	if counted := words[2:5]; !slices.Equal(counted, []string{"0", "0", "0"}) {
		return fmt.Sprintf("%s is %s with errors (%s of reading, %s of writing, %s of checksums)", words[0], words[1], counted[0], counted[1], counted[2])
	}
	if words[1] == "ONLINE" || words[1] == "AVAIL" || words[1] == "INUSE" {
		return ""
	}
	return words[0] + " is " + words[1]
}

// madeOf matches what ZFS calls those that are made of devices.
var madeOf = regexp.MustCompile(`^(mirror|raidz[123]?|draid[^ ]*|spare|replacing|indirect)-\d+$`)

func states() []string {
	return []string{"ONLINE", "DEGRADED", "FAULTED", "OFFLINE", "UNAVAIL", "REMOVED", "AVAIL", "INUSE", "CANT_OPEN", "SPLIT"}
}

// someDevices is how many devices one line names.
const someDevices = 4

func (st poolStatus) findings(pool string) []fs.Finding {
	var found []fs.Finding
	devices := strings.Join(st.devices[:min(len(st.devices), someDevices)], ", ")
	if more := len(st.devices) - someDevices; more > 0 {
		devices += fmt.Sprintf(", and %d more", more)
	}
	see := "see which devices those are and what to do with: zpool status " + pool
	switch {
	case st.state != "ONLINE" && st.state != "":
		f := fs.Finding{What: "it is " + st.state, Do: see, Grave: true}
		if devices != "" {
			f.What += ": " + devices
		}
		found = append(found, f)
	case devices != "":
		found = append(found, fs.Finding{
			What: "devices had errors: " + devices,
			Do:   see + "; zpool scrub " + pool + " reads everything, and zpool clear " + pool + " begins to count anew",
		})
	}
	if st.errors != "" && !strings.HasPrefix(st.errors, "No known data errors") {
		found = append(found, fs.Finding{
			What: "data is damaged, and ZFS has no whole copy of it", Grave: true,
			Do: "see which files with: zpool status -v " + pool + "; restore them from an earlier restore point",
		})
	}
	return found
}

// explainRead adds to an input/output error of a sender what of the dataset ZFS
// knows to be damaged.
func explainRead(ctx context.Context, snapshot string, err error) error {
	said, ok := stderr(err)
	if !ok || !strings.Contains(said, "Input/output error") || ctx.Err() != nil {
		return explain(err)
	}
	dataset, _, _ := strings.Cut(snapshot, "@")
	files := damagedFiles(ctx, dataset)
	err = fmt.Errorf("%w: %w", fs.ErrUnreadable, err)
	if files == "" {
		return advice.With(err, "look which devices and files are damaged with: zpool status -v %s", poolOf(dataset))
	}
	return advice.With(fmt.Errorf("%w: ZFS knows of damage in %s", err, files),
		"copy these files from an earlier restore point or delete them, take a new point, and drop those that have them damaged (snapd drop); zpool status -v %s names all, and zpool scrub reads everything", poolOf(dataset))
}

// damagedFiles names what of a dataset ZFS knows to be damaged, a few of it, and
// says how much more there is. It is "" when nothing is known.
func damagedFiles(ctx context.Context, dataset string) string {
	pool := poolOf(dataset)
	out, err := output(ctx, pool, "zpool", "status", "-v", pool)
	if err != nil {
		return "" // only an addition to the error that is told
	}
	return few(parseStatus(string(out)).of(dataset))
}

// of keeps those files that are a dataset's or may be, since they are named by
// where they are mounted or by numbers.
func (st poolStatus) of(dataset string) []string {
	var out []string
	for _, file := range st.files {
		of, _, named := strings.Cut(file, ":")
		of, _, _ = strings.Cut(of, "@")
		if strings.HasPrefix(file, "/") || strings.HasPrefix(file, "<") || named && of == dataset {
			out = append(out, file)
		}
	}
	return out
}

// fewFiles is how many files an error names.
const fewFiles = 3

func few(files []string) string {
	text := strings.Join(files[:min(len(files), fewFiles)], ", ")
	if more := len(files) - fewFiles; more > 0 {
		text += fmt.Sprintf(", and %d more", more)
	}
	return text
}
