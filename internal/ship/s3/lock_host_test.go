//go:build host

package s3_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"
	"snapd/internal/ship/shiptest"

	"github.com/minio/minio-go/v7"
)

func put(t *testing.T, s *s3.Store, key, body string) {
	t.Helper()
	if err := s.Put(t.Context(), key, []byte(body), false); err != nil {
		t.Fatal(err)
	}
}

// TestLocksAreExtended in both modes, never shortened, and never made weaker.
func TestLocksAreExtended(t *testing.T) {
	m := shiptest.StartMinIO(t)
	for _, mode := range []ship.LockMode{ship.Governance, ship.Compliance} {
		bucket := strings.ToLower(string(mode))
		m.Bucket(t, bucket, true)
		m.Lock(t, bucket, string(mode), 30)
		s := store(t, m, bucket, "hosts/one")
		put(t, s, "data/x", "body")
		l, err := s.LockOf(t.Context(), "data/x")
		if left := time.Until(l.Until); err != nil || l.Mode != mode || left < 29*24*time.Hour || left > 31*24*time.Hour {
			t.Errorf("%s: %+v, %v", mode, l, err)
		}
		until := l.Until.Add(5 * 24 * time.Hour).Truncate(time.Second)
		for _, try := range []time.Time{until, until, until.Add(-time.Hour)} {
			if err := s.ExtendLock(t.Context(), "data/x", ship.Lock{Mode: mode, Until: try}); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		}
		if l, err := s.LockOf(t.Context(), "data/x"); err != nil || !l.Until.Equal(until) || l.Mode != mode {
			t.Errorf("%s: %+v, %v, want until %s", mode, l, err, until)
		}
		later := until.Add(time.Hour)
		if err := s.ExtendLock(t.Context(), "data/x", ship.Lock{Mode: ship.Governance, Until: later}); err != nil {
			t.Errorf("%s: the weaker mode: %v", mode, err)
		}
		if l, err := s.LockOf(t.Context(), "data/x"); err != nil || !l.Until.Equal(later) || l.Mode != mode {
			t.Errorf("%s: %+v, %v", mode, l, err)
		}
		if try, err := s.ProbeLock(t.Context(), string(mode)); err != nil || !try.Extends {
			t.Errorf("%s: probe: %+v, %v", mode, try, err)
		}
		m.Hide(t, bucket, "hosts/one/data/x")
		if err := s.ExtendLock(t.Context(), "data/x", ship.Lock{Mode: mode, Until: later.Add(time.Hour)}); !errors.Is(err, ship.ErrNotFound) {
			t.Errorf("%s: a hidden one: %v", mode, err)
		}
		if _, err := s.LockOf(t.Context(), "data/x"); !errors.Is(err, ship.ErrNotFound) {
			t.Errorf("%s: a hidden one: %v", mode, err)
		}
	}
}

// TestProbesLastNoLongerThanTheyMust: of what a probe leaves in a bucket with
// locks, nothing is locked for the bucket's time.
func TestProbesLastNoLongerThanTheyMust(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "locked", true)
	m.Lock(t, "locked", "COMPLIANCE", 30)
	s := store(t, m, "locked", "p")
	if try, err := s.ProbeLock(t.Context(), "COMPLIANCE"); err != nil || !try.Extends {
		t.Fatalf("%+v, %v", try, err)
	}
	c := m.Client(t)
	versions := 0
	for v := range c.ListObjectsIter(t.Context(), "locked", minio.ListObjectsOptions{Recursive: true, WithVersions: true}) {
		if v.IsDeleteMarker {
			continue
		}
		versions++
		_, until, err := c.GetObjectRetention(t.Context(), "locked", v.Key, v.VersionID)
		if err != nil || time.Until(*until) > 2*time.Minute {
			t.Errorf("%s is locked until %s, %v", v.Key, until, err)
		}
	}
	if versions != 1 {
		t.Errorf("%d versions left", versions)
	}
}

// TestBucketsWithoutLocks: to have none is no fault.
func TestBucketsWithoutLocks(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "plain", false)
	s := store(t, m, "plain", "p")
	put(t, s, "k", "body")
	if l, err := s.LockOf(t.Context(), "k"); !errors.Is(err, errors.ErrUnsupported) && (err != nil || !l.Until.IsZero()) {
		t.Errorf("lock: %+v, %v", l, err)
	}
	if err := s.ExtendLock(t.Context(), "k", ship.Lock{Mode: ship.Governance, Until: time.Now().Add(time.Hour)}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("extend: %v", err)
	}
	if try, err := s.ProbeLock(t.Context(), "GOVERNANCE"); err != nil || try.Extends || try.Denied || try.Why == "" {
		t.Errorf("probe: %+v, %v", try, err)
	}
	m.Bucket(t, "nodefault", true)
	s = store(t, m, "nodefault", "p")
	put(t, s, "k", "body")
	if l, err := s.LockOf(t.Context(), "k"); err != nil || !l.Until.IsZero() {
		t.Errorf("without a default retention: %+v, %v", l, err)
	}
}

// TestWithoutTheRightToExtend: the right that lacks is named.
func TestWithoutTheRightToExtend(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "locked", true)
	m.Lock(t, "locked", "GOVERNANCE", 30)
	v := m.Limited(t, "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:DeleteObject", "s3:GetObjectRetention", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning")
	o := options(m, "locked", "p")
	o.AccessKey, o.SecretKey, o.SessionToken = v.AccessKeyID, v.SecretAccessKey, v.SessionToken
	s, err := s3.New(o)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "body")
	l, err := s.LockOf(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	l.Until = l.Until.Add(time.Hour)
	if err := s.ExtendLock(t.Context(), "k", l); !errors.Is(err, ship.ErrDenied) || !strings.Contains(advice.Of(err), "s3:PutObjectRetention") {
		t.Errorf("%v (advice %q)", err, advice.Of(err))
	}
	if try, err := s.ProbeLock(t.Context(), "GOVERNANCE"); err != nil || try.Extends || !try.Denied {
		t.Errorf("%+v, %v", try, err)
	}
}

// TestVersionsBehindDeleteMarkers are found, the newest first.
func TestVersionsBehindDeleteMarkers(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "versions", true)
	s := store(t, m, "versions", "p")
	put(t, s, "k", "first")
	put(t, s, "k", "second")
	put(t, s, "k2", "another")
	put(t, s, "there", "current")
	m.Hide(t, "versions", "p/k")
	m.Hide(t, "versions", "p/k2")
	m.Hide(t, "versions", "p/k")
	ids, err := s.Versions(t.Context(), "k", 10)
	if err != nil || len(ids) != 2 {
		t.Fatalf("%q, %v", ids, err)
	}
	var bodies []string
	for _, id := range ids {
		r, err := s.GetVersion(t.Context(), "k", id)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	if !slices.Equal(bodies, []string{"second", "first"}) {
		t.Errorf("got %q", bodies)
	}
	if ids, err := s.Versions(t.Context(), "k", 1); err != nil || len(ids) != 1 {
		t.Errorf("one: %q, %v", ids, err)
	}
	if ids, err := s.Versions(t.Context(), "none", 10); err != nil || len(ids) != 0 {
		t.Errorf("none: %q, %v", ids, err)
	}
	if n, more, err := s.CountHidden(t.Context(), "", 100); err != nil || n != 3 || more {
		t.Errorf("hidden: %d, %v, %v", n, more, err)
	}
	if _, more, err := s.CountHidden(t.Context(), "", 2); err != nil || !more {
		t.Errorf("hidden among two: %v, %v", more, err)
	}
}
