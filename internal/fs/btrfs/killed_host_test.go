//go:build host

package btrfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// TestKilledReceive is also the program that is killed.
func TestKilledReceive(t *testing.T) {
	if target := os.Getenv("SNAPD_TEST_TARGET"); target != "" {
		receiveAndHang(t, target, os.Getenv("SNAPD_TEST_STREAM"), os.Getenv("SNAPD_TEST_GUID"))
		return
	}
	mnt := newFilesystem(t, 512<<20)
	dataset := subvolume(t, mnt+"/source")
	write(t, mnt+"/source/f", strings.Repeat("0123456789", 2<<20))
	s := take(t, "a", dataset)[0]
	file := t.TempDir() + "/stream"
	data := stream(t, s, nil)
	write(t, file, string(data))

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledReceive$")
	cmd.Env = append(os.Environ(), "SNAPD_TEST_TARGET="+mnt+"/target", "SNAPD_TEST_STREAM="+file, "SNAPD_TEST_GUID="+s.GUID)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "half" {
		t.Log(lines.Text())
	}
	pattern := mnt + "/.snapd-agent/restore-*"
	staged, err := filepath.Glob(pattern + "/stream-1")
	if err != nil || len(staged) != 1 {
		t.Errorf("before the kill: %q, %v", staged, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitNoReceiver(t, filepath.Base(filepath.Dir(staged[0])))
	said, err := New().Interrupted(t.Context())
	want := "what an interrupted restore to btrfs:" + mnt + "/target had received, in "
	if !strings.Contains(strings.Join(said, "\n"), want) {
		t.Errorf("an interrupted restore: %q, %v; want %q", said, err, want)
	}
	if exists(t, mnt+"/target") {
		t.Error("the target exists")
	}
	made := restore(t, mnt+"/target", data, s.GUID) // and sweeps
	if got, err := os.ReadFile(made.Name + "/f"); err != nil || !bytes.HasPrefix(got, []byte("0123456789")) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if left, _ := filepath.Glob(pattern); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	if said, _ := New().Interrupted(t.Context()); strings.Contains(strings.Join(said, "\n"), want) {
		t.Errorf("what was swept is still said: %q", said)
	}
	command(t, "btrfs", "subvolume", "delete", mnt+"/target")
}

func receiveAndHang(t *testing.T, target, file, guid string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := New().Receive(t.Context(), target, fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	hang := readerFunc(func([]byte) (int, error) {
		for { // until btrfs receive has made something of what it got
			if made, _ := filepath.Glob(filepath.Dir(target) + "/.snapd-agent/restore-*/stream-1"); len(made) == 1 {
				break
			}
		}
		fmt.Println("half")
		select {}
	})
	t.Fatal(r.Apply(t.Context(), io.MultiReader(bytes.NewReader(data[:len(data)/2]), hang), guid, ""))
}

// waitNoReceiver waits until no btrfs receive works on a staging directory.
func waitNoReceiver(t *testing.T, stage string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		running := ""
		all, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			line, err := os.ReadFile(file)
			if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
				t.Fatal(err)
			}
			if bytes.Contains(line, []byte(stage)) {
				running = file
			}
		}
		if running == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s still receives", running)
		}
	}
}
