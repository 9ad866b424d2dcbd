package btrfsstream

import "encoding/binary"

// Frames follows the commands of a stream that passes, to see whether it ends
// with an END.
type Frames struct {
	head []byte // of the stream or of a command, as far as it has passed
	skip int64  // bytes of the present command's body still to pass
	in   bool   // past the stream's header
	last uint16 // kind of the last command
}

// Pass takes the next piece of the stream, of any size.
func (f *Frames) Pass(p []byte) {
	for len(p) > 0 {
		if f.skip > 0 {
			n := min(f.skip, int64(len(p)))
			f.skip, p = f.skip-n, p[n:]
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
		f.in, f.head = true, f.head[:0]
	}
}

// Whole says whether all that passed are commands, the last one an END.
func (f *Frames) Whole() bool { return f.skip == 0 && len(f.head) == 0 && f.last == cmdEnd }
