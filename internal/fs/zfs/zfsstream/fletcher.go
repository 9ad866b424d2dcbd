package zfsstream

import "encoding/binary"

// fletcher is the running checksum of a stream: fletcher-4 over 32-bit words,
// little-endian, with sums of 64 bits that wrap.
type fletcher [4]uint64

const fletcherSize = 32 // bytes of a checksum in a stream

// add goes on over b, whose length is a multiple of 4.
func (f *fletcher) add(b []byte) {
	a0, a1, a2, a3 := f[0], f[1], f[2], f[3]
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		b = b[8:]
		a0 += w & 0xffffffff
		a1 += a0
		a2 += a1
		a3 += a2
		a0 += w >> 32
		a1 += a0
		a2 += a1
		a3 += a2
	}
	for len(b) >= 4 {
		a0 += uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		a1 += a0
		a2 += a1
		a3 += a2
	}
	f[0], f[1], f[2], f[3] = a0, a1, a2, a3
}

// after is the checksum of n words of zero that follow f: what f counts for in
// a checksum that goes on over n words more.
func (f fletcher) after(n uint64) fletcher {
	// The sums of 1, of 1..n, and of those sums. They wrap as the checksum
	// does; the halves and thirds are taken before they can.
	ones := n
	twos := halve(n, n+1)
	threes := third(n, n+1, n+2)
	return fletcher{
		f[0],
		f[1] + ones*f[0],
		f[2] + ones*f[1] + twos*f[0],
		f[3] + ones*f[2] + twos*f[1] + threes*f[0],
	}
}

// halve is a*b/2 for numbers that follow each other.
func halve(a, b uint64) uint64 {
	if a%2 == 0 {
		return a / 2 * b
	}
	return a * (b / 2)
}

// third is a*b*c/6 for numbers that follow each other.
func third(a, b, c uint64) uint64 {
	n := [3]uint64{a, b, c}
	for i := range n {
		if n[i]%3 == 0 {
			n[i] /= 3
			break
		}
	}
	for i := range n {
		if n[i]%2 == 0 {
			n[i] /= 2
			break
		}
	}
	return n[0] * n[1] * n[2]
}

// less takes away what earlier counts for.
func (f fletcher) less(earlier fletcher) fletcher {
	for i := range f {
		f[i] -= earlier[i]
	}
	return f
}

// plus joins the checksums of two pieces of equal length and position.
func (f fletcher) plus(other fletcher) fletcher {
	for i := range f {
		f[i] += other[i]
	}
	return f
}

func (f fletcher) put(b []byte) {
	for i, word := range f {
		binary.LittleEndian.PutUint64(b[8*i:], word)
	}
}

func getFletcher(b []byte) (f fletcher) {
	for i := range f {
		f[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return f
}

// fletcherOf is the checksum of b alone.
func fletcherOf(b []byte) (f fletcher) {
	f.add(b)
	return f
}
