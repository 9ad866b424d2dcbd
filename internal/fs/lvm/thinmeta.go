package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
)

// What a thin pool's metadata says of its devices, read from the metadata device
// itself while the pool works: a metadata snapshot would do as well, but only one
// can be there, and a ship may have it. The kernel never writes over a block that
// the committed superblock leads to, so what was read is right if the superblock is
// the same before and after. Its format is in drivers/md/dm-thin-metadata.c and
// persistent-data/dm-btree-internal.h of the kernel; all numbers are little-endian.
const (
	metaBlock     = 4096 // bytes
	metaMagic     = 27022010
	metaSuperXor  = 160774
	metaNodeXor   = 121107
	metaNodeHead  = 32 // bytes before a node's keys
	metaInternal  = 1  // flag of a node
	metaLeaf      = 2
	metaDetails   = 24 // bytes of a device's details
	metaDepth     = 16 // no tree is as deep
	metaMagicAt   = 32
	metaDetailsAt = 328 // of the tree's root, in the superblock
)

// thinDevice is one device of a pool.
type thinDevice struct {
	mapped      uint64 // blocks
	transaction uint64 // of the pool, when it was made
	created     uint32 // the pool's count of snapshots then
	snapshotted uint32 // the same when the last snapshot of it was made
}

// errMetaMoved says that the metadata was committed meanwhile.
var errMetaMoved = errors.New("the pool's metadata changes while it is read")

// readThinDevices lists the devices of a pool by their ids. buf is memory as direct
// input wants it, of a block at least. In a pool that commits all the time it is all
// that was seen in many tries: a device that was there all the while was seen.
func readThinDevices(r io.ReaderAt, buf []byte) (map[uint64]thinDevice, error) {
	const tries = 20
	seen := map[uint64]thinDevice{}
	whole := false
	var failed error
	for range tries {
		found, err := readThinOnce(r, buf[:metaBlock])
		if err == nil {
			return found, nil
		}
		if errors.Is(err, errMetaMoved) {
			whole = true
			maps.Copy(seen, found)
			continue
		}
		failed = err // or a block was given to another tree meanwhile
	}
	if whole {
		return seen, nil
	}
	return nil, failed
}

func readThinOnce(r io.ReaderAt, buf []byte) (map[uint64]thinDevice, error) {
	if err := readMeta(r, buf, 0, metaSuperXor); err != nil {
		return nil, err
	}
	if magic := binary.LittleEndian.Uint64(buf[metaMagicAt:]); magic != metaMagic {
		return nil, fmt.Errorf("the pool's metadata begins with %d", magic)
	}
	before := [metaBlock]byte(buf)
	found := map[uint64]thinDevice{}
	if err := readDetails(r, buf, binary.LittleEndian.Uint64(buf[metaDetailsAt:]), metaDepth, found); err != nil {
		return nil, err
	}
	if err := readMeta(r, buf, 0, metaSuperXor); err != nil {
		return nil, err
	}
	if before != [metaBlock]byte(buf) {
		return found, errMetaMoved
	}
	return found, nil
}

// readMeta reads a block and checks its sum.
func readMeta(r io.ReaderAt, buf []byte, block uint64, xor uint32) error {
	if block > 1<<40 {
		return fmt.Errorf("the pool's metadata names block %d", block)
	}
	if _, err := r.ReadAt(buf, int64(block)*metaBlock); err != nil {
		return fmt.Errorf("read block %d of the pool's metadata: %w", block, err)
	}
	sum := ^crc32.Checksum(buf[4:], crc32.MakeTable(crc32.Castagnoli)) ^ xor
	if sum != binary.LittleEndian.Uint32(buf) {
		return fmt.Errorf("block %d of the pool's metadata: its sum is wrong", block)
	}
	return nil
}

// readDetails reads the tree of details from a node on.
func readDetails(r io.ReaderAt, buf []byte, block uint64, depth int, found map[uint64]thinDevice) error {
	if depth == 0 {
		return errors.New("the tree of the pool's devices is too deep")
	}
	if err := readMeta(r, buf, block, metaNodeXor); err != nil {
		return err
	}
	flags, at := binary.LittleEndian.Uint32(buf[4:]), binary.LittleEndian.Uint64(buf[8:])
	entries, most, size := int(binary.LittleEndian.Uint32(buf[16:])), int(binary.LittleEndian.Uint32(buf[20:])), int(binary.LittleEndian.Uint32(buf[24:]))
	want := map[uint32]int{metaInternal: 8, metaLeaf: metaDetails}[flags]
	if at != block || size != want || entries > most || most > metaBlock/8 || metaNodeHead+most*(8+size) > metaBlock {
		return fmt.Errorf("block %d of the pool's metadata is no node of the tree of its devices", block)
	}
	values := buf[metaNodeHead+8*most:]
	if flags == metaLeaf {
		for i := range entries {
			v := values[i*metaDetails:]
			found[binary.LittleEndian.Uint64(buf[metaNodeHead+8*i:])] = thinDevice{
				mapped: binary.LittleEndian.Uint64(v), transaction: binary.LittleEndian.Uint64(v[8:]),
				created: binary.LittleEndian.Uint32(v[16:]), snapshotted: binary.LittleEndian.Uint32(v[20:]),
			}
		}
		return nil
	}
	below := make([]uint64, entries) // buf is read over
	for i := range below {
		below[i] = binary.LittleEndian.Uint64(values[8*i:])
	}
	for _, b := range below {
		if err := readDetails(r, buf, b, depth-1, found); err != nil {
			return err
		}
	}
	return nil
}
