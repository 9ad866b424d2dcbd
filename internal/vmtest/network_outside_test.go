//go:build outside

package vmtest_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"snapd/internal/vmtest"
)

// TestTwoGuestsAndAServer is the followers' case: two hosts that reach each
// other, and a server on this machine that both reach, and nothing else.
func TestTwoGuestsAndAServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})

	var network vmtest.Network
	first := vmtest.New(t, vmtest.Spec{Name: "first", Network: &network})
	second := vmtest.New(t, vmtest.Spec{Name: "second", Network: &network})
	port := listener.Addr().(*net.TCPAddr).Port
	for _, g := range []*vmtest.Guest{first, second} {
		name := strings.TrimSpace(g.Sh(t, "hostname"))
		want := "you asked for /" + name
		if got := g.Sh(t, fmt.Sprintf("curl -sS --max-time 20 http://10.0.2.2:%d/%s", port, name)); got != want {
			t.Errorf("the server answered %q, want %q", got, want)
		}
		// No route leads anywhere else (192.0.2.1 is reserved for documentation).
		if result, err := g.Run(t.Context(), "ip route get 192.0.2.1"); err != nil || result.Status == 0 {
			t.Errorf("the guest has a way out: %+v, %v", result, err)
		}
	}

	// A megabyte each way through the network between them.
	for _, pair := range [][2]*vmtest.Guest{{first, second}, {second, first}} {
		from, to := pair[0], pair[1]
		to.Sh(t, "head -c 1000000 /dev/urandom >/root/data && cd /root && (python3 -m http.server 8000 >/dev/null 2>&1 & echo $! >/run/server) && until curl -s -o /dev/null http://127.0.0.1:8000/data; do :; done")
		got := from.Sh(t, fmt.Sprintf("curl -sS --max-time 60 http://%s:8000/data | sha256sum", to.Address()))
		if want := to.Sh(t, "sha256sum </root/data"); got != want {
			t.Errorf("%s got %q from %s, want %q", from.Address(), got, to.Address(), want)
		}
		to.Sh(t, "kill $(cat /run/server)")
	}

	ids := [2]string{first.Sh(t, "cat /etc/machine-id"), second.Sh(t, "cat /etc/machine-id")}
	random := [2]string{first.Sh(t, "head -c 16 /dev/urandom | base64"), second.Sh(t, "head -c 16 /dev/urandom | base64")}
	if ids[0] == ids[1] || random[0] == random[1] || len(strings.TrimSpace(ids[0])) != 32 {
		t.Errorf("two copies are one machine: machine ids %q, random bytes %q", ids, random)
	}

	// A reset guest finds its place in the network again.
	if err := second.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.Sh(t, "ping -c 1 -W 20 "+second.Address().String())
}
