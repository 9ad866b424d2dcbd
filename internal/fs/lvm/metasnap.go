package lvm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/durable"
	"snapd/internal/fs"
	"snapd/internal/proc"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// A pool has one metadata snapshot at most. It does not say which program made
// it, and it outlives that program and even a reboot. So snapd writes a
// reservation into a file before it makes one, and has that file locked as long
// as it needs the snapshot. A reservation that no process has locked is of a
// killed snapd: the metadata snapshot that it describes is ours to release.
//
// Making it and writing down where it lies are two steps. If snapd were killed
// between them, another program could make its own, and the next snapd would
// take that for ours. So both are steps of one shell script that outlives snapd
// and has the lock as long as it runs. Releasing is done in the same way.
const (
	metadataPatience = 5 * time.Second // with another program's
	metadataAgain    = 200 * time.Millisecond
	lockAgain        = 100 * time.Millisecond

	// The pool's device and the reservation's name are the arguments of both.
	reserveScript = scriptPath + `: >"$2.made" && dmsetup message "$1" 0 reserve_metadata_snap && dmsetup status "$1" >"$2.made"`
	releaseScript = scriptPath + `dmsetup message "$1" 0 release_metadata_snap && rm -f -- "$2" "$2.made"`
	scriptPath    = `PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; `
)

// heldMetadata is a pool's metadata snapshot that is ours.
type heldMetadata struct {
	pool volume
	file string // the reservation, below the state directory
	lock *os.File
}

// reservation is what is written down before the metadata snapshot is made.
type reservation struct {
	Pool        string `json:"pool"`        // vg/name, for people
	Transaction uint64 `json:"transaction"` // of the pool
	Boot        string `json:"boot"`
}

// holdMetadata makes the metadata snapshot of an active pool. The caller
// releases it. fs.ErrBusy when another program has one.
func (d *Driver) holdMetadata(ctx context.Context, pool volume) (_ *heldMetadata, err error) {
	lock, err := d.awaitLock(ctx, "metadata", pool.uuid)
	if err != nil {
		return nil, err
	}
	h := d.metadataOf(pool, lock)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.lock.Close())
		}
	}()
	if err := h.recover(ctx); err != nil {
		return nil, err
	}
	st, err := h.awaitFree(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(h.file + ".made"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := h.write(reservation{Pool: pool.full(), Transaction: st.transaction, Boot: proc.BootID()}); err != nil {
		return nil, err
	}
	if err := h.script(ctx, reserveScript); err != nil {
		return nil, errors.Join(fmt.Errorf("make the metadata snapshot of thin pool %s: %w", pool.full(), err), h.recover(context.WithoutCancel(ctx)))
	}
	return h, nil
}

func (d *Driver) metadataOf(pool volume, lock *os.File) *heldMetadata {
	return &heldMetadata{pool: pool, file: filepath.Join(d.state, "metadata", pool.uuid+".json"), lock: lock}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// awaitFree waits a little for another program's metadata snapshot to go.
func (h *heldMetadata) awaitFree(ctx context.Context) (poolStatus, error) {
	for deadline := time.Now().Add(metadataPatience); ; {
		st, err := poolStatusOf(ctx, h.pool)
		if err != nil || st.held == "-" {
			return st, err
		}
		if time.Now().After(deadline) {
			dev := poolDevice(h.pool)
			return st, advice.With(fmt.Errorf("%w: another program uses the metadata snapshot of thin pool %s, or left it behind, and snapd releases only its own", fs.ErrBusy, h.pool.full()),
				"when no other backup program is running, release it: dmsetup message %s 0 release_metadata_snap", dev)
		}
		if err := pause(ctx, metadataAgain); err != nil {
			return st, err
		}
	}
}

// script runs one of the scripts to its end, whatever becomes of us.
func (h *heldMetadata) script(ctx context.Context, text string) error {
	argv := []string{"sh", "-c", text, "sh", poolDevice(h.pool), h.file}
	_, err := run.Program{Argv: argv, Whole: true, KeepOpen: h.lock}.Output(ctx)
	return err
}

func (h *heldMetadata) write(r reservation) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = durable.Write(h.file, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write down that snapd makes the metadata snapshot of thin pool %s: %w", h.pool.full(), err)
	}
	return nil
}

// release gives the metadata snapshot back, also when ctx was cancelled. It is
// called once.
func (h *heldMetadata) release(ctx context.Context) error {
	err := h.script(context.WithoutCancel(ctx), releaseScript)
	if err != nil {
		err = fmt.Errorf("release the metadata snapshot of thin pool %s: %w", h.pool.full(), err)
	}
	return errors.Join(err, h.lock.Close())
}

// recover releases what a killed process of ours left, under its lock.
func (h *heldMetadata) recover(ctx context.Context) error {
	text, err := os.ReadFile(h.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r reservation
	if err := json.Unmarshal(text, &r); err != nil {
		return advice.With(fmt.Errorf("read %s: %w", h.file, err), "remove that file")
	}
	st, err := poolStatusOf(ctx, h.pool)
	if err != nil {
		return err
	}
	ours, err := h.isOurs(ctx, st, r)
	if err != nil {
		return err
	}
	if ours {
		if err := h.script(context.WithoutCancel(ctx), releaseScript); err != nil {
			return fmt.Errorf("release the metadata snapshot of thin pool %s that a killed snapd had left: %w", h.pool.full(), err)
		}
		return nil
	}
	err = os.Remove(h.file + ".made")
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.Remove(h.file))
}

// isOurs tells whether the metadata snapshot that a pool has is the one that
// was written down: in the same block and of the same transaction.
func (h *heldMetadata) isOurs(ctx context.Context, st poolStatus, r reservation) (bool, error) {
	if st.held == "-" {
		return false, nil
	}
	made, err := os.ReadFile(h.file + ".made")
	if errors.Is(err, os.ErrNotExist) && r.Boot == proc.BootID() {
		return false, nil // killed before it was begun: this one is another's
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if was, err := parsePoolStatus(string(made)); err == nil {
		if was.held != st.held {
			return false, nil
		}
		r.Transaction = was.transaction
	}
	// The same block, or a power cut or a kill of the script interrupted the
	// making: then the transaction decides.
	same, err := h.isOf(ctx, r.Transaction)
	if errors.Is(err, exec.ErrNotFound) && len(made) > 0 {
		return true, nil // no thin_dump here, and the block is the same
	}
	return same, err
}

// isOf asks whether the metadata snapshot is of a transaction.
func (h *heldMetadata) isOf(ctx context.Context, transaction uint64) (bool, error) {
	out, err := run.Pipe(ctx, "thin_dump", "-m", "/dev/mapper/"+dmName(h.pool.vg, h.pool.name+"_tmeta", ""))
	if err != nil {
		return false, err
	}
	line, err := bufio.NewReader(out).ReadString('\n') // the rest may be long
	err = errors.Join(err, out.Close())
	name, attributes := parseTag(line)
	if err != nil || name != "superblock" {
		return false, fmt.Errorf("read the metadata snapshot of thin pool %s: %w: %q", h.pool.full(), err, strings.TrimSpace(line))
	}
	found, err := strconv.ParseUint(attributes["transaction"], 10, 64)
	return found == transaction, err
}

// sweepMetadata releases what killed processes left, in all pools.
func (d *Driver) sweepMetadata(ctx context.Context, all volumes) (released []string, failed error) {
	files, err := filepath.Glob(filepath.Join(d.state, "metadata", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		pool, ok := all.byUUID(strings.TrimSuffix(filepath.Base(file), ".json"))
		if !ok || !pool.active() {
			continue // gone, or to be looked at when it is there again
		}
		lock, err := lockFile(strings.TrimSuffix(file, ".json")+".lock", unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // a living process is at it
		}
		if err == nil {
			if _, statErr := os.Stat(file); statErr == nil {
				if err = d.metadataOf(pool, lock).recover(ctx); err == nil {
					released = append(released, "the metadata snapshot of thin pool "+pool.full())
				}
			}
			err = errors.Join(err, lock.Close())
		}
		failed = errors.Join(failed, err)
	}
	return released, failed
}
