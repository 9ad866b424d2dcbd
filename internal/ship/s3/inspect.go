package s3

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
)

// Probe puts a small object twice with If-None-Match and says whether the
// server refused the second. Servers that do not know the header let two
// hosts overwrite each other. It removes the object again, if it may.
func (s *Store) Probe(ctx context.Context) (honoursIfNoneMatch bool, err error) {
	var chance [8]byte
	rand.Read(chance[:])
	key := "probe/" + hex.EncodeToString(chance[:])
	if err := s.Put(ctx, key, []byte("snapd asks whether If-None-Match is honoured\n"), true); err != nil {
		return false, fmt.Errorf("probe: %w", err)
	}
	err = s.Put(ctx, key, []byte("snapd asks once more\n"), true)
	honoursIfNoneMatch = errors.Is(err, ship.ErrExists)
	if honoursIfNoneMatch {
		err = nil
	}
	if derr := s.Delete(ctx, key); derr != nil && !errors.Is(derr, ship.ErrDenied) {
		err = errors.Join(err, derr)
	}
	if err != nil {
		return honoursIfNoneMatch, fmt.Errorf("probe: %w", err)
	}
	return honoursIfNoneMatch, nil
}

// Facts are what init and doctor tell about a bucket.
type Facts struct {
	Exists     bool
	Versioning string   // "Enabled", "Suspended", "" for never switched on
	ObjectLock bool     // nothing can be destroyed before its time
	LockMode   string   // default retention: "GOVERNANCE", "COMPLIANCE", "" for none
	LockDays   uint     // of the default retention
	Unknown    []string // what this host has no right to ask
}

// Inspect asks the server for the bucket's protections.
func (s *Store) Inspect(ctx context.Context) (Facts, error) {
	var f Facts
	var err error
	if f.Exists, err = s.core.BucketExists(ctx, s.bucket); err != nil {
		return f, s.explain(ctx, "look for the bucket", err)
	}
	if !f.Exists {
		return f, s.explain(ctx, "look for the bucket", minio.ErrorResponse{Code: "NoSuchBucket"})
	}
	versioning, err := s.core.GetBucketVersioning(ctx, s.bucket)
	if err = f.tolerate("versioning", s.explain(ctx, "ask for versioning", err)); err != nil {
		return f, err
	}
	f.Versioning = versioning.Status
	lock, mode, validity, unit, err := s.core.GetObjectLockConfig(ctx, s.bucket)
	err = s.explainLock(ctx, "ask for object lock", err)
	if errors.Is(err, errors.ErrUnsupported) {
		return f, nil
	}
	if err = f.tolerate("object lock", err); err != nil {
		return f, err
	}
	f.ObjectLock = lock == "Enabled"
	if mode != nil && validity != nil && unit != nil {
		f.LockMode, f.LockDays = mode.String(), *validity
		if *unit == minio.Years {
			f.LockDays *= 365
		}
	}
	return f, nil
}

// tolerate notes what could not be asked, and returns what is worse.
func (f *Facts) tolerate(what string, err error) error {
	if err == nil || ctxOrAway(err) {
		return err
	}
	f.Unknown = append(f.Unknown, fmt.Sprintf("%s: %v", what, err))
	return nil
}

func ctxOrAway(err error) bool {
	return errors.Is(err, ship.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
