package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestInterfaces: of all sorts only those with neighbours are listed.
func TestInterfaces(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up",
		"link add lan type veth peer name other",
		"link set lan addrgenmode none", "link set lan up", "link set other up",
		"addr add 10.77.0.1/24 dev lan", "addr add 10.78.0.1/31 dev lan", "addr add fe80::1/64 dev lan nodad",
		"link add br0 type bridge", "link add in0 type veth peer name in1",
		"link set in0 master br0", "link set in0 up", "link set in1 up", "link set br0 up",
		"link add down0 type veth peer name down1",                      // these stay down
		"link add half0 type veth peer name half1", "link set half0 up", // no carrier
		"link add vx0 type vxlan id 1 dev lan dstport 4789", "link set vx0 up",
		"tuntap add dev tap0 mode tap", "link set tap0 up",
		"tuntap add dev tun0 mode tun", "link set tun0 up",
		"link add mine type veth peer name mine1", "link set mine up", "link set mine1 up",
	)
	s := new(System)
	s.Exclude("mine")
	s.Exclude("mine1", "nobody's")
	var names []string
	for _, i := range n.state(s).Interfaces {
		names = append(names, i.Name)
		if i.Name != "lan" {
			continue
		}
		if !i.Multicast || i.MTU != 1500 || i.Index == 0 || !slices.Equal(i.Broadcast, []netip.Addr{directed}) || len(i.Prefixes) != 3 {
			t.Errorf("%+v", i)
		}
	}
	slices.Sort(names)
	if want := []string{"br0", "in1", "lan", "other"}; !slices.Equal(names, want) {
		t.Errorf("interfaces %v, want %v", names, want)
	}
}

// TestRequests: the kernel is asked as often for many links and addresses as for one.
func TestRequests(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up")
	links := 0
	check := func() {
		t.Helper()
		var requests uint32
		var st State
		n.do(func() {
			c, err := dialNetlink()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.close()
			if st, err = new(System).state(c); err != nil {
				t.Error(err)
			}
			requests = c.requests
		})
		if requests != 4 || len(st.Interfaces) != links {
			t.Errorf("%d requests for %d interfaces, want 4 for %d", requests, len(st.Interfaces), links)
		}
		for _, i := range st.Interfaces {
			if len(i.Prefixes) != 1 || len(i.Broadcast) != 1 {
				t.Errorf("%+v", i)
			}
		}
	}
	check()
	for i := range 40 {
		for _, name := range []string{fmt.Sprint("a", i), fmt.Sprint("b", i)} {
			if name[0] == 'a' {
				n.ip(fmt.Sprintf("link add a%d type veth peer name b%d", i, i))
			}
			n.ip("link set "+name+" addrgenmode none", "link set "+name+" up", fmt.Sprintf("addr add 10.%d.%d.1/24 dev %s", name[0], i, name))
			links++
		}
		if i == 0 {
			check()
		}
	}
	check()
}

// TestState: what changes how packets leave is another state, and nothing else is.
func TestState(t *testing.T) {
	a, b := cable(t)
	s := new(System)
	last := a.state(s)
	index := a.index()
	step := func(n *namespace, another bool, lines ...string) {
		t.Helper()
		for _, line := range lines {
			n.ip(line)
			now := a.state(s)
			if now.Same(last) == another {
				t.Errorf("ip %s: another state: %v, want %v; now %+v", line, !another, another, now)
			}
			last = now
		}
	}
	routes := func(four, six Route) {
		t.Helper()
		if last.Route4 != four || last.Route6 != six {
			t.Errorf("routes %+v and %+v, want %+v and %+v", last.Route4, last.Route6, four, six)
		}
	}
	addr := netip.MustParseAddr
	four, six := Route{addr("10.77.0.2"), index, addr("10.77.0.1")}, Route{addr("fe80::2"), index, addr("fd77::1")}
	routes(Route{}, Route{})

	step(a, false,
		"addr change fd77::1/64 dev lan valid_lft 1000 preferred_lft 500",
		"addr change 10.77.0.1/24 brd 10.77.0.255 dev lan valid_lft 1000 preferred_lft 500",
		"link set lan txqueuelen 77", "link set lan promisc on", "link set lan alias x",
		"link set lo up", "addr add 192.0.2.1/32 dev lo",
		"tuntap add dev tun0 mode tun", "link set tun0 up", "addr add 10.99.0.1/24 dev tun0", "link del tun0",
		"link add v0 type veth peer name v1", "link set v0 up", "link del v0",
		"route add 10.5.0.0/16 via 10.77.0.2", "-6 route add 2001:db8::/32 via fe80::2 dev lan")
	step(a, true, "addr add 10.78.0.1/24 dev lan", "addr del 10.78.0.1/24 dev lan", "link set lan mtu 1400", "link set lan mtu 1500")

	step(a, true, "route add default via 10.77.0.2")
	step(a, true, "-6 route add default via fe80::2 dev lan")
	routes(four, six)
	step(a, false, "route add default via 10.77.0.99 metric 500", "route add default via 10.77.0.98 table 77")
	step(a, true, "rule add from all lookup 77 priority 100") // as some VPNs do
	four.Via = addr("10.77.0.98")
	routes(four, six)
	step(a, true, "rule del priority 100", "route del default via 10.77.0.2", "route add 0.0.0.0/1 via 10.77.0.97") // as others do
	four.Via = addr("10.77.0.97")
	routes(four, six)
	step(a, true, "-6 route del default", "-6 route add 2000::/3 via fe80::3 dev lan", "-6 route del 2000::/3")
	step(a, false, "-6 route add unreachable default metric 9999")
	step(a, true, "-6 route add default via fe80::2 dev lan", "route add blackhole 0.0.0.0/2")
	routes(Route{}, six)
	step(a, true, "route del blackhole 0.0.0.0/2")

	step(b, true, "link set lan down", "link set lan up") // the carrier
	step(a, true, "link set lan down")
	if len(last.Interfaces) != 0 {
		t.Errorf("interfaces %+v", last.Interfaces)
	}
}

// message makes an answer of the kernel's of one message.
func message(kind, flags uint16, sequence uint32, body []byte) []byte {
	order := binary.NativeEndian
	b := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, flags)
	b = order.AppendUint32(b, sequence)
	return append(order.AppendUint32(b, 0), body...)
}

// address makes the body of a message about an address.
func address(p netip.Prefix, flags uint32, index int) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[1] = byte(p.Bits())
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	b = appendAttr(b, unix.IFA_ADDRESS, p.Addr().AsSlice())
	return appendAttr(b, unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, flags))
}

func TestParseAddress(t *testing.T) {
	p := netip.MustParsePrefix("fd00::1/64")
	for flags, want := range map[uint32]bool{
		0: true, unix.IFA_F_PERMANENT: true, unix.IFA_F_DEPRECATED: true,
		unix.IFA_F_TENTATIVE: false, unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC: true,
		unix.IFA_F_DADFAILED: false, unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED: false,
	} {
		index, got, ok := parseAddress(unix.RTM_NEWADDR, address(p, flags, 7))
		if ok != want || ok && (index != 7 || got != p) {
			t.Errorf("flags %#x: %d, %v, %v", flags, index, got, ok)
		}
	}
	other := appendAttr(address(netip.MustParsePrefix("10.0.0.2/32"), 0, 1), unix.IFA_LOCAL, []byte{10, 0, 0, 1})
	if _, got, ok := parseAddress(unix.RTM_NEWADDR, other); !ok || got.Addr() != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("point to point: %v", got)
	}
}

func TestAnswer(t *testing.T) {
	body := make([]byte, 4)
	errno := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff)) // -1
	for _, c := range []struct {
		name  string
		reads [][]byte
		dump  bool
		seen  int
		done  bool
		err   error
	}{
		{"one", [][]byte{message(24, 0, 5, body)}, false, 1, true, nil},
		{"dump", [][]byte{append(message(16, 0, 5, body), message(16, 0, 5, body)...), message(unix.NLMSG_DONE, 0, 5, body)}, true, 2, true, nil},
		{"of another request", [][]byte{message(16, 0, 4, body), message(16, 0, 5, body)}, false, 1, true, nil},
		{"refused", [][]byte{message(unix.NLMSG_ERROR, 0, 5, errno)}, false, 0, true, refused{unix.EPERM}},
		{"cut off", [][]byte{message(16, 0, 5, body)[:18]}, true, 0, false, errNetlink},
		{"no header", [][]byte{{1, 2, 3}}, true, 0, false, errNetlink},
		{"nothing yet", [][]byte{{}}, true, 0, false, nil},
	} {
		seen := 0
		a := answer{sequence: 5, dump: c.dump, each: func(uint16, []byte) { seen++ }}
		var err error
		for _, b := range c.reads {
			if err = a.take(b); err != nil {
				break
			}
		}
		if err != c.err || seen != c.seen || a.done != c.done || a.interrupted {
			t.Errorf("%s: %v, %d seen, done %v", c.name, err, seen, a.done)
		}
	}
	a := answer{sequence: 5, dump: true, each: func(uint16, []byte) {}}
	if err := a.take(message(16, unix.NLM_F_DUMP_INTR, 5, body)); err != nil || !a.interrupted {
		t.Errorf("an interrupted dump: %v", err)
	}
}

// FuzzNetlink: no message of the kernel's makes the decoders fail, and what they return
// is sound.
func FuzzNetlink(f *testing.F) {
	p := netip.MustParsePrefix("10.0.0.1/24")
	f.Add(message(unix.RTM_NEWADDR, 0, 1, address(p, 0, 7)))
	link := appendAttr(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_MTU, []byte{220, 5, 0, 0})
	f.Add(message(unix.RTM_NEWLINK, 0, 1, appendAttr(link, unix.IFLA_LINKINFO, appendAttr(nil, unix.IFLA_INFO_KIND, []byte("veth")))))
	route := make([]byte, unix.SizeofRtMsg)
	route[7] = unix.RTN_UNICAST
	f.Add(message(unix.RTM_NEWROUTE, 0, 1, appendAttr(route, unix.RTA_GATEWAY, []byte{10, 0, 0, 1})))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := answer{sequence: 1, dump: true}
		left := len(b)
		a.each = func(kind uint16, body []byte) {
			if left -= unix.SizeofNlMsghdr + len(body); left < 0 {
				t.Fatal("more came out than went in")
			}
			if d, ok := parseDevice(kind, body); ok && len(d.name) > len(body) {
				t.Errorf("%+v", d)
			}
			if _, p, ok := parseAddress(kind, body); ok {
				i := new(Interface)
				if i.add(p, true, true); !p.IsValid() || len(i.Prefixes) != 1 {
					t.Errorf("%v", p)
				}
			}
			if r := parseRoute(kind, body); kind != unix.RTM_NEWROUTE && r != (Route{}) {
				t.Errorf("%+v", r)
			}
		}
		_ = a.take(b) // any error will do
	})
}
