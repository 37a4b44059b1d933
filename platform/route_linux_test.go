package platform

import (
	"net/netip"
	"os"
	"testing"
)

// TestRouteOf: the kernel's decision about an address, and the prefixes of a LAN that
// cover it, with and without a route of ours.
func TestRouteOf(t *testing.T) {
	inSpace(t, func() {
		peer := netip.MustParseAddr("fd12:3456:7890::3") // a stranger: only the zone's route leads to it
		if i, name, err := RouteOf(peer); err == nil {
			t.Errorf("without routes: %d %s", i, name)
		}
		if adapter(t) == nil {
			return
		}
		check := func(when, dev string, covering ...string) {
			t.Helper()
			if i, name, err := RouteOf(peer); err != nil || name != dev || i == 0 {
				t.Errorf("%s: %d %q, %v", when, i, name, err)
			}
			list, err := CoveringPrefixes("pt0", peer, netip.MustParseAddr("2001:db8::1"))
			if err != nil || len(list) != len(covering) {
				t.Errorf("%s: %v, %v", when, list, err)
				return
			}
			for i, want := range covering {
				if list[i].String() != want || list[i].Addr != peer {
					t.Errorf("%s: %v, want %s", when, list[i], want)
				}
			}
		}
		check("with the zone's route", "pt0")
		ip(t, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
		ip(t, "link", "set", "lan1", "up")
		ip(t, "link", "set", "lan0", "up")
		ip(t, "-6", "route", "add", "default", "dev", "lan0")
		check("with a default route", "pt0")
		ip(t, "-6", "route", "add", "fd12:3456:7890::/64", "dev", "lan0")
		ip(t, "-6", "route", "add", "fd12:3456:7890::/48", "dev", "lan0", "table", "77")
		check("with a prefix of the LAN", "lan0", "fd12:3456:7890::/64 dev lan0", "fd12:3456:7890::/48 dev lan0")
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0o644); err != nil {
			t.Error(err)
		}
		if _, name, err := RouteOf(ula); err != nil || name != "lo" {
			t.Errorf("our own: %q, %v", name, err)
		}
	})
}
