package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
)

// Digest is the SHA-256 of an object as it lies in the store.
type Digest [sha256.Size]byte

func digestOf(b []byte) Digest { return sha256.Sum256(b) }

// String gives 64 hexadecimal digits in lower case.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero tells whether this is no digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest accepts what String gives and nothing else.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return Digest{}, fmt.Errorf("%q is not a SHA-256 digest", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil || d.String() != s {
		return Digest{}, fmt.Errorf("%q is not a SHA-256 digest in lower case", s)
	}
	return d, nil
}

// MarshalText is String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is ParseDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	got, err := ParseDigest(string(text))
	if err != nil {
		return err
	}
	*d = got
	return nil
}

// fetch reads a whole object that must not be longer than limit into dst,
// which it empties first.
func fetch(ctx context.Context, s Store, key string, limit int64, dst *bytes.Buffer) error {
	once := func() error {
		dst.Reset()
		body, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		n, err := io.Copy(dst, io.LimitReader(body, limit+1))
		if cerr := body.Close(); err == nil && n <= limit {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, cut(ctx, err))
		}
		if n > limit {
			return fmt.Errorf("object %s: %w: longer than the %d bytes it may have", key, ErrDamaged, limit)
		}
		return nil
	}
	if r, ok := s.(*retryStore); ok {
		s = r.store // once is repeated as a whole, not its parts as well
		return r.retry(ctx, once)
	}
	return once()
}

// hashObject reads a whole object that must not be longer than limit, and keeps
// nothing of it but its digest and its size in bytes.
func hashObject(ctx context.Context, s Store, key string, limit int64) (sum Digest, size int64, err error) {
	once := func() error {
		body, err := s.Get(ctx, key)
		if err != nil {
			return err
		}
		h := sha256.New()
		size, err = io.Copy(h, io.LimitReader(body, limit+1))
		if cerr := body.Close(); err == nil && size <= limit {
			err = cerr
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", key, cut(ctx, err))
		}
		if size > limit {
			return fmt.Errorf("object %s: %w: longer than the %d bytes it may have", key, ErrDamaged, limit)
		}
		h.Sum(sum[:0])
		return nil
	}
	if r, ok := s.(*retryStore); ok {
		s = r.store // once is repeated as a whole, not its parts as well
		err = r.retry(ctx, once)
	} else {
		err = once()
	}
	return sum, size, err
}

// anyLength is for a caller that wants to know how long an object is.
const anyLength = math.MaxInt64 - 1

// cut makes a body that broke off a reason to try again, unless the store
// said what it was or the caller gave up.
func cut(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, known := range []error{ErrUnavailable, ErrNotFound, ErrDenied, ErrNoBucket, ErrNotAStore, ErrDamaged} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: the object broke off: %w", ErrUnavailable, err)
}
