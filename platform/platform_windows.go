package platform

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// configure gives an interface its address and routes. What netsh stores as "active" goes
// with the interface.
func configure(ifname string, s Settings) error {
	commands := [][]string{
		netsh("set", "interface", "interface="+ifname, "dadtransmits=0", "routerdiscovery=disabled", "store=active"),
		netsh("set", "subinterface", "interface="+ifname, "mtu="+strconv.Itoa(s.MTU), "store=active"),
		netsh("add", "address", "interface="+ifname, "address="+s.ULA.String()+"/128", "store=active"),
	}
	for _, p := range s.Zones {
		commands = append(commands, routeCommand("add", ifname, p))
	}
	return runAll(ifname, commands)
}

// addRoute routes a prefix to the interface.
func addRoute(ifname string, p netip.Prefix) error {
	return runAll(ifname, [][]string{routeCommand("add", ifname, p)})
}

// removeRoute undoes addRoute.
func removeRoute(ifname string, p netip.Prefix) error {
	return runAll(ifname, [][]string{routeCommand("delete", ifname, p)})
}

func routeCommand(verb, ifname string, p netip.Prefix) []string {
	return netsh(verb, "route", "prefix="+p.String(), "interface="+ifname, "store=active")
}

func netsh(arg ...string) []string { return append([]string{"netsh", "interface", "ipv6"}, arg...) }

// BootTime is the time since the machine was started, sleep included. Only
// differences mean anything.
func BootTime() time.Duration { return windows.DurationSinceBoot() }

// DefaultDirectories returns those of Windows.
func DefaultDirectories() Directories {
	dir := filepath.Join(os.Getenv("ProgramData"), "anode")
	return Directories{dir, filepath.Join(dir, "anode.sock"), filepath.Join(dir, "anode.toml")}
}
