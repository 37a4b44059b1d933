package platform

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addrGenNone keeps the kernel from making a link-local address (IN6_ADDR_GEN_MODE_NONE),
// and so from soliciting routers.
const addrGenNone = 1

// Configure gives an interface its address and routes, and sets it up. It may be called
// again with other settings; it removes nothing.
func Configure(ifname string, s Settings) error {
	link, err := find(ifname)
	if err != nil {
		return err
	}
	if err := enableIPv6(ifname); err != nil {
		return err
	}
	addr := &netlink.Addr{
		IPNet: netlink.NewIPNet(s.ULA.AsSlice()),
		Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE,
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"set the address mode", func() error { return netlink.LinkSetIP6AddrGenMode(link, addrGenNone) }},
		{"set the MTU", func() error { return netlink.LinkSetMTU(link, s.MTU) }},
		{"set the queue's length", func() error { return unlessZero(s.TxQueueLen, link, netlink.LinkSetTxQLen) }},
		{"set the GSO size", func() error { return unlessZero(s.GSOMaxSize, link, netlink.LinkSetGSOMaxSize) }},
		{"add the address", func() error { return netlink.AddrReplace(link, addr) }},
		{"set it up", func() error { return netlink.LinkSetUp(link) }},
		{"wait for the address", func() error { return untilLocal(s.ULA) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return configureError(ifname, step.what, err)
		}
	}
	for _, p := range s.Routes {
		if err := netlink.RouteReplace(route(link, p)); err != nil {
			return configureError(ifname, "add the route to "+p.String(), err)
		}
	}
	return nil
}

func unlessZero(n int, link netlink.Link, set func(netlink.Link, int) error) error {
	if n == 0 {
		return nil
	}
	return set(link, n)
}

// untilLocal waits until packets to the address are taken as ours. The kernel
// completes an address in a work queue, also without duplicate address detection, and
// drops what comes before that.
func untilLocal(ula netip.Addr) error {
	for range 2000 {
		routes, err := netlink.RouteGet(ula.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errors.New("the kernel did not accept it within two seconds")
}

// AddRoute routes a prefix to the interface. If the route exists, that is no error.
func AddRoute(ifname string, p netip.Prefix) error {
	link, err := find(ifname)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(route(link, p)); err != nil {
		return configureError(ifname, "add the route to "+p.String(), err)
	}
	return nil
}

// RemoveRoute undoes AddRoute. If the route does not exist, that is no error.
func RemoveRoute(ifname string, p netip.Prefix) error {
	link, err := find(ifname)
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(route(link, p)); err != nil && !errors.Is(err, unix.ESRCH) {
		return configureError(ifname, "remove the route to "+p.String(), err)
	}
	return nil
}

// firstMetric is the kernel's default metric of IPv6 routes.
const firstMetric = 1024

// route has a metric of its own for each interface: the adapter of a second node in the
// same zone must not take over the routes of the first one's.
func route(link netlink.Link, p netip.Prefix) *netlink.Route {
	p = p.Masked()
	return &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Priority:  firstMetric + link.Attrs().Index,
		Dst:       &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 128)},
	}
}

func find(ifname string) (netlink.Link, error) {
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return nil, configureError(ifname, "find it", err)
	}
	return link, nil
}

// enableIPv6 clears the interface's own disable_ipv6, which it inherits from the
// default; with it, the kernel would refuse the address without saying why.
func enableIPv6(ifname string) error {
	file := filepath.Join("/proc/sys/net/ipv6/conf", ifname, "disable_ipv6")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w %s: this kernel runs without IPv6; try: boot it without ipv6.disable=1", ErrConfigure, ifname)
	case err != nil:
		return configureError(ifname, "read its disable_ipv6", err)
	case strings.TrimSpace(string(b)) == "0":
		return nil
	}
	if err := os.WriteFile(file, []byte("0"), 0o644); err != nil {
		return fmt.Errorf("%w %s: IPv6 is disabled on it and cannot be enabled: %w; try: sysctl -w net.ipv6.conf.default.disable_ipv6=0",
			ErrConfigure, ifname, err)
	}
	return nil
}

func configureError(ifname, what string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w %s: %s: %w (CAP_NET_ADMIN is needed)", ErrConfigure, ifname, what, err)
	}
	return fmt.Errorf("%w %s: %s: %w", ErrConfigure, ifname, what, err)
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
