package ship

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Memory bounds what uploads take, however many run at once. With slices of
// 16 MiB and four or more processors it is nine buffers and three encoders,
// about 170 MiB, and only when the data cannot be compressed.
//
// Buffers are ordinary memory and not mapped beside the heap: an HTTP
// transport may look at a body a moment longer than its caller waited.
type Memory struct {
	cpus   chan struct{} // held while compressing and encrypting
	plain  chan struct{} // held from reading a slice until it is encrypted
	sealed chan struct{} // held from encrypting until the object is acknowledged

	mu       sync.Mutex
	users    int
	slices   [][]byte
	buffers  []*bytes.Buffer
	encoders []*zstd.Encoder
}

const (
	// maxSealers is not more, because each costs 40 MiB, and a fourth would
	// not fit beside the rest of a process into 256 MiB.
	maxSealers = 3
	// extraPuts are in flight while all encoders work.
	extraPuts = 2
)

// NewMemory makes a budget for one process.
func NewMemory() *Memory {
	n := min(runtime.GOMAXPROCS(0), maxSealers)
	return &Memory{
		cpus:   make(chan struct{}, n),
		plain:  make(chan struct{}, n+1),
		sealed: make(chan struct{}, n+extraPuts),
	}
}

// workers is how many goroutines one upload uses: one per object in flight.
func (m *Memory) workers() int { return cap(m.sealed) }

// use counts an upload in; the returned function counts it out, and the last
// one frees the memory.
func (m *Memory) use() (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.users--; m.users > 0 {
			return
		}
		many := len(m.slices)+len(m.buffers) > 2
		m.slices, m.buffers, m.encoders = nil, nil, nil
		if many {
			// Now, or the next upload makes its buffers while these still
			// wait for the collector, and the process takes twice as much.
			debug.FreeOSMemory()
		}
	}
}

func take(ctx context.Context, tokens chan struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slice gives a buffer of size bytes once there is room.
func (m *Memory) slice(ctx context.Context, size int) ([]byte, error) {
	if err := take(ctx, m.plain); err != nil {
		return nil, err
	}
	if b, ok := pop(&m.mu, &m.slices); ok && cap(b) >= size {
		return b[:size], nil
	}
	return make([]byte, size), nil
}

func (m *Memory) freeSlice(b []byte) {
	push(&m.mu, &m.slices, b)
	<-m.plain
}

// buffer gives an empty buffer for an object made of up to size bytes.
func (m *Memory) buffer(ctx context.Context, size int) (*bytes.Buffer, error) {
	if err := take(ctx, m.sealed); err != nil {
		return nil, err
	}
	if b, ok := pop(&m.mu, &m.buffers); ok {
		b.Reset()
		return b, nil
	}
	// What cannot be compressed grows by 3 bytes in each block of 64 KiB,
	// encrypting adds 16 bytes to as much and a header. Pages that a small
	// object does not touch cost nothing.
	return bytes.NewBuffer(make([]byte, 0, size+size>>10+16<<10)), nil
}

func (m *Memory) freeBuffer(b *bytes.Buffer) {
	push(&m.mu, &m.buffers, b)
	<-m.sealed
}

// encoder gives an encoder once a processor is free for it.
func (m *Memory) encoder(ctx context.Context) (*zstd.Encoder, error) {
	if err := take(ctx, m.cpus); err != nil {
		return nil, err
	}
	if e, ok := pop(&m.mu, &m.encoders); ok {
		return e, nil
	}
	e, err := newEncoder()
	if err != nil {
		<-m.cpus
		return nil, err
	}
	return e, nil
}

func (m *Memory) freeEncoder(e *zstd.Encoder) {
	e.Reset(nil) // so that it no longer refers to the buffer it wrote to
	push(&m.mu, &m.encoders, e)
	<-m.cpus
}

func pop[T any](mu *sync.Mutex, list *[]T) (v T, ok bool) {
	mu.Lock()
	defer mu.Unlock()
	n := len(*list)
	if n == 0 {
		return v, false
	}
	v, (*list)[n-1] = (*list)[n-1], v
	*list = (*list)[:n-1]
	return v, true
}

func push[T any](mu *sync.Mutex, list *[]T, v T) {
	mu.Lock()
	defer mu.Unlock()
	*list = append(*list, v)
}
