//go:build host

package s3_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"
	"snapd/internal/ship/shiptest"
)

// options reach a prefix of a bucket.
func options(m *shiptest.MinIO, bucket, prefix string) s3.Options {
	return s3.Options{Endpoint: m.Endpoint(), Bucket: bucket, Prefix: prefix, AccessKey: m.AccessKey, SecretKey: m.SecretKey}
}

func store(t *testing.T, m *shiptest.MinIO, bucket, prefix string) *s3.Store {
	t.Helper()
	s, err := s3.New(options(m, bucket, prefix))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContractOnMinIO(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "contract", false)
	var n atomic.Int32
	shiptest.Run(t, func(t *testing.T) ship.Store {
		return store(t, m, "contract", fmt.Sprintf("hosts/case-%d", n.Add(1)))
	})
	m.Bucket(t, "noprefix", false)
	s := store(t, m, "noprefix", "")
	if err := s.Put(t.Context(), "a/b", []byte("x"), true); err != nil {
		t.Error(err)
	}
}

func TestProbeAndInspect(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "plain", false)
	m.Bucket(t, "locked", true)
	ok, err := store(t, m, "plain", "p").Probe(t.Context())
	if !ok || err != nil {
		t.Errorf("probe: got %v, %v; MinIO honours If-None-Match", ok, err)
	}
	plain, err := store(t, m, "plain", "p").Inspect(t.Context())
	if err != nil || !plain.Exists || plain.ObjectLock || plain.Versioning != "" {
		t.Errorf("inspect: got %+v, %v", plain, err)
	}
	locked, err := store(t, m, "locked", "p").Inspect(t.Context())
	if err != nil || !locked.Exists || !locked.ObjectLock || locked.Versioning != "Enabled" {
		t.Errorf("inspect: got %+v, %v", locked, err)
	}
	if f, err := store(t, m, "missing", "p").Inspect(t.Context()); !errors.Is(err, ship.ErrNoBucket) {
		t.Errorf("inspect: got %+v, %v, want ErrNoBucket", f, err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "there", false)
	with := func(change func(*s3.Options)) s3.Options {
		o := options(m, "there", "p")
		o.Timeouts = s3.Timeouts{Dial: time.Second, Idle: 2 * time.Second}
		change(&o)
		return o
	}
	cases := []struct {
		name string
		o    s3.Options
		want error
		hint string
	}{
		{"no bucket", with(func(o *s3.Options) { o.Bucket = "nobucket" }), ship.ErrNoBucket, "BUCKET"},
		{"bad bucket name", with(func(o *s3.Options) { o.Bucket = "No_Bucket!" }), ship.ErrNoBucket, "BUCKET"},
		{"unknown key", with(func(o *s3.Options) { o.AccessKey = "nobody" }), ship.ErrDenied, "AWS_ACCESS_KEY_ID"},
		{"wrong secret", with(func(o *s3.Options) { o.SecretKey = "wrong" }), ship.ErrDenied, "AWS_ACCESS_KEY_ID"},
		{"refused", with(func(o *s3.Options) { o.Endpoint = "http://127.0.0.1:1" }), ship.ErrUnavailable, "running"},
		{"no such host", with(func(o *s3.Options) { o.Endpoint = "http://no-such-host.invalid" }), ship.ErrUnavailable, "name"},
		{"tls where there is none", with(func(o *s3.Options) { o.Endpoint = "https://" + strings.TrimPrefix(m.Endpoint(), "http://") }), nil, "http://"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := s3.New(c.o)
			if err != nil {
				t.Fatal(err)
			}
			for op, err := range map[string]error{
				"put":  s.Put(t.Context(), "k", []byte("x"), true),
				"list": s.List(t.Context(), "", func(ship.Object) error { return nil }),
				"get": func() error {
					_, err := s.Get(t.Context(), "k")
					return err
				}(),
			} {
				if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(advice.Of(err), c.hint) {
					t.Errorf("%s: got %v (hint %q), want %v with a hint about %q", op, err, advice.Of(err), c.want, c.hint)
				}
				if c.want == nil && errors.Is(err, ship.ErrUnavailable) {
					t.Errorf("%s: trying again would not help: %v", op, err)
				}
			}
		})
	}
}

// TestServerChecksTheDigest: a body that changed on its way is refused.
func TestServerChecksTheDigest(t *testing.T) {
	m := shiptest.StartMinIO(t)
	m.Bucket(t, "digest", false)
	s := store(t, m, "digest", "p")
	if _, err := s.PutDigest(t.Context(), "k", []byte("body"), true, ship.Digest{1}); err == nil {
		t.Error("another digest: no error")
	}
	if _, err := s.Get(t.Context(), "k"); !errors.Is(err, ship.ErrNotFound) {
		t.Errorf("it is there: %v", err)
	}
}
