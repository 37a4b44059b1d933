package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const clonePath = "/dev/net/tun"

// offloadLevels are what to ask the kernel for, the best first. UDP super-packets came
// with Linux 6.2, and only in pairs.
var offloadLevels = [...]struct {
	flags int
	has   offloads
}{
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6, offloads{true, true, true}},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN, offloads{true, true, false}},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, offloads{true, true, false}},
	{unix.TUN_F_CSUM, offloads{true, false, false}},
	{0, offloads{}},
}

// open makes the interface through /dev/net/tun, with the number of queues that cfg asks
// for.
func open(c Config) (o opened, err error) {
	var files []*os.File
	o.close = func() error {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			_ = o.close()
		}
	}()

	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if c.Ethernet {
		flags = unix.IFF_TAP | unix.IFF_NO_PI
	}
	if c.Offload != OffloadOff {
		flags |= unix.IFF_VNET_HDR
	}
	if c.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	o.name = c.Name
	for i := range c.Queues {
		first := uint16(0)
		if i == 0 {
			first = unix.IFF_TUN_EXCL // else we would silently join a device of somebody else
		}
		var f *os.File
		if f, o.name, err = attach(o.name, flags|first); err != nil {
			return o, err
		}
		files = append(files, f)
		if i == 0 {
			if err := own(f); err != nil {
				return o, fmt.Errorf("%w: interface %q: %w", ErrOpen, o.name, err)
			}
		}
		p, err := newRawPort(f, c.Offload != OffloadOff, c.Ethernet)
		if err != nil {
			return o, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		o.ports = append(o.ports, p)
	}
	for _, p := range []*port{&o.errors, &o.incoming, &o.inject} {
		if *p, err = newRawPort(files[0], c.Offload != OffloadOff, c.Ethernet); err != nil {
			return o, fmt.Errorf("%w: %w", ErrOpen, err)
		}
	}
	o.has, err = setOffload(files[0], c.Offload)
	return o, err
}

// attach opens a queue of the interface, which the first one makes.
func attach(name string, flags uint16) (*os.File, string, error) {
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", openError(name, err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return nil, "", fmt.Errorf("%w: %q is not a valid interface name (1 to 15 characters)", ErrOpen, name)
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return nil, "", attachError(name, err)
	}
	return os.NewFile(uintptr(fd), clonePath), ifr.Name(), nil
}

// own makes this user the interface's owner. Of one without an owner, everybody who may open the
// clone device, which on most systems is every user, may have a queue, and packets of ours in it.
func own(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ioctl error
	if err := conn.Control(func(fd uintptr) {
		ioctl = unix.IoctlSetInt(int(fd), unix.TUNSETOWNER, os.Geteuid())
	}); err != nil {
		return err
	}
	return os.NewSyscallError("TUNSETOWNER", ioctl)
}

// setOffload switches on the best offloads that the kernel has.
func setOffload(f *os.File, want Offload) (offloads, error) {
	if want == OffloadOff {
		return offloads{}, nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return offloads{}, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	for _, level := range offloadLevels {
		if want == OffloadOn && !level.has.tcp {
			break
		}
		var ioctl error
		if err := conn.Control(func(fd uintptr) {
			ioctl = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, level.flags)
		}); err != nil {
			return offloads{}, fmt.Errorf("%w: %w", ErrOpen, err)
		}
		if ioctl == nil {
			return level.has, nil
		}
	}
	return offloads{}, fmt.Errorf("%w: this kernel has no offloads; try: tun.offload = \"auto\"", ErrOpen)
}

// openError explains an error of opening the clone device.
func openError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: no %s; try: modprobe tun (in a container: --device %s)", ErrOpen, clonePath, clonePath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %s: %w; try: sudo, or --tun none", ErrOpen, clonePath, err)
	}
	return fmt.Errorf("%w: %s for %q: %w", ErrOpen, clonePath, name, err)
}

// attachError explains an error of TUNSETIFF.
func attachError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w (CAP_NET_ADMIN is needed); try: sudo, or --tun none", ErrOpen, err)
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: the interface %q exists; try: --tun with another name", ErrOpen, name)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: the kernel refuses the name %q: %w", ErrOpen, name, err)
	}
	return fmt.Errorf("%w: interface %q: %w", ErrOpen, name, err)
}
