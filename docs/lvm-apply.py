#!/usr/bin/env python3
"""Applies snapd LVM streams to a block device or file, without snapd.

    lvm-apply.py TARGET STREAM...

TARGET  an existing volume at least as large as the streams say, not mounted:
        lvcreate -n restored -L SIZE vg   (or  -V SIZE --thinpool vg/pool)
STREAM  files, the full one first, then each increment on the one before

Each stream is checked from end to end before a byte of it is written, and
must build on what was applied before it. docs/FORMAT.md has the byte table.
"""
import hashlib
import os
import struct
import sys
import zlib

HEADER, RECORD = 256, 32


def fail(why):
    sys.exit("lvm-apply: " + why)


def take(f, n):
    data = f.read(n)
    if len(data) != n:
        fail(f.name + " is cut off")
    return data


def read(f):
    """Yields the header, then (kind, offset, length, data); checks it all."""
    head = take(f, HEADER)
    if head[:8] != b"snapdlvm" or struct.unpack(">H", head[8:10])[0] != 1:
        fail(f.name + " is no LVM stream of version 1")
    if zlib.crc32(head[:-4]) != struct.unpack(">I", head[-4:])[0]:
        fail(f.name + ": the header is damaged")
    size, base_size = struct.unpack(">QQ", head[16:32])
    yield {"size": size, "base_size": base_size, "increment": head[11] & 1,
           "makes": head[40:96], "base": head[96:152]}
    whole, at, records, carried = hashlib.sha256(head), 0, 0, 0
    while True:
        raw = take(f, RECORD)
        kind, offset, length, crc, own = struct.unpack(">B7xQQII", raw)
        if zlib.crc32(raw[:-4]) != own:
            fail(f.name + ": the head of a record is damaged")
        if kind == 3:
            digest = take(f, 32)
            if (offset, length, whole.digest()) != (records, carried, digest):
                fail(f.name + ": the digest of all does not fit")
            if f.read(1):
                fail(f.name + ": something follows the end")
            return
        if kind not in (1, 2) or offset < at or offset + length > size or length == 0:
            fail(f.name + ": a record is out of order")
        data = take(f, length) if kind == 1 else b""
        if kind == 1 and zlib.crc32(data) != crc:
            fail("%s: the data at byte %d is damaged" % (f.name, offset))
        whole.update(raw + data)
        at, records, carried = offset + length, records + 1, carried + len(data)
        yield kind, offset, length, data


def zero(target, start, end):
    """Writes zeros where there are none: nothing is allocated for them."""
    while start < end:
        n = min(1 << 20, end - start)
        target.seek(start)
        if target.read(n).strip(b"\0"):
            target.seek(start)
            target.write(bytes(n))
        start += n


def main(path, streams):
    last = None
    with open(path, "r+b", buffering=0) as target:
        room = target.seek(0, os.SEEK_END)
        for name in streams:
            with open(name, "rb") as f:
                head, *_ = [r for r in read(f) if isinstance(r, dict)]  # all of it
                if head["increment"] and (not last or head["base"] != last["makes"] or head["base_size"] != last["size"]):
                    fail(name + " does not build on the stream before it")
                if head["size"] > room:
                    fail("%s has %d bytes, and %s needs %d" % (path, room, name, head["size"]))
                f.seek(0)
                changes = read(f)
                next(changes)
                known, at = head["base_size"], 0  # beyond what is known, zeros
                for kind, offset, length, data in changes:
                    zero(target, max(at, known), offset)
                    if kind == 1:
                        target.seek(offset)
                        while data:
                            data = data[target.write(data):]
                    else:
                        zero(target, offset, offset + length)
                    at = offset + length
                zero(target, max(at, known), head["size"])
                os.fsync(target.fileno())
            last = head
            print("applied %s: %s, %d bytes" % (name, head["makes"][:40].rstrip(b"\0").decode(), head["size"]))


if len(sys.argv) < 3:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2:])
