package btrfsstream

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// Rewriter passes a stream on to btrfs receive, checked, with three changes:
//
//   - The new subvolume gets a name of ours, so that what a cut receive leaves
//     can be found and removed.
//   - The base is named by its identity on this filesystem. btrfs receive
//     looks a base up by received_uuid first and takes whichever subvolume it
//     finds; there can be several with the same (another restore, a replica, one
//     that a user made writable and changed).
//   - The times of the subvolume's root are set once more at the end. New inodes
//     come into being in the root under a passing name, which changes its times
//     here; the kernel's sender sets them right again only if it still has the
//     root among the 64 directories that it remembers (fs/btrfs/send.c,
//     dir_utimes_cache), and not at all when the root itself did not change.
//
// The END command comes through only when the whole stream has been seen and
// nothing follows it.
type Rewriter struct {
	Commands *commandReader
	name     string
	guid     UUID
	base     UUID   // as the stream names it; zero for a full one
	local    UUID   // of the base on this filesystem
	root     []byte // the last command that set the root's times; nil for none
	out      []byte
	scratch  []byte
	err      error
}

// NewRewriter reads as far as the stream's first command, so that a stream of
// another snapshot or on another base is refused before anything is made.
// root is the command that sets the root's times as the base has them, nil
// for a full stream.
func NewRewriter(r io.Reader, name string, guid, base, local UUID, root []byte) (*Rewriter, error) {
	commands, err := newCommandReader(r)
	if err != nil {
		return nil, err
	}
	w := &Rewriter{Commands: commands, name: name, guid: guid, base: base, local: local, root: root}
	kind, raw, err := commands.next()
	if err != nil {
		return nil, err
	}
	first, err := w.begin(kind, raw)
	if err != nil {
		return nil, err
	}
	w.out = append([]byte(streamMagic), 0, 0, 0, 0)
	binary.LittleEndian.PutUint32(w.out[len(streamMagic):], commands.Version)
	w.out = append(w.out, first...)
	return w, nil
}

func (w *Rewriter) begin(kind uint16, raw []byte) ([]byte, error) {
	b, err := parseBeginning(kind, raw)
	switch {
	case err != nil:
		return nil, err
	case b.UUID != w.guid:
		return nil, fmt.Errorf("the stream makes snapshot %s, and %s is wanted: %w", b.UUID, w.guid, fs.ErrBase)
	case b.cloneUUID != w.base:
		return nil, fmt.Errorf("the stream of snapshot %s builds on %s, and %s was announced: %w",
			b.UUID, OrNothing(b.cloneUUID), OrNothing(w.base), fs.ErrBase)
	}
	out := make([]byte, commandHeaderSize)
	out = appendAttribute(out, attrPath, []byte(w.name))
	out = appendAttribute(out, attrUUID, b.UUID[:])
	out = appendAttribute(out, attrCTransID, binary.LittleEndian.AppendUint64(nil, b.ctransid))
	if kind == cmdSnapshot {
		out = appendAttribute(out, attrCloneUUID, w.local[:])
		out = appendAttribute(out, attrCloneCTransID, binary.LittleEndian.AppendUint64(nil, b.cloneCTransID))
	}
	finishCommand(out, kind)
	return out, nil
}

// OrNothing is a UUID for a person to read.
func OrNothing(u UUID) string {
	if u.IsZero() {
		return "nothing"
	}
	return u.String()
}

// clone renames the base in a command that shares one of its extents.
func (w *Rewriter) clone(raw []byte) ([]byte, error) {
	w.scratch = append(w.scratch[:0], make([]byte, commandHeaderSize)...)
	err := attributes(raw, func(kind uint16, value []byte) error {
		if kind == attrCloneUUID {
			var from UUID
			if err := from.set(value); err != nil {
				return err
			}
			switch from {
			case w.guid: // from itself
			case w.base:
				value = w.local[:]
			default:
				return fmt.Errorf("the stream shares data with snapshot %s, which it does not build on: %w", from, fs.ErrBase)
			}
		}
		w.scratch = appendAttribute(w.scratch, kind, value)
		return nil
	})
	finishCommand(w.scratch, cmdClone)
	return w.scratch, err
}

// change returns what replaces a command.
func (w *Rewriter) change(kind uint16, raw []byte) ([]byte, error) {
	switch kind {
	case cmdClone:
		return w.clone(raw)
	case cmdUtimes:
		ofRoot := false
		err := attributes(raw, func(kind uint16, value []byte) error {
			ofRoot = ofRoot || kind == attrPath && len(value) == 0
			return nil
		})
		if ofRoot {
			w.root = append(w.root[:0], raw...)
		}
		return raw, err
	case cmdEnd:
		return append(w.root, raw...), nil
	}
	return raw, nil
}

// RootTimes is a command that gives the root of what is received the times
// that f has.
func RootTimes(f *os.File) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	out := appendAttribute(make([]byte, commandHeaderSize), attrPath, nil)
	for _, t := range []struct {
		attribute uint16
		at        unix.Timespec
	}{{attrATime, st.Atim}, {attrMTime, st.Mtim}, {attrCTime, st.Ctim}} {
		value := binary.LittleEndian.AppendUint64(nil, uint64(t.at.Sec))
		out = appendAttribute(out, t.attribute, binary.LittleEndian.AppendUint32(value, uint32(t.at.Nsec)))
	}
	finishCommand(out, cmdUtimes)
	return out, nil
}

func (w *Rewriter) Read(p []byte) (int, error) {
	for len(w.out) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		kind, raw, err := w.Commands.next()
		if err == nil {
			raw, err = w.change(kind, raw)
		}
		if err != nil {
			w.err = err
			return 0, err
		}
		w.out = raw
	}
	n := copy(p, w.out)
	w.out = w.out[n:]
	return n, nil
}
