package s3_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
	"snapd/internal/ship/s3"
)

const loginPage = "<!DOCTYPE html>\n<html><body>Please log in</body></html>"

// answering is a store at a server that answers everything in one way.
func answering(t *testing.T, answer http.HandlerFunc) *s3.Store {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	s, err := s3.New(s3.Options{Endpoint: server.URL, Bucket: "bucket", Prefix: "host1", Region: "us-east-1", AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// each calls every operation of a store once.
func each(t *testing.T, s *s3.Store) map[string]error {
	t.Helper()
	_, gerr := s.Get(t.Context(), "k")
	_, serr := s.Stat(t.Context(), "k")
	return map[string]error{
		"put":           s.Put(t.Context(), "k", []byte("x"), false),
		"put if absent": s.Put(t.Context(), "k", []byte("x"), true),
		"list":          s.List(t.Context(), "", func(ship.Object) error { return nil }),
		"get":           gerr,
		"stat":          serr,
		"delete":        s.Delete(t.Context(), "k"),
	}
}

// TestAPageIsNoAnswer: what a proxy, a firewall or a network's login says is
// never success, and never that something is missing.
func TestAPageIsNoAnswer(t *testing.T) {
	page := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	cases := []struct {
		name   string
		answer http.HandlerFunc
		except string // operations that may think otherwise
	}{
		{"login page", page(200, "text/html; charset=utf-8", loginPage), "stat"},
		{"not found page", page(404, "text/html", loginPage), "stat"},
		{"not found of a proxy without a server", page(404, "text/plain", "404 page not found\n"), "stat"},
		{"forbidden page", page(403, "text/html", loginPage), "stat"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example/", http.StatusFound)
		}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for op, err := range each(t, answering(t, c.answer)) {
				if err == nil && op != "stat" {
					t.Errorf("%s: success", op)
				}
				if strings.Contains(c.except, op) {
					continue
				}
				if !errors.Is(err, ship.ErrNotAStore) || errors.Is(err, ship.ErrNotFound) || errors.Is(err, ship.ErrUnavailable) || advice.Of(err) == "" {
					t.Errorf("%s: got %v (advice %q), want ErrNotAStore", op, err, advice.Of(err))
				}
			}
		})
	}
}

// TestAPutIsProved: status 200 is not enough.
func TestAPutIsProved(t *testing.T) {
	body := []byte("the body")
	cases := []struct {
		name   string
		header func(r *http.Request) map[string]string
		want   error
	}{
		{"echoed checksum", func(r *http.Request) map[string]string {
			return map[string]string{"x-amz-checksum-sha256": r.Header.Get("x-amz-checksum-sha256")}
		}, nil},
		{"MD5 as ETag", func(*http.Request) map[string]string {
			return map[string]string{"ETag": `"3066176185fcca35d26c1b1612a91e78"`}
		}, nil},
		{"MD5 of another body", func(*http.Request) map[string]string {
			return map[string]string{"ETag": `"00000000000000000000000000000000"`}
		}, ship.ErrNotAStore},
		{"another checksum", func(*http.Request) map[string]string {
			return map[string]string{"x-amz-checksum-sha256": "AAAA", "ETag": `"x"`}
		}, ship.ErrDamaged},
		{"nothing", func(*http.Request) map[string]string { return nil }, ship.ErrNotAStore},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := answering(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				for k, v := range c.header(r) {
					w.Header().Set(k, v)
				}
			})
			if err := s.Put(t.Context(), "k", body, true); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestListingsThatAreNone: what is no listing of this bucket and prefix is an
// error, and never an end.
func TestListingsThatAreNone(t *testing.T) {
	type content struct {
		Key  string
		Size int
	}
	type result struct {
		XMLName               xml.Name
		Name, Prefix          string
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
	}
	good := func() result {
		return result{
			XMLName: xml.Name{Local: "ListBucketResult"}, Name: "bucket", Prefix: "host1/meta/",
			Contents: []content{{Key: "host1/meta/a"}, {Key: "host1/meta/b"}},
		}
	}
	change := func(f func(*result)) string {
		r := good()
		f(&r)
		out, err := xml.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return `<?xml version="1.0" encoding="UTF-8"?>` + string(out)
	}
	cases := []struct {
		name, body string
		want       error
	}{
		{"a good one", change(func(*result) {}), nil},
		{"an empty one", change(func(r *result) { r.Contents = nil }), nil},
		{"well-formed page", `<?xml version="1.0"?><html><body>welcome</body></html>`, ship.ErrNotAStore},
		{"page that is no XML", "<html><br><p>welcome", ship.ErrNotAStore},
		{"JSON", `{"error":"who are you"}`, ship.ErrNotAStore},
		{"empty", "", ship.ErrNotAStore},
		{"cut in the middle", change(func(*result) {})[:150], ship.ErrUnavailable},
		{"another bucket", change(func(r *result) { r.Name = "other" }), ship.ErrNotAStore},
		{"another prefix", change(func(r *result) { r.Prefix = "" }), ship.ErrNotAStore},
		{"keys outside of the prefix", change(func(r *result) { r.Contents[1].Key = "host2/meta/a" }), ship.ErrNotAStore},
		{"truncated without continuation", change(func(r *result) { r.IsTruncated = true }), ship.ErrNotAStore},
		{"goes round in circles", change(func(r *result) { r.IsTruncated, r.NextContinuationToken = true, "t" }), ship.ErrNotAStore},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				fmt.Fprint(w, c.body)
			})
			err := s.List(t.Context(), "meta/", func(o ship.Object) error {
				if o.Key != "meta/a" && o.Key != "meta/b" {
					t.Errorf("listed %q", o.Key)
				}
				return nil
			})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestServersThatSayPageOfNothing: Google's says text/html of an empty answer.
func TestServersThatSayPageOfNothing(t *testing.T) {
	s := answering(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		w.Header().Set("x-amz-checksum-sha256", r.Header.Get("x-amz-checksum-sha256"))
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	if err := s.Put(t.Context(), "k", []byte("x"), false); err != nil {
		t.Error(err)
	}
	if err := s.Delete(t.Context(), "k"); err != nil {
		t.Error(err)
	}
}

// TestDeletedObjectSaysSo: a delete marker hides versions that are there.
func TestDeletedObjectSaysSo(t *testing.T) {
	s := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-amz-delete-marker", "true")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<Error><Code>NoSuchKey</Code></Error>")
	})
	_, err := s.Get(t.Context(), "repository")
	if !errors.Is(err, ship.ErrNotFound) || !errors.Is(err, ship.ErrDeleted) || !strings.Contains(advice.Of(err), "bucket/host1/") || !strings.Contains(advice.Of(err), "versions") {
		t.Errorf("got %v (advice %q)", err, advice.Of(err))
	}
}
