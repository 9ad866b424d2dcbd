// Command count passes requests on to an object store and writes each down: its
// method and path, one a line, so that a measurement can count them.
//
//	count ADDRESS TARGET FILE
package main

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: %s ADDRESS TARGET FILE", args[0])
	}
	target, err := url.Parse(args[2])
	if err != nil {
		return err
	}
	file, err := os.OpenFile(args[3], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // emptied from outside
	if err != nil {
		return err
	}
	var mu sync.Mutex
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(file, "%s %s\n", r.In.Method, r.In.URL.RequestURI())
	}}
	server := &http.Server{Addr: args[1], Handler: proxy, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}
