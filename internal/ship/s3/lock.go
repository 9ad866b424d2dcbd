package s3

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
)

var _ ship.Locker = (*Store)(nil)

// LockOf is as ship.Locker says.
func (s *Store) LockOf(ctx context.Context, key string) (ship.Lock, error) {
	if err := ship.CheckKey(key); err != nil {
		return ship.Lock{}, err
	}
	mode, until, err := s.core.GetObjectRetention(ctx, s.bucket, s.prefix+key, "")
	if answer, ok := errors.AsType[minio.ErrorResponse](err); ok && answer.Code == "NoSuchObjectLockConfiguration" {
		return ship.Lock{}, nil
	}
	if err != nil {
		return ship.Lock{}, s.explainLock(ctx, "ask for the lock of "+key, err)
	}
	if mode == nil || until == nil {
		return ship.Lock{}, nil
	}
	return ship.Lock{Mode: ship.LockMode(*mode), Until: until.UTC()}, nil
}

// ExtendLock is as ship.Locker says. Servers refuse to shorten a lock, and to
// make a strict one weaker, with the words for a right that lacks: so what lies
// there is asked for when one is refused.
func (s *Store) ExtendLock(ctx context.Context, key string, l ship.Lock) error {
	if err := ship.CheckKey(key); err != nil {
		return err
	}
	err := s.putRetention(ctx, key, l)
	if err == nil || ctxOrAway(err) || errors.Is(err, ship.ErrNotFound) {
		return err
	}
	there, lerr := s.LockOf(ctx, key)
	switch {
	case errors.Is(lerr, ship.ErrNotFound):
		return lerr // which some servers do not say of what was deleted
	case lerr != nil:
		return err
	case !there.Until.Before(l.Until.Truncate(time.Second)):
		return nil
	case there.Mode == ship.Compliance && l.Mode != ship.Compliance:
		return s.putRetention(ctx, key, ship.Lock{Mode: ship.Compliance, Until: l.Until})
	}
	return err
}

func (s *Store) putRetention(ctx context.Context, key string, l ship.Lock) error {
	mode, until := minio.RetentionMode(l.Mode), l.Until.UTC().Truncate(time.Second)
	err := s.core.PutObjectRetention(ctx, s.bucket, s.prefix+key, minio.PutObjectRetentionOptions{Mode: &mode, RetainUntilDate: &until})
	return s.explainLock(ctx, "extend the lock of "+key, err)
}

// explainLock is explain for what some servers do not have at all: that is
// never worth trying again.
func (s *Store) explainLock(ctx context.Context, what string, err error) error {
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if ok && hasNoLocks(answer) {
		return fmt.Errorf("%s: bucket %s at %s has no object lock: %w", what, s.bucket, s.endpoint, errors.ErrUnsupported)
	}
	err = s.explain(ctx, what, err)
	if ok && answer.Code == "AccessDenied" && errors.Is(err, ship.ErrDenied) {
		err = advice.With(err, "give their user s3:PutObjectRetention and s3:GetObjectRetention below the prefix %s/%s", s.bucket, s.prefix)
	}
	return err
}

func hasNoLocks(a minio.ErrorResponse) bool {
	switch a.Code {
	case "NotImplemented", "ObjectLockConfigurationNotFoundError", "MethodNotAllowed":
		return true
	case "InvalidRequest":
		return strings.Contains(strings.ToLower(strings.ReplaceAll(a.Message, " ", "")), "objectlock")
	}
	return a.StatusCode == http.StatusNotImplemented
}

// How long the probe's object is locked: as short as may be, and once more for
// a server whose clock is ahead of this host's by as much as signatures allow.
const (
	probeLock      = time.Minute
	probeLockLong  = 16 * time.Minute
	probeLeftovers = time.Hour // what is older than this was left by an earlier probe
)

// LockTry is what ProbeLock found out.
type LockTry struct {
	Extends bool
	Denied  bool   // a right lacks; otherwise the server cannot
	Why     string // "" when locks can be extended
}

// ProbeLock tells whether locks of a mode can be extended, with an object of its
// own that is locked for a minute. What probes left behind whose locks have
// ended it removes, if it may. An error is why it could not find out.
func (s *Store) ProbeLock(ctx context.Context, mode string) (LockTry, error) {
	s.sweepProbes(ctx)
	var err error
	for _, period := range []time.Duration{probeLock, probeLockLong} {
		err = s.probeLock(ctx, ship.LockMode(mode), period)
		switch {
		case err == nil:
			return LockTry{Extends: true}, nil
		case errors.Is(err, ship.ErrDenied), errors.Is(err, errors.ErrUnsupported):
			return LockTry{Denied: errors.Is(err, ship.ErrDenied), Why: err.Error()}, nil
		case ctxOrAway(err):
			return LockTry{}, fmt.Errorf("try to extend a lock: %w", err)
		}
	}
	return LockTry{}, fmt.Errorf("try to extend a lock: %w", err)
}

func (s *Store) probeLock(ctx context.Context, mode ship.LockMode, period time.Duration) error {
	var chance [8]byte
	rand.Read(chance[:])
	key := "probe/" + hex.EncodeToString(chance[:])
	body := []byte("snapd asks whether it may extend locks\n")
	lock := ship.Lock{Mode: mode, Until: time.Now().UTC().Add(period).Truncate(time.Second)}
	info, err := s.put(ctx, key, body, false, sha256.Sum256(body), lock)
	if err != nil {
		return err
	}
	lock.Until = lock.Until.Add(time.Second)
	err = s.ExtendLock(ctx, key, lock)
	if err == nil {
		err = s.longEnough(ctx, key, lock)
	}
	o := minio.RemoveObjectOptions{VersionID: info.VersionID, GovernanceBypass: mode == ship.Governance}
	if s.core.RemoveObject(ctx, s.bucket, s.prefix+key, o) != nil {
		_ = s.Delete(ctx, key) // it is hidden, and a later probe removes it
	}
	return err
}

// longEnough looks whether what a server said it extended is.
func (s *Store) longEnough(ctx context.Context, key string, want ship.Lock) error {
	there, err := s.LockOf(ctx, key)
	if err == nil && there.Until.Before(want.Until) {
		err = fmt.Errorf("bucket %s at %s said that it extended a lock until %s, and it ends %s: %w", s.bucket, s.endpoint,
			want.Until.Format(time.RFC3339), there.Until.Format(time.RFC3339), errors.ErrUnsupported)
	}
	return err
}

// sweepProbes removes what earlier probes left. That it may not is no fault.
func (s *Store) sweepProbes(ctx context.Context) {
	o := minio.ListObjectsOptions{Prefix: s.prefix + "probe/", Recursive: true, WithVersions: true, MaxKeys: versionsPage}
	n := 0
	for v := range s.core.ListObjectsIter(ctx, s.bucket, o) {
		if n++; v.Err != nil || n > versionsPage {
			return
		}
		if time.Since(v.LastModified) > probeLeftovers {
			_ = s.core.RemoveObject(ctx, s.bucket, v.Key, minio.RemoveObjectOptions{VersionID: v.VersionID})
		}
	}
}
