package zfsstream

import (
	"bytes"
	"io"
	"testing"
)

// recordsOf splits a stream.
func recordsOf(t testing.TB, data []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for len(data) > 0 {
		h := Head(data[:HeadSize])
		n, err := h.Payload()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data[:HeadSize+n])
		data = data[HeadSize+n:]
	}
	return out
}

// from opens data at the last multiple of slice before the byte wanted.
func from(data []byte, slice int64, read *int64) Opener {
	return func(want int64) (io.ReadCloser, int64, error) {
		at := want / slice * slice
		return &counted{bytes.NewReader(data[at:]), read}, at, nil
	}
}

type counted struct {
	io.Reader
	n *int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	*c.n += int64(n)
	return n, err
}

func (c *counted) Close() error { return nil }
