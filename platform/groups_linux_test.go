package platform

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// What sockets join is listed, and no more when they are closed; that of another interface is not.
func TestGroups(t *testing.T) {
	inSpace(t, func() {
		k := adapterWith(t, withIP4())
		if k == nil {
			return
		}
		ip(t, "link", "set", "lo", "up")
		dev, err := net.InterfaceByName("pt0")
		if err != nil {
			t.Error(err)
			return
		}
		mdns6, mdns4, other := netip.MustParseAddr("ff02::fb"), netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("239.1.2.3")
		has := func(want ...netip.Addr) {
			t.Helper()
			list, err := Groups(dev.Index)
			proc, perr := groupsOfProc(dev.Index)
			if err != nil || perr != nil {
				t.Error(err, perr)
			}
			for _, a := range []netip.Addr{mdns6, mdns4, other} {
				if slices.Contains(list, a) != slices.Contains(want, a) {
					t.Errorf("%v: %v", a, list)
				}
				if a.Is4() && slices.Contains(proc, a) != slices.Contains(want, a) {
					t.Errorf("%v in the file: %v", a, proc)
				}
			}
			if !slices.Contains(list, netip.MustParseAddr("ff02::1")) || !slices.Contains(list, netip.MustParseAddr("224.0.0.1")) {
				t.Errorf("all nodes are missing: %v", list)
			}
			if !slices.IsSortedFunc(list, netip.Addr.Compare) || len(list) != len(slices.Compact(slices.Clone(list))) {
				t.Errorf("not sorted: %v", list)
			}
		}
		has()
		six, err := net.ListenPacket("udp6", "[::]:0")
		if err != nil {
			t.Error(err)
			return
		}
		four, err := net.ListenPacket("udp4", "0.0.0.0:0")
		if err != nil {
			t.Error(err)
			return
		}
		lo, _ := net.InterfaceByName("lo")
		for _, err := range []error{
			ipv6.NewPacketConn(six).JoinGroup(dev, &net.UDPAddr{IP: mdns6.AsSlice()}),
			ipv4.NewPacketConn(four).JoinGroup(dev, &net.UDPAddr{IP: mdns4.AsSlice()}),
			ipv4.NewPacketConn(four).JoinGroup(lo, &net.UDPAddr{IP: other.AsSlice()}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		has(mdns6, mdns4)
		six.Close()
		has(mdns4)
		four.Close()
		has()
	})
}

func TestIGMPFile(t *testing.T) {
	const file = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n" +
		"1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n" +
		"12\tanode0    :     2      V3\n\t\t\t\tFB0000E0     2 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n"
	list, err := parseIGMP(strings.NewReader(file), 12)
	if err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := parseIGMP(strings.NewReader("nonsense"), 1); err == nil {
		t.Errorf("of nonsense: %v", list)
	}
}
