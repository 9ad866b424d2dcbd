package shiptest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// MinIO is a real server on a free port of the loopback interface, with its
// data in a folder that is removed with the test.
type MinIO struct {
	AccessKey string
	SecretKey string

	binary string
	dir    string
	addr   string
	server *exec.Cmd
	exited chan struct{}
}

// StartMinIO builds the server if need be and starts it. It dies with the
// test, also when the test is killed. Where it cannot run, the test fails.
func StartMinIO(t *testing.T) *MinIO {
	t.Helper()
	m := &MinIO{AccessKey: "snapd-test", SecretKey: "snapd-test-secret", dir: t.TempDir()}
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "..", "..", "..", "scripts", "minio")
	build := exec.CommandContext(t.Context(), script)
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	m.binary = strings.TrimSpace(string(out))

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m.Start(t)
	t.Cleanup(func() { m.Stop(t) })
	return m
}

// Endpoint is the server's address.
func (m *MinIO) Endpoint() string { return "http://" + m.addr }

// Start starts a server that Stop stopped, at the same port.
func (m *MinIO) Start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.server = exec.Command(m.binary, "server", "--quiet", "--address", m.addr, "--console-address", "127.0.0.1:0", filepath.Join(m.dir, "data"))
	m.server.Env = append(os.Environ(),
		"MINIO_ROOT_USER="+m.AccessKey, "MINIO_ROOT_PASSWORD="+m.SecretKey,
		"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CALLHOME_ENABLE=off", "HOME="+m.dir)
	m.server.Stdout, m.server.Stderr = log, log
	m.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// Pdeathsig is sent when the thread ends that started the process, so
	// that thread must last as long.
	started := make(chan error)
	exited := make(chan struct{})
	server := m.server
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		t.Fatalf("start MinIO: %v", err)
	}
	m.exited = exited
	m.await(t)
}

func (m *MinIO) await(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		select {
		case <-m.exited:
			text, _ := os.ReadFile(filepath.Join(m.dir, "log"))
			t.Fatalf("MinIO ended: %s", text)
		default:
		}
		if m.ready(t) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("MinIO does not answer after a minute")
}

func (m *MinIO) ready(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Endpoint()+"/minio/health/ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Stop kills the server, as a power cut would. It may be called twice.
func (m *MinIO) Stop(t *testing.T) {
	t.Helper()
	if m.server == nil {
		return
	}
	_ = m.server.Process.Kill()
	<-m.exited
	m.server = nil
}

// Bucket makes a bucket.
func (m *MinIO) Bucket(t *testing.T, name string, objectLock bool) {
	t.Helper()
	c := m.Client(t)
	if err := c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: objectLock}); err != nil {
		t.Fatalf("make bucket %s: %v", name, err)
	}
}

// Limited gives keys that may do only these actions, such as "s3:PutObject".
func (m *MinIO) Limited(t *testing.T, actions ...string) credentials.Value {
	t.Helper()
	policy, err := json.Marshal(map[string]any{
		"Version":   "2012-10-17",
		"Statement": []any{map[string]any{"Effect": "Allow", "Resource": []string{"arn:aws:s3:::*"}, "Action": actions}},
	})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := credentials.NewSTSAssumeRole(m.Endpoint(), credentials.STSAssumeRoleOptions{
		AccessKey: m.AccessKey, SecretKey: m.SecretKey, Policy: string(policy),
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := keys.GetWithContext(&credentials.CredContext{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Lock sets the default retention of a bucket that was made with object lock:
// "GOVERNANCE" or "COMPLIANCE".
func (m *MinIO) Lock(t *testing.T, bucket, mode string, days uint) {
	t.Helper()
	retention, unit := minio.RetentionMode(mode), minio.Days
	if err := m.Client(t).SetBucketObjectLockConfig(t.Context(), bucket, &retention, &days, &unit); err != nil {
		t.Fatalf("lock bucket %s: %v", bucket, err)
	}
}

// HideAll puts a delete marker on every object of a bucket with versions, as an
// intruder with the keys of a host can.
func (m *MinIO) HideAll(t *testing.T, bucket string) {
	t.Helper()
	for o := range m.Client(t).ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		m.Hide(t, bucket, o.Key)
	}
}

// Hide puts a delete marker on an object of a bucket with versions.
func (m *MinIO) Hide(t *testing.T, bucket, key string) {
	t.Helper()
	if err := m.Client(t).RemoveObject(t.Context(), bucket, key, minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Client is a plain client with all rights, for what a Store does not do.
func (m *MinIO) Client(t *testing.T) *minio.Client {
	t.Helper()
	c, err := minio.New(m.addr, &minio.Options{Creds: credentials.NewStaticV4(m.AccessKey, m.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// String names the server.
func (m *MinIO) String() string { return fmt.Sprintf("MinIO at %s", m.addr) }
