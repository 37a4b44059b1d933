package platform

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var (
	alias     = netip.MustParseAddr("100.70.1.2")
	peerAlias = netip.MustParseAddr("100.80.3.4")
	aliases   = netip.MustParsePrefix("100.64.0.0/10")
)

// withIP4 are settings with an alias.
func withIP4() Settings {
	s := settings()
	s.IP4, s.Aliases = IP4{alias, aliases}, []netip.Addr{peerAlias}
	return s
}

// routes4 are all IPv4 routes, as text.
func routes4(t *testing.T) string { return ip(t, "-4", "route", "show", "table", "all") }

// unkeptIP4 lists what of IPv4 is not as withIP4 wants it.
func unkeptIP4(t *testing.T) (list []string) {
	addrs := ip(t, "-4", "addr", "show", "dev", "pt0")
	if strings.Count(addrs, "inet ") != 1 || !strings.Contains(addrs, "100.70.1.2/10 brd 100.127.255.255 scope global noprefixroute pt0") {
		list = append(list, "address: "+addrs)
	}
	out := routes4(t)
	if !strings.Contains(out, "100.80.3.4 dev pt0 proto 97 scope link metric 1 mtu 1419") || !strings.Contains(out, "broadcast 100.127.255.255 dev pt0") ||
		strings.Contains(out, "100.64.0.0") {
		list = append(list, "routes: "+out)
	}
	return list
}

// The alias is on the adapter with the range's length and broadcast, and nothing but the peers' aliases
// and the broadcast leads there. What others change comes back.
func TestAlias(t *testing.T) {
	for _, change := range []string{
		"",
		"ip -4 addr flush dev pt0",
		"ip -4 route flush dev pt0",
		"ip -4 route del 100.80.3.4",
		"ip link set pt0 down",
		"ip -4 route add 100.64.0.0/10 dev pt0 proto dhcp metric 1003",                 // dhcpcd
		"ip -4 route add 100.64.0.0/10 dev pt0 proto kernel src 100.70.1.2 metric 450", // NetworkManager
	} {
		t.Run(change, func(t *testing.T) {
			inSpace(t, func() {
				keepWith(t, withIP4(), func(k *kept) {
					if change != "" {
						args := strings.Fields(change)
						if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
							t.Errorf("%v %s", err, out)
						}
						until(t, "a repair", func() bool { return k.log.warnings.Load() > 0 })
					}
					until(t, "all to be there", func() bool { return len(unkeptIP4(t)) == 0 })
					for _, missing := range unkeptIP4(t) {
						t.Error(missing)
					}
					checkKept(t)
					if s := k.State(); len(s.Problems) != 0 || s.IP4 != "" {
						t.Errorf("%+v", s)
					}
				})
			})
		})
	}
}

// home makes an interface to a LAN with a default route.
func home(t *testing.T, dev string) {
	ip(t, "link", "add", dev, "type", "veth", "peer", "name", "cable")
	ip(t, "link", "set", "cable", "up")
	ip(t, "link", "set", dev, "up")
	ip(t, "addr", "add", "192.168.7.2/24", "dev", dev)
	ip(t, "route", "add", "default", "via", "192.168.7.1")
}

// While another interface has an address or a route in the range, there is nothing of IPv4, and people
// can see why. IPv6 goes on.
func TestAliasRefused(t *testing.T) {
	for _, rival := range []struct{ add, remove, names string }{
		{"addr add 100.99.0.1/32 dev other", "addr del 100.99.0.1/32 dev other", "other has the address 100.99.0.1/32"},
		{"route add 100.100.0.0/16 dev other table 52", "route del 100.100.0.0/16 dev other table 52", "other has the route 100.100.0.0/16"},
		{"route add 100.0.0.0/9 dev other", "route del 100.0.0.0/9 dev other", "other has the route 100.0.0.0/9"},
		{"route add unreachable 100.66.0.0/16", "route del unreachable 100.66.0.0/16", "another program has the route 100.66.0.0/16"},
	} {
		t.Run(rival.add, func(t *testing.T) {
			inSpace(t, func() {
				home(t, "other")
				ip(t, "route", "add", "0.0.0.0/1", "via", "192.168.7.1") // as programs do for everything
				keepWith(t, withIP4(), func(k *kept) {
					until(t, "IPv4", func() bool { return len(unkeptIP4(t)) == 0 })
					ip(t, strings.Fields(rival.add)...)
					until(t, "the refusal", func() bool { return strings.Contains(k.State().IP4, rival.names) })
					until(t, "an end of all of IPv4", func() bool { return !strings.Contains(routes4(t)+ip(t, "-4", "addr"), "pt0") })
					s := k.State()
					if len(s.Problems) != 1 || s.Problems[0].Code != ProblemIP4 || !strings.Contains(s.Problems[0].Text, "try: [lan] ip4 = ") {
						t.Errorf("%+v", s)
					}
					if out := ruleset(t); strings.Contains(out, "table ip anode") || !strings.Contains(out, "table ip6 anode") {
						t.Errorf("guards:\n%s", out)
					}
					checkKept(t)
					ip(t, strings.Fields(rival.remove)...)
					until(t, "IPv4 again", func() bool { return len(unkeptIP4(t)) == 0 && k.State().IP4 == "" })
					until(t, "no problem", func() bool { return len(k.State().Problems) == 0 })
				})
			})
		})
	}
}

func ruleset(t *testing.T) string {
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Errorf("%v %s", err, out)
	}
	return string(out)
}

// A rival that is there first: the node starts all the same, with IPv6 alone.
func TestAliasRefusedAtStart(t *testing.T) {
	inSpace(t, func() {
		home(t, "other")
		ip(t, "addr", "add", "100.99.0.1/10", "dev", "other")
		keepWith(t, withIP4(), func(k *kept) {
			until(t, "the refusal", func() bool { return len(k.State().Problems) == 1 })
			if out := ip(t, "-4", "addr", "show", "dev", "pt0"); strings.Contains(out, "inet ") {
				t.Error(out)
			}
			checkKept(t)
			ip(t, "addr", "del", "100.99.0.1/10", "dev", "other")
			until(t, "IPv4", func() bool { return len(unkeptIP4(t)) == 0 })
		})
	})
}

// Games adds two routes and takes back exactly these; those of others to the same place stay.
func TestGames(t *testing.T) {
	for _, before := range []string{"", "224.0.0.0/4", "255.255.255.255/32"} {
		t.Run(before, func(t *testing.T) {
			inSpace(t, func() {
				home(t, "eth0")
				if before != "" {
					ip(t, "route", "add", before, "dev", "eth0")
				}
				keepWith(t, withIP4(), func(k *kept) {
					until(t, "IPv4", func() bool { return len(unkeptIP4(t)) == 0 })
					old := routes4(t)
					leads := func(to, dev string) bool {
						return strings.Contains(ip(t, "route", "get", to), " dev "+dev+" ")
					}
					w := withIP4().Wanted
					w.Games = true
					k.Want(w)
					until(t, "everything to lead to the adapter", func() bool {
						return leads("255.255.255.255", "pt0") && leads("224.0.0.251", "pt0") && leads("239.255.255.250", "pt0")
					})
					if !leads("192.168.7.255", "eth0") || !leads("8.8.8.8", "eth0") {
						t.Error("more than that leads to the adapter")
					}
					w.Games = false
					k.Want(w)
					until(t, "the routes as before", func() bool { return routes4(t) == old })
					if n := k.log.warnings.Load(); n != 0 {
						t.Errorf("%d warnings", n)
					}
				})
			})
		})
	}
}

// Packets that a neighbour sends with a peer's alias, or to our alias or its broadcast, are dropped.
func TestGuardOfAliases(t *testing.T) {
	inSpace(t, func() {
		home(t, "eth0")
		keepWith(t, withIP4(), func(k *kept) {
			until(t, "the guard", func() bool { return strings.Contains(ruleset(t), "100.80.3.4") })
			out := ruleset(t)
			for _, want := range []string{"ip daddr 100.70.1.2 counter name \"to_us\" drop", "ip daddr 100.127.255.255 counter name \"to_us\" drop",
				"ip saddr 100.70.1.2", "ip saddr @peers counter name \"as_peer\" drop", "ip daddr @peers counter name \"outside\" drop", "flags owner"} {
				if !strings.Contains(out, want) {
					t.Errorf("no %s in:\n%s", want, out)
				}
			}
			// Another program's route leads the peer's alias elsewhere: nothing leaves there.
			ip(t, "neigh", "add", "100.80.3.4", "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
			c, err := (&net.Dialer{Control: boundTo("eth0")}).Dial("udp4", "100.80.3.4:9")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write([]byte("x")); err != nil && !errors.Is(err, unix.EPERM) { // dropped
				t.Error(err)
			}
			until(t, "the drop", func() bool { return k.Counters()["guard_drop_outside"] > 0 })
		})
	})
}

// boundTo binds a socket to an interface.
func boundTo(dev string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), dev) }), err)
	}
}
