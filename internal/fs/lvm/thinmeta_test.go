package lvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"maps"
	"testing"

	"snapd/internal/advice"
)

// metaImage is a pool's metadata for tests.
type metaImage []byte

func (m metaImage) block(n int) []byte { return m[n*metaBlock : (n+1)*metaBlock] }

func (m metaImage) sum(n int, xor uint32) {
	b := m.block(n)
	binary.LittleEndian.PutUint32(b, ^crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli))^xor)
}

func (m metaImage) super(root uint64) {
	b := m.block(0)
	binary.LittleEndian.PutUint64(b[metaMagicAt:], metaMagic)
	binary.LittleEndian.PutUint64(b[metaDetailsAt:], root)
	m.sum(0, metaSuperXor)
}

func (m metaImage) node(n int, flags uint32, keys []uint64, values ...[]byte) {
	b := m.block(n)
	most := 126 // a multiple of three, as the kernel has it
	binary.LittleEndian.PutUint32(b[4:], flags)
	binary.LittleEndian.PutUint64(b[8:], uint64(n))
	binary.LittleEndian.PutUint32(b[16:], uint32(len(keys)))
	binary.LittleEndian.PutUint32(b[20:], uint32(most))
	binary.LittleEndian.PutUint32(b[24:], uint32(len(values[0])))
	for i, k := range keys {
		binary.LittleEndian.PutUint64(b[metaNodeHead+8*i:], k)
		copy(b[metaNodeHead+8*most+i*len(values[0]):], values[i])
	}
	m.sum(n, metaNodeXor)
}

func details(mapped, transaction uint64, created, snapshotted uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, mapped)
	b = binary.LittleEndian.AppendUint64(b, transaction)
	b = binary.LittleEndian.AppendUint32(b, created)
	return binary.LittleEndian.AppendUint32(b, snapshotted)
}

func pointer(block uint64) []byte { return binary.LittleEndian.AppendUint64(nil, block) }

func newMetaImage() metaImage {
	m := make(metaImage, 8*metaBlock)
	m.super(5)
	m.node(5, metaInternal, []uint64{1, 7}, pointer(2), pointer(3))
	m.node(2, metaLeaf, []uint64{1, 2}, details(10, 0, 0, 1), details(10, 1, 1, 1))
	m.node(3, metaLeaf, []uint64{7}, details(128, 1, 1, 1))
	return m
}

func TestReadThinDevices(t *testing.T) {
	want := map[uint64]thinDevice{1: {10, 0, 0, 1}, 2: {10, 1, 1, 1}, 7: {128, 1, 1, 1}}
	buf := make([]byte, metaBlock)
	if got, err := readThinDevices(bytes.NewReader(newMetaImage()), buf); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for name, spoil := range map[string]func(m metaImage){
		"a sum":            func(m metaImage) { m.block(3)[100] ^= 1 },
		"another magic":    func(m metaImage) { m.block(0)[metaMagicAt]++; m.sum(0, metaSuperXor) },
		"a loop":           func(m metaImage) { m.node(5, metaInternal, []uint64{1}, pointer(5)) },
		"outside":          func(m metaImage) { m.super(1 << 50) },
		"behind the end":   func(m metaImage) { m.super(8) },
		"another's node":   func(m metaImage) { copy(m.block(2), m.block(3)) },
		"too many entries": func(m metaImage) { m.block(2)[17] = 1; m.sum(2, metaNodeXor) },
		"too large":        func(m metaImage) { m.block(2)[21] = 1; m.sum(2, metaNodeXor) },
		"another tree":     func(m metaImage) { m.node(2, metaLeaf, []uint64{1}, pointer(1)) },
	} {
		m := newMetaImage()
		spoil(m)
		if got, err := readThinDevices(bytes.NewReader(m), buf); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// committing is metadata that is committed anew between two reads of the
// superblock, some times.
type committing struct {
	metaImage
	times int
}

func (c *committing) ReadAt(p []byte, at int64) (int, error) {
	n, err := bytes.NewReader(c.metaImage).ReadAt(p, at)
	if at == 2*metaBlock && c.times > 0 {
		c.times--
		c.block(0)[48]++ // the transaction
		c.sum(0, metaSuperXor)
	}
	return n, err
}

func TestReadThinDevicesWhileTheyChange(t *testing.T) {
	var _ io.ReaderAt = (*committing)(nil)
	buf := make([]byte, metaBlock)
	if got, err := readThinDevices(&committing{newMetaImage(), 3}, buf); err != nil || len(got) != 3 {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := readThinOnce(&committing{newMetaImage(), 1000}, buf); !errors.Is(err, errMetaMoved) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := readThinDevices(&committing{newMetaImage(), 1000}, buf); err != nil || len(got) != 3 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestUnknownDeviceIsNamed(t *testing.T) {
	pool := volume{vg: "v-g", name: "pool", uuid: "P", segtype: "thin-pool", chunk: 64 << 10}
	all := volumes{pool, {poolUUID: "P", segtype: "thin", thinID: 4}, {poolUUID: "Q", segtype: "thin", thinID: 9}, {poolUUID: "P", segtype: "thin", thinID: 2}}
	if got := all.nextID(pool); got != 5 {
		t.Errorf("the next is %d, want 5", got)
	}
	err := unknownError(pool, 5, thinDevice{mapped: 16})
	if want := "thin pool v-g/pool has one with the id 5, with 1024 KiB of data"; !bytes.Contains([]byte(err.Error()), []byte(want)) {
		t.Errorf("got %q, want %q in it", err, want)
	}
	if want := "dmsetup message v--g-pool-tpool 0 'delete 5'"; !bytes.Contains([]byte(advice.Of(err)), []byte(want)) {
		t.Errorf("advice %q, want %q in it", advice.Of(err), want)
	}
}
