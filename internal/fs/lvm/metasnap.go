package lvm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"snapd/internal/fs"
	"snapd/internal/run"

	"golang.org/x/sys/unix"
)

// A pool has one metadata snapshot at most, it is of no one in particular, and
// it outlives the process and even the boot that made it. So who makes one
// writes that down before, under a lock that ends with the process, and what
// the next one finds written down without that lock is ours to release.
const (
	metadataPatience = 5 * time.Second // with another program's
	metadataAgain    = 200 * time.Millisecond
	lockAgain        = 100 * time.Millisecond
)

// heldMetadata is a pool's metadata snapshot that is ours.
type heldMetadata struct {
	pool   volume
	record string // file
	lock   *os.File
	ctx    context.Context //nolint:containedctx // of the one call that made it, never cancelled
}

// reservation is what is written down.
type reservation struct {
	Pool        string `json:"pool"`        // vg/name, for people
	Transaction uint64 `json:"transaction"` // of the pool, before
	Block       string `json:"block"`       // where the metadata snapshot lies; "" until it is known
}

// holdMetadata makes the metadata snapshot of an active pool. The caller
// releases it. fs.ErrBusy when another program has one.
func (d *Driver) holdMetadata(ctx context.Context, pool volume) (_ *heldMetadata, err error) {
	h, err := d.lockMetadata(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.lock.Close())
		}
	}()
	if err := h.recover(); err != nil {
		return nil, err
	}
	st, err := h.awaitFree(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.write(reservation{Pool: pool.full(), Transaction: st.transaction}); err != nil {
		return nil, err
	}
	if err := h.message("reserve_metadata_snap"); err != nil {
		return nil, errors.Join(fmt.Errorf("make the metadata snapshot of thin pool %s: %w", pool.full(), err), os.Remove(h.record))
	}
	st, err = poolStatusOf(h.ctx, pool)
	if err == nil {
		err = h.write(reservation{Pool: pool.full(), Transaction: st.transaction, Block: st.held})
	}
	if err != nil {
		return nil, errors.Join(err, h.message("release_metadata_snap"), os.Remove(h.record))
	}
	return h, nil
}

// lockMetadata waits for other processes of ours.
func (d *Driver) lockMetadata(ctx context.Context, pool volume) (*heldMetadata, error) {
	dir, err := d.stateDir("metadata")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, pool.uuid)
	for {
		lock, err := lockFile(file+".lock", unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &heldMetadata{pool: pool, record: file + ".json", lock: lock, ctx: context.WithoutCancel(ctx)}, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		if err := pause(ctx, lockAgain); err != nil {
			return nil, err
		}
	}
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
			return st, fmt.Errorf("%w: the metadata snapshot of thin pool %s is held by another program, or was left behind by one, and snapd touches only its own; "+
				"when no other backup program is running, release it: dmsetup message %s 0 release_metadata_snap", fs.ErrBusy, h.pool.full(), dev)
		}
		if err := pause(ctx, metadataAgain); err != nil {
			return st, err
		}
	}
}

func (h *heldMetadata) message(text string) error {
	_, err := run.Program{Argv: []string{"dmsetup", "message", poolDevice(h.pool), "0", text}, Whole: true}.Output(h.ctx)
	return err
}

func (h *heldMetadata) write(r reservation) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = writeAside(h.record, text)
	}
	if err != nil {
		return fmt.Errorf("note who holds the metadata snapshot of thin pool %s: %w", h.pool.full(), err)
	}
	return nil
}

// release gives the metadata snapshot back. It is called once.
func (h *heldMetadata) release() error {
	err := h.message("release_metadata_snap")
	if err != nil {
		err = fmt.Errorf("release the metadata snapshot of thin pool %s: %w", h.pool.full(), err)
	} else {
		err = os.Remove(h.record)
	}
	return errors.Join(err, h.lock.Close())
}

// recover releases what a killed process of ours left, under its lock.
func (h *heldMetadata) recover() error {
	text, err := os.ReadFile(h.record)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r reservation
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("read %s: %w; remove it", h.record, err)
	}
	st, err := poolStatusOf(h.ctx, h.pool)
	if err != nil {
		return err
	}
	ours := st.held != "-" && st.held == r.Block
	if st.held != "-" && r.Block == "" {
		// Killed right before or right after it was made. One that another
		// program made since would, as a rule, be of a later transaction:
		// such programs make a snapshot first.
		if ours, err = h.isOf(r.Transaction); err != nil {
			return err
		}
	}
	if ours {
		if err := h.message("release_metadata_snap"); err != nil {
			return fmt.Errorf("release the metadata snapshot of thin pool %s that a killed snapd had left: %w", h.pool.full(), err)
		}
	}
	return os.Remove(h.record)
}

// isOf asks whether the metadata snapshot is of a transaction.
func (h *heldMetadata) isOf(transaction uint64) (bool, error) {
	out, err := run.Pipe(h.ctx, "thin_dump", "-m", "/dev/mapper/"+dmName(h.pool.vg, h.pool.name+"_tmeta", ""))
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
	records, err := filepath.Glob(filepath.Join(d.state, "metadata", "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range records {
		pool, ok := all.byUUID(strings.TrimSuffix(filepath.Base(file), ".json"))
		if !ok || !pool.active() {
			continue // gone, or to be looked at when it is there again
		}
		lock, err := lockFile(strings.TrimSuffix(file, ".json")+".lock", unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue // a living process is at it
		}
		if err == nil {
			h := &heldMetadata{pool: pool, record: file, lock: lock, ctx: context.WithoutCancel(ctx)}
			if _, statErr := os.Stat(file); statErr == nil {
				if err = h.recover(); err == nil {
					released = append(released, "the metadata snapshot of thin pool "+pool.full())
				}
			}
			err = errors.Join(err, lock.Close())
		}
		failed = errors.Join(failed, err)
	}
	return released, failed
}
