package shiptest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// Front stands before a server, as a proxy does, and answers in its place or
// changes its answers when told. What it does may be changed while it is used.
type Front struct {
	*httptest.Server
	answer atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
	change atomic.Pointer[func(*http.Request, http.Header, []byte) []byte]
}

// NewFront puts one before a MinIO, for as long as the test lasts. It changes
// nothing.
func NewFront(t *testing.T, m *MinIO) *Front {
	t.Helper()
	target, err := url.Parse(m.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	f := &Front{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: f.modify,
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := f.answer.Load(); answer != nil && (*answer)(w, r) {
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *Front) modify(r *http.Response) error {
	change := f.change.Load()
	if change == nil || r.StatusCode != http.StatusOK || r.Request.Method == http.MethodHead {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	body = (*change)(r.Request, r.Header, body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return nil
}

// Answer lets answer have every request first, which returns whether it
// answered; nil ends it.
func (f *Front) Answer(answer func(http.ResponseWriter, *http.Request) bool) {
	if answer == nil {
		f.answer.Store(nil)
		return
	}
	f.answer.Store(&answer)
}

// Change lets change make another body of what the server answered with status
// 200, and change the header in place.
func (f *Front) Change(change func(*http.Request, http.Header, []byte) []byte) {
	f.change.Store(&change)
}

// ChangeListings changes the pages of listings.
func (f *Front) ChangeListings(change func(page string) string) {
	f.Change(func(r *http.Request, _ http.Header, body []byte) []byte {
		if r.Method != http.MethodGet || r.URL.Query().Get("list-type") != "2" {
			return body
		}
		return []byte(change(string(body)))
	})
}
