package vmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// accelerator is how QEMU runs the guest's processor.
type accelerator string

const (
	kvm accelerator = "kvm" // by this machine's own
	tcg accelerator = "tcg" // by translation; about ten times slower
)

func (a accelerator) arguments() []string {
	if a == kvm {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// Five-level page tables cost much and bring nothing here.
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max,la57=off"}
}

const (
	// The image's first program says nothing before the kernel has started it.
	kernelStarted = "Run /init as init process"
	// No word for so long means that the guest hangs.
	probeSilence = 8 * time.Second
	probeLimit   = time.Minute
)

// choice is the remembered result of a probe, valid on the machine and with
// the QEMU that made it.
type choice struct {
	Machine string      `json:"machine"`
	Accel   accelerator `json:"accel"`
}

// ensureAccelerator returns what works here: that /dev/kvm opens says little,
// so a guest is started once and its console watched.
func (c cache) ensureAccelerator(ctx context.Context, i image, qemu string) (accelerator, error) {
	here := digest(qemu, hostDescription())
	path := filepath.Join(c.dir, "accelerator.json")
	var known choice
	if text, err := os.ReadFile(path); err == nil && json.Unmarshal(text, &known) == nil && known.Machine == here {
		return known.Accel, nil
	}
	known = choice{Machine: here, Accel: tcg}
	if err := c.probe(ctx, i, kvm); err == nil {
		known.Accel = kvm
	} else if ctx.Err() != nil {
		return "", err
	}
	text, err := json.Marshal(known)
	if err != nil {
		return "", fmt.Errorf("remember the accelerator: %w", err)
	}
	aside := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(aside, text, 0o600); err != nil {
		return "", fmt.Errorf("remember the accelerator: %w", err)
	}
	return known.Accel, os.Rename(aside, path)
}

// probe starts the image with a until its kernel has got to its first program.
func (c cache) probe(ctx context.Context, i image, a accelerator) error {
	if a == kvm {
		device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("probe KVM: %w", err)
		}
		_ = device.Close()
	}
	dir, release, err := c.runDir()
	if err != nil {
		return err
	}
	defer release()
	disk := filepath.Join(dir, "disk.qcow2")
	if err := overlay(ctx, i.disk(), disk); err != nil {
		return err
	}
	said := console{filepath.Join(dir, "console")}
	m, err := start(ctx, launch{image: i, accel: a, disk: disk, console: said.path}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = m.kill() }()
	return watchStart(ctx, m.process, said, probeSilence, probeLimit)
}

// watchStart waits for the kernel to start its first program, for limit at the
// most, and only as long as it is never silent for longer than silence.
func watchStart(ctx context.Context, qemu *process, said console, silence, limit time.Duration) error {
	begin := time.Now()
	heard, size := begin, int64(0)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if strings.Contains(said.since(0), kernelStarted) {
			return nil
		}
		if now := said.size(); now != size {
			heard, size = time.Now(), now
		}
		switch {
		case time.Since(heard) > silence:
			return fmt.Errorf("the guest said nothing for %s", silence)
		case time.Since(begin) > limit:
			return fmt.Errorf("the guest's kernel did not start within %s", limit)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-qemu.done:
			return fmt.Errorf("QEMU ended: %v", qemu.err)
		case <-tick.C:
		}
	}
}

// hostDescription names this machine's kernel and processor.
func hostDescription() string {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease") // missing is a description too
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if strings.HasPrefix(line, "model name") {
			return string(release) + line
		}
	}
	return string(release)
}
