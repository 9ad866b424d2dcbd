package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	qemuProgram = "qemu-system-x86_64"
	memoryMiB   = 2048
	// Much of the emulated boot is spent on what this machine does not have or
	// no test needs.
	kernelLine = "root=/dev/vda console=ttyS0 net.ifnames=0 apparmor=0 selinux=0 audit=0 mitigations=off nokaslr " +
		"rcupdate.rcu_expedited=1 panic=0 modprobe.blacklist=ahci,kvm_amd,kvm_intel,psmouse,lpc_ich,i2c_i801,iTCO_wdt"
	// File descriptors 0 to 2 are standard; these are the next.
	monitorFD, lanFD = 3, 4
)

// launch is one start of QEMU. Whatever is the same for all starts of one saved
// state is in hardware, because the state fits no other.
type launch struct {
	image    image
	accel    accelerator
	disk     string // qcow2
	memory   string // file; "" for memory that is not shared
	write    bool   // the guest's memory goes into the file, to be saved
	incoming bool   // wait for a saved state
	console  string // file
}

// hardware returns the arguments that make the guest's machine.
func (l launch) hardware() []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "q35,memory-backend=ram",
		"-smp", "2", "-m", fmt.Sprintf("%dM", memoryMiB),
		"-append", kernelLine,
		"-device", "virtio-blk-pci,drive=root",
		"-device", "virtio-net-pci,netdev=host,mac=52:54:00:00:00:01",
		"-device", "virtio-net-pci,netdev=lan,mac=52:54:00:00:00:02",
		"-device", "virtio-rng-pci",
		// Tells the kernel that it is a copy, so that two guests of one state
		// do not draw the same random numbers.
		"-device", "vmgenid,guid=auto",
	}
	return append(args, l.accel.arguments()...)
}

// arguments returns QEMU's whole command line.
func (l launch) arguments() []string {
	args := l.hardware()
	args = append(args,
		"-kernel", l.image.kernel(), "-initrd", l.image.initrd(),
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
		"-chardev", "file,id=console,append=on,path="+comma(l.console), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD), "-mon", "chardev=monitor,mode=control",
		"-drive", "if=none,id=root,format=qcow2,cache=writeback,discard=unmap,file="+comma(l.disk),
		"-netdev", "user,id=host,ipv6=off,hostfwd=tcp:127.0.0.1:0-:22",
		"-netdev", fmt.Sprintf("stream,id=lan,server=off,addr.type=fd,addr.str=%d", lanFD),
	)
	memory := fmt.Sprintf("id=ram,size=%dM", memoryMiB)
	switch {
	case l.memory == "":
		args = append(args, "-object", "memory-backend-ram,"+memory)
	case l.write:
		args = append(args, "-object", "memory-backend-file,"+memory+",share=on,mem-path="+comma(l.memory))
	default:
		// All guests of one state share the file's pages until they write.
		args = append(args, "-object", "memory-backend-file,"+memory+",share=off,readonly=on,rom=off,mem-path="+comma(l.memory))
	}
	if l.incoming {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// comma doubles commas, which separate QEMU's options.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }

// machine is one running QEMU.
type machine struct {
	process  *process
	monitor  *monitor
	messages *collector
	sshPort  int // on 127.0.0.1
}

// start runs QEMU as l says, with its second network card in network. The
// machine runs, or waits for its saved state.
func start(ctx context.Context, l launch, network *Network) (*machine, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = theirs.Close() }()
	if network == nil {
		network = &Network{} // shared with no other guest
	}
	cable, err := network.plug()
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	defer func() { _ = cable.Close() }()
	said := &collector{limit: 16 << 10}
	cmd := exec.Command(qemuProgram, l.arguments()...)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.ExtraFiles = []*os.File{theirs, cable} // monitorFD, lanFD
	child, err := startProcess(cmd)
	if err != nil {
		_ = ours.Close()
		return nil, err
	}
	m := &machine{process: child, messages: said}
	// Or QEMU's end would not be noticed.
	_ = theirs.Close()
	_ = cable.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	m.monitor, err = openMonitor(ctx, ours)
	if err == nil {
		m.sshPort, err = m.monitor.sshPort(ctx)
	}
	if err != nil {
		killed := m.kill()
		return nil, errors.Join(explain(err, console{l.console}, said.String(), nil), killed)
	}
	return m, nil
}

// kill ends QEMU as a power cut would. It may be called again.
func (m *machine) kill() error {
	err := m.process.kill()
	if m.monitor != nil {
		m.monitor.close()
	}
	return err
}

// overlay makes the disk that takes what is written over base.
func overlay(ctx context.Context, base, path string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("qemu-img create: %w: %s", err, bytes.TrimSpace(said))
	}
	return nil
}

// qemuVersion returns the first line of QEMU's answer to --version.
func qemuVersion(ctx context.Context) (string, error) {
	said, err := exec.CommandContext(ctx, qemuProgram, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask QEMU's version: %w", err)
	}
	line, _, _ := strings.Cut(string(said), "\n")
	return line, nil
}
