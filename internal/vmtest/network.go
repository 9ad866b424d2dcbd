package vmtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
)

// Network lets guests reach each other: a switch inside this program. Its
// frames pass through socket pairs; no port is opened and nothing leaves the
// machine. The zero value is ready to use; it ends with its guests.
type Network struct {
	mu    sync.Mutex
	last  int // hosts that have been given an address
	ports map[*port]struct{}
}

// port is one guest's plug.
type port struct {
	conn   net.Conn
	frames chan []byte // to the guest; full means that it does not listen
}

const (
	maxFrame    = 1 << 17 // bytes; QEMU's own limit is below that
	portBacklog = 1024    // frames
)

// address gives the next guest its place in 192.168.77.0/24.
func (n *Network) address() (netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	if n.last > 200 {
		return netip.Addr{}, fmt.Errorf("a network has room for 200 guests")
	}
	return netip.AddrFrom4([4]byte{192, 168, 77, byte(10 + n.last)}), nil
}

// plug returns the guest's end of a new cable. When QEMU ends, so does it.
func (n *Network) plug() (*os.File, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	p := &port{conn: ours, frames: make(chan []byte, portBacklog)}
	n.mu.Lock()
	if n.ports == nil {
		n.ports = make(map[*port]struct{})
	}
	n.ports[p] = struct{}{}
	n.mu.Unlock()
	go p.send()
	go n.receive(p)
	return theirs, nil
}

// receive passes what the guest says to all others, until its cable is cut.
func (n *Network) receive(p *port) {
	defer func() {
		n.mu.Lock()
		delete(n.ports, p)
		close(p.frames)
		n.mu.Unlock()
		_ = p.conn.Close()
	}()
	in := bufio.NewReaderSize(p.conn, maxFrame)
	for {
		// QEMU's stream format: length in four bytes, big-endian, then the frame.
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return
		}
		length := binary.BigEndian.Uint32(head[:])
		if length > maxFrame {
			return
		}
		frame := make([]byte, 4+length)
		copy(frame, head[:])
		if _, err := io.ReadFull(in, frame[4:]); err != nil {
			return
		}
		n.mu.Lock()
		for other := range n.ports {
			if other == p {
				continue
			}
			select {
			case other.frames <- frame:
			default: // as a switch does: what does not fit is lost, TCP sends it again
			}
		}
		n.mu.Unlock()
	}
}

func (p *port) send() {
	for frame := range p.frames {
		if _, err := p.conn.Write(frame); err != nil {
			_ = p.conn.Close() // receive notices and unplugs
		}
	}
}
