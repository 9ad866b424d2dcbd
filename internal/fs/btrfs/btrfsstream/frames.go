package btrfsstream

import "encoding/binary"

// Frames follows the commands of a stream that passes, to see whether it ends
// with an END, and which file it is at.
type Frames struct {
	head []byte // of the stream or of a command, as far as it has passed
	skip int64  // bytes of the present command's body still to pass
	in   bool   // past the stream's header
	last uint16 // kind of the last command
	body []byte // of the present command, its beginning
	file []byte // what the last command was about that belongs to the file being sent
	at   uint64 // byte of it that was written last
}

// bodyKept is how much of a command is looked at, in bytes: a path and an offset.
const bodyKept = 4096 + 32

// Pass takes the next piece of the stream, of any size.
func (f *Frames) Pass(p []byte) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, int64(len(p)))
			f.body = append(f.body, p[:min(n, int64(bodyKept-len(f.body)))]...)
			if f.skip, p = f.skip-n, p[n:]; f.skip == 0 {
				f.note()
			}
			continue
		}
		want := commandHeaderSize
		if !f.in {
			want = streamHeaderSize
		}
		n := min(want-len(f.head), len(p))
		f.head, p = append(f.head, p[:n]...), p[n:]
		if len(f.head) < want {
			return
		}
		if f.in {
			f.skip, f.last = int64(binary.LittleEndian.Uint32(f.head)), binary.LittleEndian.Uint16(f.head[4:])
		}
		f.in, f.head, f.body = true, f.head[:0], f.body[:0]
	}
}

// note remembers what a command was about. The times that are set are those of
// directories too, which are sent anywhere.
func (f *Frames) note() {
	if f.last == cmdUtimes || f.last == cmdSubvol || f.last == cmdSnapshot {
		return
	}
	path, rest, ok := firstAttribute(f.body, attrPath)
	if !ok {
		return
	}
	if to, _, renamed := firstAttribute(rest, attrPathTo); renamed && f.last == cmdRename {
		path = to
	}
	f.file, f.at = append(f.file[:0], path...), 0
	if at, _, ok := firstAttribute(rest, attrFileOffset); ok && len(at) == 8 {
		f.at = binary.LittleEndian.Uint64(at)
	}
}

// firstAttribute returns the first attribute of what is left of a command, if it
// is of that kind, and what follows it.
func firstAttribute(body []byte, kind uint16) (value, rest []byte, ok bool) {
	if len(body) < 4 || binary.LittleEndian.Uint16(body) != kind {
		return nil, nil, false
	}
	length := int(binary.LittleEndian.Uint16(body[2:]))
	if len(body) < 4+length {
		return nil, nil, false
	}
	return body[4 : 4+length], body[4+length:], true
}

// At says where the stream is: a path below the subvolume's root, "" at its
// beginning, and the first byte of the last piece of that file that passed. Files
// come in the order of their inodes.
func (f *Frames) At() (path string, offset int64) { return string(f.file), int64(f.at) }

// Whole says whether all that passed are commands, the last one an END.
func (f *Frames) Whole() bool { return f.skip == 0 && len(f.head) == 0 && f.last == cmdEnd }
