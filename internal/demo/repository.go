package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// repository is where the demo ships to.
type repository struct {
	name          string // for people
	url, endpoint string
}

// repository is a directory, or a bucket on a MinIO server of its own.
func (s *show) repository(ctx context.Context) (repository, error) {
	if s.MinIO == "" {
		return repository{name: "a directory", url: "file://" + s.place.path("repository")}, nil
	}
	addr, err := freeAddress(ctx)
	if err != nil {
		return repository{}, err
	}
	// MinIO takes a directory that is there for a bucket.
	if err := os.MkdirAll(s.place.path("minio", "snapd-demo"), 0o700); err != nil {
		return repository{}, err
	}
	const user, password = "snapd-demo", "only-for-this-demo"
	server := exec.CommandContext(context.WithoutCancel(ctx), s.MinIO, "server", "--quiet", "--address", addr, s.place.path("minio")) // ends in undo
	server.Env = append(os.Environ(), "MINIO_ROOT_USER="+user, "MINIO_ROOT_PASSWORD="+password, "MINIO_BROWSER=off")
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	if err := server.Start(); err != nil {
		return repository{}, fmt.Errorf("start MinIO: %w", err)
	}
	s.undo = append(s.undo, func(context.Context) error {
		_ = server.Process.Kill() // it may have ended by itself
		_ = server.Wait()         // killed: not an error
		return nil
	})
	for key, value := range map[string]string{"AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": password} {
		if err := os.Setenv(key, value); err != nil {
			return repository{}, err
		}
	}
	r := repository{name: "a bucket of a MinIO server", url: "s3://snapd-demo/host", endpoint: "http://" + addr}
	return r, awaitServer(ctx, r.endpoint+"/snapd-demo/")
}

func freeAddress(ctx context.Context) (string, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func awaitServer(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			err = response.Body.Close()
			// A caller without a key is refused once it serves buckets; its health is
			// reported well before that.
			if response.StatusCode == http.StatusForbidden {
				return err
			}
			err = errors.Join(err, fmt.Errorf("it answers %s", response.Status))
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("MinIO did not come up: %w", last)
		case <-tick.C:
		}
	}
}
