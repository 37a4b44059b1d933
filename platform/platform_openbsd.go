package platform

import (
	"net/netip"
	"time"
)

// routeCommand names the interface by its address, as OpenBSD's route wants it.
func routeCommand(verb, _ string, ula netip.Addr, p netip.Prefix) []string {
	return []string{"route", "-q", "-n", verb, "-inet6", p.String(), "-iface", ula.String()}
}

// clockBootTime is CLOCK_BOOTTIME of OpenBSD's sys/_time.h.
const clockBootTime = 6

// BootTime is the time since the machine was started, sleep included. Only
// differences mean anything.
func BootTime() time.Duration { return clock(clockBootTime) }

// DefaultDirectories are OpenBSD's.
func DefaultDirectories() Directories {
	return Directories{"/var/db/anode", "/var/run/anode/anode.sock", "/etc/anode/anode.toml"}
}
