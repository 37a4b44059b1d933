package main_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestNetFriends: machines that show themselves to friends alone find each other by IPv4 and by IPv6, with
// any port. The kernel sends from the address that the announcement is made for, also where there are two.
func TestNetFriends(t *testing.T) {
	friends := []string{"--set", "discovery.announce=friends"}
	for _, c := range []struct {
		name  string
		four  bool
		flags []string
	}{
		{"IPv4 alone", true, friends},
		{"IPv4 alone, another port", true, append([]string{"--port", "0"}, friends...)},
		{"IPv6 link-local alone", false, friends},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			want := "udp:10.0."
			for i, h := range []*host{a, b} {
				if c.four {
					h.sysctl("ipv6/conf/eth1/disable_ipv6=1")
					h.ip(fmt.Sprintf("addr add 10.0.2.%d/24 dev eth1", i+1))
				} else {
					h.ip(fmt.Sprintf("addr del 10.0.1.%d/24 dev eth1", i+1))
					want = "udp:[fe80::"
				}
			}
			for _, h := range []*host{a, b} {
				within(t, dialWait, "the link's addresses", func() bool {
					return !strings.Contains(h.run("ip", "-6", "addr"), "tentative")
				})
				h.launch(c.flags...)
			}
			a.meets(b)
			if p := a.peer(b); p.State != "up" || p.Path.Kind != "lan" || !strings.HasPrefix(p.Path.Endpoint, want) {
				t.Errorf("%+v", p)
			}
			if n := b.status().Counters["drop_friends"]; n != 0 {
				t.Errorf("%d announcements were not recognised", n)
			}
			a.down(syscall.SIGTERM)
		})
	}
}
