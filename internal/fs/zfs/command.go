package zfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/run"
)

const (
	// lookEvery is how often a running command's pool is asked whether it
	// still works.
	lookEvery = 100 * time.Millisecond
	// killPatience is how long a killed command may take to go.
	killPatience = 3 * time.Second
)

// kstat has a folder for each imported pool; reading there takes none of a
// pool's locks, so that it answers when nothing else does.
const kstat = "/proc/spl/kstat/zfs"

// ErrSuspended says that a pool has stopped all input and output, because its
// devices do not answer. Commands on it hang until its devices answer again.
var ErrSuspended = errors.New("pool is suspended")

// present tells whether this host's kernel has ZFS at all.
func present() bool {
	_, err := os.Stat("/sys/module/zfs")
	return err == nil
}

// here tells whether a pool of this name is imported.
func here(pool string) bool {
	_, err := os.Stat(filepath.Join(kstat, pool))
	return !errors.Is(err, os.ErrNotExist)
}

func suspended(pool string) error {
	if pool == "" || strings.ContainsAny(pool, "/\x00") || strings.HasPrefix(pool, ".") {
		return nil
	}
	state, err := os.ReadFile(filepath.Join(kstat, pool, "state"))
	if err == nil && strings.TrimSpace(string(state)) == "SUSPENDED" {
		return advice.With(fmt.Errorf("%w: %s: its devices do not answer", ErrSuspended, pool), "look with zpool status %s which those are, and when they are back, run: zpool clear %[1]s", pool)
	}
	return nil // an older ZFS has no such file
}

// unlessSuspended runs call, and leaves it behind when the pool is suspended or when
// it does not end although ctx has: a command that waits for a suspended pool
// cannot be killed before that works again.
func unlessSuspended[T any](ctx context.Context, pool string, call func(context.Context) (T, error)) (T, error) {
	var none T
	if err := suspended(pool); err != nil {
		return none, err
	}
	type answer struct {
		value T
		err   error
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		value, err := call(inner)
		done <- answer{value, err}
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case a := <-done:
			return a.value, explain(a.err)
		case <-look.C:
			if err := suspended(pool); err != nil {
				return none, err
			}
		case <-ctx.Done():
			select {
			case a := <-done:
				return a.value, explain(a.err)
			case <-time.After(killPatience):
				return none, fmt.Errorf("a command on pool %s does not end: %w", pool, ctx.Err())
			}
		}
	}
}

// output runs one command that concerns a pool ("": none in particular).
func output(ctx context.Context, pool string, argv ...string) ([]byte, error) {
	return unlessSuspended(ctx, pool, func(ctx context.Context) ([]byte, error) { return run.Output(ctx, argv...) })
}

// command runs one command whose output says nothing.
func command(ctx context.Context, pool string, argv ...string) error {
	_, err := output(ctx, pool, argv...)
	return err
}

// table runs a command that prints lines of so many columns between tabs (-H).
// On error the lines so far are returned with it.
func table(ctx context.Context, pool string, columns int, argv ...string) ([][]string, error) {
	out, err := output(ctx, pool, argv...)
	rows, parseErr := parseTable(string(out), columns)
	if err == nil && parseErr != nil {
		err = fmt.Errorf("%s %s: %w", argv[0], argv[1], parseErr)
	}
	return rows, err
}

func parseTable(out string, columns int) ([][]string, error) {
	var rows [][]string
	for line := range strings.Lines(out) {
		row := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(row) != columns {
			return rows, fmt.Errorf("printed %q, which has not %d columns", line, columns)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// healthyPools lists the imported pools that answer.
func healthyPools(ctx context.Context) ([]string, error) {
	if !present() {
		return nil, nil
	}
	rows, err := table(ctx, "", 1, "zpool", "list", "-Hp", "-o", "name")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, row := range rows {
		if suspended(row[0]) == nil {
			out = append(out, row[0])
		}
	}
	return out, nil
}

// checkName refuses what cannot be the name of a dataset, so that no name out
// of a bucket or a person's hand is taken for an option or another thing.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("a dataset's name is empty")
	case len(name) > nameMax:
		return fmt.Errorf("the name %.40s… has %d bytes, and a dataset's has at most %d", name, len(name), nameMax)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return advice.With(fmt.Errorf("%q is not the name of a dataset", name), "write it as pool/name, without a slash at either end")
		}
	}
	if first := name[0]; !letter(first) {
		return fmt.Errorf("%q is not the name of a dataset: a pool's begins with a letter", name)
	}
	for _, c := range []byte(name) {
		if !letter(c) && (c < '0' || c > '9') && !strings.ContainsRune("-_.: /", rune(c)) {
			return fmt.Errorf("%q is not the name of a dataset: %q cannot stand in one (letters, digits, and -_.: can)", name, c)
		}
	}
	return nil
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
