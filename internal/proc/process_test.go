package proc

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " 1 4242 4242 0 -1 4194560 1230 0 0 0 3 1 0 0 20 0 9 0 118422 0 0 18446744073709551615 0 0 0 0 0 0\n"
	for _, c := range []struct {
		text string
		want Process
	}{
		{"4242 (dockerd) S" + rest, Process{4242, "dockerd", 'S', 1, "118422"}},
		{"4242 (a ) R (b) D" + rest, Process{4242, "a ) R (b", 'D', 1, "118422"}},
		{"4242 (new\nline) Z" + rest, Process{4242, "new\nline", 'Z', 1, "118422"}},
		{"4242 () R" + rest, Process{4242, "", 'R', 1, "118422"}},
	} {
		if got, err := parseStat([]byte(c.text)); err != nil || got != c.want {
			t.Errorf("%q: got %+v, %v", c.text, got, err)
		}
	}
	for _, bad := range []string{"", "4242", "4242 (x", "4242 (x) ", "4242 (x) S 1 2 3", "x (x) S" + rest, ") 4242 ( S" + rest, "4242 (x) S x" + rest} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func TestMark(t *testing.T) {
	mark := Mark()
	if !Lives(mark) || mark != Mark() {
		t.Errorf("%s, this process, does not live", mark)
	}
	if mark == "" || strings.ContainsFunc(mark, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef-.", r) }) {
		t.Errorf("%q cannot stand in a tag or a property", mark)
	}
	boot := BootID()
	for _, dead := range []string{
		"", "-", "x", "x.1.2", boot + ".1.1", boot + ".1.999", boot + ".999999999.5", boot + ".999999999.", boot + ".x.5",
		mark + "1", "another-boot" + strings.TrimPrefix(mark, boot), markOf(1 << 30),
	} {
		if Lives(dead) {
			t.Errorf("%q lives", dead)
		}
	}
}

// One that has ended and was not waited for is there, and does not live.
func TestZombieDoesNotLive(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mark := markOf(cmd.Process.Pid)
	if !Lives(mark) {
		t.Errorf("%s does not live", mark)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for {
		p, err := Look(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Alive() {
			break
		}
	}
	if Lives(mark) {
		t.Errorf("%s lives, and is a zombie", mark)
	}
	_ = cmd.Wait()
	if _, err := Look(cmd.Process.Pid); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is gone: got %v", err)
	}
}

func TestThisHost(t *testing.T) {
	all, err := All()
	if err != nil || !slices.Contains(all, os.Getpid()) || !slices.Contains(all, 1) {
		t.Errorf("got %v, %v", all, err)
	}
	p, err := Look(os.Getpid())
	if err != nil || p.Parent != os.Getppid() || !p.Alive() {
		t.Errorf("got %+v, %v", p, err)
	}
	if BootID() == "unknown" || Uptime() <= 0 {
		t.Errorf("got %q, %v", BootID(), Uptime())
	}
}
