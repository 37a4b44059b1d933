package platform

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func routeCommand(verb, ifname string, _ netip.Addr, p netip.Prefix) []string {
	return []string{"route", "-q", "-n", verb, "-inet6", p.String(), "-interface", ifname}
}

// BootTime is the time since the machine was started; whether it counts sleep depends on
// the machine. Only differences mean anything.
func BootTime() time.Duration { return clock(unix.CLOCK_MONOTONIC) }

// DefaultDirectories are FreeBSD's.
func DefaultDirectories() Directories {
	return Directories{"/var/db/anode", "/var/run/anode/anode.sock", "/usr/local/etc/anode/anode.toml"}
}
