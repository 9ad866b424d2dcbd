package ship

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// Encryption of a repository.
const (
	EncryptionAge  = "age"  // segments and secrets are encrypted to recipients
	EncryptionNone = "none" // compressed only: every program that reads the bucket reads everything
)

// zstdWindow bounds what a reader needs for one frame, ours or another
// program's (zstd -d takes up to 128 MiB without asking).
const zstdWindow = 4 << 20

// newEncoder makes an encoder at the level that zstd calls 3: on real files the
// fastest level stores 9 % more, and two workers at this one are as quick as
// zstd -3 -T2 (bench/README.md). It works in its caller's goroutine alone:
// segments are compressed beside each other, so each needs only one thread.
func newEncoder() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(zstdWindow))
}

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(2*zstdWindow))
}

// sealInto appends plain to dst as one zstd frame, in an age file if there
// are recipients.
func sealInto(dst *bytes.Buffer, plain []byte, enc *zstd.Encoder, recipients []age.Recipient) error {
	var out io.Writer = dst
	var box io.WriteCloser
	if len(recipients) > 0 {
		var err error
		if box, err = age.Encrypt(dst, recipients...); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		out = box
	}
	enc.ResetContentSize(out, int64(len(plain)))
	if _, err := enc.Write(plain); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := enc.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if box != nil {
		if err := box.Close(); err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
	}
	return nil
}

// zstdBlock is the most that a block of a frame may hold.
const zstdBlock = 128 << 10

// storeInto does as sealInto, with a frame that holds plain as it is: of what
// the storage has compressed already. RFC 8878: magic, a descriptor that
// promises 4 bytes of content size, the window (2^22), the size, and blocks of
// the type raw.
func storeInto(dst *bytes.Buffer, plain []byte, recipients []age.Recipient) error {
	out := io.WriteCloser(nopCloser{dst})
	if len(recipients) > 0 {
		box, err := age.Encrypt(dst, recipients...)
		if err != nil {
			return fmt.Errorf("encrypt: %w", err)
		}
		out = box
	}
	header := []byte{0x28, 0xb5, 0x2f, 0xfd, 2 << 6, (22 - 10) << 3}
	header = binary.LittleEndian.AppendUint32(header, uint32(len(plain)))
	_, err := out.Write(header)
	for last := false; err == nil && !last; {
		n := min(len(plain), zstdBlock)
		last = n == len(plain)
		block := uint32(n) << 3
		if last {
			block |= 1
		}
		if _, err = out.Write([]byte{byte(block), byte(block >> 8), byte(block >> 16)}); err == nil {
			_, err = out.Write(plain[:n])
		}
		plain = plain[n:]
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// unseal fills all of plain from what sealInto made, and refuses what holds
// less or more: the length is signed, so a few bytes cannot become terabytes.
func unseal(plain, stored []byte, dec *zstd.Decoder, identities []age.Identity) error {
	var in io.Reader = bytes.NewReader(stored)
	if identities != nil {
		var err error
		if in, err = age.Decrypt(in, identities...); err != nil {
			return unsealError(err)
		}
	}
	// Wrapped, so that the decoder streams whatever the size.
	if err := dec.Reset(struct{ io.Reader }{in}); err != nil {
		return fmt.Errorf("decompress: %w: %w", ErrDamaged, err)
	}
	if n, err := io.ReadFull(dec, plain); err != nil {
		return fmt.Errorf("decompress: %w: only %d of %d bytes: %w", ErrDamaged, n, len(plain), err)
	}
	var more [1]byte
	if n, err := io.ReadFull(dec, more[:]); n > 0 {
		return fmt.Errorf("decompress: %w: more than the signed %d bytes", ErrDamaged, len(plain))
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("decompress: %w: %w", ErrDamaged, err)
	}
	return nil
}

func unsealError(err error) error {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return fmt.Errorf("decrypt: %w: %w", ErrNoIdentity, err)
	}
	return fmt.Errorf("decrypt: %w: %w", ErrDamaged, err)
}

// maxSecret bounds the plain form of a point's encrypted part.
const maxSecret = 32 << 20

func sealSecret(plain []byte, recipients []age.Recipient) ([]byte, error) {
	if len(plain) > maxSecret {
		return nil, fmt.Errorf("the secret part of a point is %d bytes long, more than %d", len(plain), maxSecret)
	}
	enc, err := newEncoder()
	if err != nil {
		return nil, err
	}
	var dst bytes.Buffer
	if err := sealInto(&dst, plain, enc, recipients); err != nil {
		return nil, err
	}
	return dst.Bytes(), nil
}

// unsealSecret returns what sealSecret was given.
func unsealSecret(stored []byte, identities []age.Identity) ([]byte, error) {
	var in io.Reader = bytes.NewReader(stored)
	if identities != nil {
		var err error
		if in, err = age.Decrypt(in, identities...); err != nil {
			return nil, unsealError(err)
		}
	}
	dec, err := newDecoder()
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	if err := dec.Reset(struct{ io.Reader }{in}); err != nil {
		return nil, fmt.Errorf("decompress: %w: %w", ErrDamaged, err)
	}
	plain, err := io.ReadAll(io.LimitReader(dec, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w: %w", ErrDamaged, err)
	}
	if len(plain) > maxSecret {
		return nil, fmt.Errorf("decompress: %w: more than %d bytes", ErrDamaged, maxSecret)
	}
	return plain, nil
}

// recipientsDigest names a set of recipients, so that an upload is not
// continued with segments that other people can read. "" when one of them
// cannot be named.
func recipientsDigest(recipients []age.Recipient) string {
	names := recipientNames(recipients)
	if names == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	return Digest(sum).String()
}

// recipientNames are sorted; nil when one of them has none.
func recipientNames(recipients []age.Recipient) []string {
	names := make([]string, 0, len(recipients))
	for _, r := range recipients {
		s, ok := r.(fmt.Stringer)
		if !ok {
			return nil
		}
		names = append(names, s.String())
	}
	slices.Sort(names)
	return names
}
