package platform

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// indexOf finds an interface by the name that it has just got.
func indexOf(ifname string) (int, error) {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return 0, fmt.Errorf("find it: %w", err)
	}
	return link.Attrs().Index, nil
}

// TakesSource reports whether packets to the internet over IPv6 would leave with ula as
// their source. The kernel does that if there is a default route, but its interface has
// only link-local addresses. Such connections cannot work, with or without us, but they
// now show our address. We cannot prevent it; a global address on that interface does.
func TakesSource(ula netip.Addr) (bool, error) {
	internet := netip.MustParseAddr("2600::") // any address there; nothing is sent
	routes, err := netlink.RouteGet(internet.AsSlice())
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for the route to the internet: %w", err)
	}
	for _, r := range routes {
		if src, ok := netip.AddrFromSlice(r.Src); ok && src == ula {
			return true, nil
		}
	}
	return false, nil
}

// BootTime is the time since the machine was started, sleep included. Only differences
// mean anything. It is read with each batch of packets by a system call that never waits.
// The scheduler is not told of the call, since that would wake its monitor.
func BootTime() time.Duration {
	var t unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// DefaultDirectories returns those of Linux.
func DefaultDirectories() Directories {
	return Directories{"/var/lib/anode", "/run/anode/anode.sock", "/etc/anode/anode.toml"}
}
