package main

import (
	"os"
	"strings"

	"anodenet/anode"
	"anodenet/platform"
)

// examineSystem judges what a daemon needs of the system.
func examineSystem() []finding {
	var list []finding
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		list = append(list, finding{"system", bad, "/dev/net/tun does not exist", "modprobe tun"})
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6"); err != nil || strings.TrimSpace(string(b)) == "1" {
		list = append(list, finding{"system", bad, "IPv6 is switched off, but the adapter needs it", "sysctl net.ipv6.conf.all.disable_ipv6=0"})
	}
	if len(list) == 0 {
		list = append(list, finding{"system", fine, "has TUN and IPv6", ""})
	}
	return list
}

func takesSource(u anode.ULA) (bool, error) { return platform.TakesSource(u.Addr()) }
