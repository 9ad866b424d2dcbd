package proc

import (
	"os/exec"
	"testing"
	"time"
)

func TestKill(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	if err := Kill(c.Process.Pid, func() bool { return false }); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("another process than was meant was ended: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := Kill(c.Process.Pid, func() bool { return true }); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended by itself")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it runs still")
	}
	if err := Kill(c.Process.Pid, func() bool { return true }); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
}
