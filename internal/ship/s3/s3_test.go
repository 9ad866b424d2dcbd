package s3_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"snapd/internal/ship"
	"snapd/internal/ship/s3"
)

func TestAnswersThatAreErrors(t *testing.T) {
	cases := []struct {
		code string
		http int
		want error
	}{
		{"SlowDown", 503, ship.ErrUnavailable},
		{"InternalError", 500, ship.ErrUnavailable},
		{"", 502, ship.ErrUnavailable},
		{"TooManyRequests", 429, ship.ErrUnavailable},
		{"RequestTimeTooSkewed", 403, ship.ErrDenied},
		{"AccessDenied", 403, ship.ErrDenied},
		{"PreconditionFailed", 412, ship.ErrExists},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.http, c.code), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.http)
				if c.code != "" {
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said so</Message></Error>", c.code)
				}
			}))
			defer server.Close()
			s, err := s3.New(s3.Options{Endpoint: server.URL, Bucket: "bucket", Region: "us-east-1", AccessKey: "a", SecretKey: "b"})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), "k", []byte("x"), true); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestSilentServer: one that takes a connection and never says anything, and
// one that stops in the middle of an answer, are errors after a while.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	half := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("ETag", `"x"`)
		_, _ = w.Write([]byte("half"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer half.Close()
	open := func(endpoint string) *s3.Store {
		s, err := s3.New(s3.Options{
			Endpoint: endpoint, Bucket: "bucket", Region: "us-east-1", AccessKey: "a", SecretKey: "b",
			Timeouts: s3.Timeouts{Idle: 300 * time.Millisecond},
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := open("http://"+l.Addr().String()).Put(ctx, "k", make([]byte, 64<<20), false); !errors.Is(err, ship.ErrUnavailable) {
		t.Errorf("put: got %v", err)
	}
	r, err := open(half.URL).Get(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := make([]byte, 100)
	for err == nil {
		_, err = r.Read(buf)
	}
	if !errors.Is(err, ship.ErrUnavailable) {
		t.Errorf("get: got %v", err)
	}
}
