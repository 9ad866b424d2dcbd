package vmtest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// console is the file into which QEMU writes what the guest's first serial
// line says. It goes on over resets and reboots.
type console struct{ path string }

// size is how much the guest has said, in bytes.
func (c console) size() int64 {
	info, err := os.Stat(c.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// since returns what was said after the first offset bytes.
func (c console) since(offset int64) string {
	file, err := os.Open(c.path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return ""
	}
	return clean(text)
}

// tail returns the last lines that were said.
func (c console) tail(lines int) string {
	const enough = 200 // bytes a line
	text := c.since(max(0, c.size()-int64(lines*enough)))
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// clean takes out what moves a terminal's cursor or colours its text, and the
// lines that were written over.
func clean(text []byte) string {
	var out []byte
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == 0x1b && i+1 < len(text) && text[i+1] == '[':
			for i += 2; i < len(text) && (text[i] < 0x40 || text[i] > 0x7e); i++ {
			}
		case b == 0x1b && i+1 < len(text) && text[i+1] == 'M': // up one line
			i++
			out = bytes.TrimSuffix(out, []byte("\n"))
			out = out[:bytes.LastIndexByte(out, '\n')+1]
		case b == '\r' || b == 0x1b:
		default:
			out = append(out, b)
		}
	}
	return string(out)
}

// explain adds to err what a reader needs to understand it: the last words of
// the guest and of QEMU.
func explain(err error, c console, messages string, events []string) error {
	if err == nil {
		return nil
	}
	var text strings.Builder
	if said := c.tail(25); said != "" {
		fmt.Fprintf(&text, "\n--- the guest's console, last lines ---\n%s", said)
	}
	if messages = strings.TrimSpace(messages); messages != "" {
		fmt.Fprintf(&text, "\n--- QEMU said ---\n%s", messages)
	}
	if len(events) > 0 {
		fmt.Fprintf(&text, "\n--- QEMU's events: %s ---", strings.Join(events, " "))
	}
	return fmt.Errorf("%w%s", err, text.String())
}
