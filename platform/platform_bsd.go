//go:build darwin || freebsd || openbsd

package platform

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// configure gives an interface its address and routes, and sets it up.
func configure(ifname string, s Settings) error {
	commands := [][]string{
		{"ifconfig", ifname, "mtu", strconv.Itoa(s.MTU)},
		{"ifconfig", ifname, "inet6", s.ULA.String(), "prefixlen", "128", "alias"},
		{"ifconfig", ifname, "up"},
	}
	for _, p := range s.Zones {
		commands = append(commands, routeCommand("add", ifname, s.ULA, p))
	}
	return runAll(ifname, commands)
}

// addRoute leads a prefix to the interface.
func addRoute(ifname string, p netip.Prefix) error { return changeRoute("add", ifname, p) }

// removeRoute undoes addRoute.
func removeRoute(ifname string, p netip.Prefix) error { return changeRoute("delete", ifname, p) }

func changeRoute(verb, ifname string, p netip.Prefix) error {
	ula, err := address(ifname)
	if err != nil {
		return err
	}
	return runAll(ifname, [][]string{routeCommand(verb, ifname, ula, p)})
}

// address finds the ULA that configure gave the interface.
func address(ifname string) (netip.Addr, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w %s: %w", ErrConfigure, ifname, err)
	}
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w %s: %w", ErrConfigure, ifname, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsPrivate() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w %s: it has no address yet", ErrConfigure, ifname)
}

// clock reads one of the system's clocks. A clock that does not exist stands still.
func clock(id int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
