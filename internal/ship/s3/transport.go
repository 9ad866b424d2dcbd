package s3

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Timeouts bound how long a server may be silent. There is none for a whole
// request: a slow line is no error.
type Timeouts struct {
	Dial time.Duration // 15 s if 0; the handshake of TLS too
	Idle time.Duration // no byte goes either way; 60 s if 0
}

func newTransport(t Timeouts) *http.Transport {
	if t.Dial == 0 {
		t.Dial = 15 * time.Second
	}
	if t.Idle == 0 {
		t.Idle = time.Minute
	}
	dialer := &net.Dialer{Timeout: t.Dial, KeepAlive: 15 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &idleConn{Conn: c, idle: t.Idle}, nil
		},
		TLSHandshakeTimeout:   t.Dial,
		ResponseHeaderTimeout: t.Idle,
		ExpectContinueTimeout: 2 * time.Second,
		IdleConnTimeout:       t.Idle / 2, // before idleConn would end it
		MaxIdleConnsPerHost:   16,
		// Objects are encrypted: asking for gzip would only cost.
		DisableCompression: true,
		WriteBufferSize:    64 << 10,
		ReadBufferSize:     64 << 10,
	}
}

// idleConn ends a connection on which nothing moves. http.Transport has a
// deadline for the header of an answer, but none for a body that is not taken
// or not delivered.
type idleConn struct {
	net.Conn
	idle time.Duration
}

func (c *idleConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *idleConn) Write(p []byte) (int, error) {
	// Sending moves the deadline of the reader that waits for the answer too.
	if err := c.SetDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
