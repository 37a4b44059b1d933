package platform

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

func routeCommand(verb, ifname string, _ netip.Addr, p netip.Prefix) []string {
	return []string{"route", "-q", "-n", verb, "-inet6", p.String(), "-interface", ifname}
}

// BootTime is the time since the machine was started, sleep included: here,
// CLOCK_MONOTONIC counts sleep. Only differences mean anything.
func BootTime() time.Duration { return clock(unix.CLOCK_MONOTONIC) }

// DefaultDirectories returns those of macOS.
func DefaultDirectories() Directories {
	return Directories{"/Library/Application Support/anode", "/var/run/anode/anode.sock", "/etc/anode/anode.toml"}
}
