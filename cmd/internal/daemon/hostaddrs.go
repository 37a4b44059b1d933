package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"anodenet/cmd/internal/control"
)

// maxHostAddrs is how many addresses of one name are used.
const maxHostAddrs = 4

// judge returns what an answer says of a name. The addresses of an earlier answer stay if
// it brings none: they may work, and nobody can end them by forging an error.
func (r *resolving) judge(a hostAnswer, before []netip.Addr) control.Host {
	x := control.Host{State: control.HostFound, Addresses: before}
	var dns *net.DNSError
	switch {
	case errors.Is(a.err, context.DeadlineExceeded):
		x.State, x.Problem = control.HostFailed, "no answer from DNS"
	case errors.As(a.err, &dns) && dns.IsNotFound:
		x.State, x.Problem = control.HostNotFound, "not found"
	case errors.As(a.err, &dns) && dns.IsTimeout:
		x.State, x.Problem = control.HostFailed, "no answer from DNS"
	case a.err != nil:
		x.State, x.Problem = control.HostFailed, "DNS cannot be asked, or answers with an error"
	case len(a.addrs) == 0:
		x.State, x.Problem = control.HostNotFound, "not found: it has no address"
	default:
		addrs := chosen(a.addrs, r.inside)
		if len(addrs) == 0 {
			x.State, x.Problem = control.HostUnusable, "no address of it can be that of another machine"
			break
		}
		x.Addresses = addrs
	}
	if x.Addresses == nil {
		x.Addresses = []netip.Addr{}
	}
	return x
}

// chosen returns the addresses of an answer that are used, of both families if it has both.
// Their order does not depend on that of the answer, which servers change each time.
func chosen(answer []netip.Addr, inside map[netip.Addr]bool) (list []netip.Addr) {
	var four, six []netip.Addr
	for _, a := range answer {
		a = a.Unmap().WithZone("")
		switch {
		case !usableAddr(a) || inside[a]:
		case a.Is4():
			four = append(four, a)
		default:
			six = append(six, a)
		}
	}
	slices.SortFunc(four, netip.Addr.Compare)
	slices.SortFunc(six, netip.Addr.Compare)
	four, six = slices.Compact(four), slices.Compact(six)
	for k := range max(len(four), len(six)) {
		for _, family := range [][]netip.Addr{six, four} {
			if k < len(family) && len(list) < maxHostAddrs {
				list = append(list, family[k])
			}
		}
	}
	return list
}

// usableAddr reports whether another machine can have an address. Link-local ones mean
// nothing without an interface, which DNS cannot name.
func usableAddr(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() {
		return false
	}
	if a.Is4() {
		first := a.As4()[0]
		return first != 0 && first < 224 // 240/4 is reserved, and has the broadcast address
	}
	return true
}

// note logs what became of a name, once for each change.
func (r *resolving) note(name string, before, after control.Host) {
	switch {
	case before.State == after.State && before.Problem == after.Problem && slices.Equal(before.Addresses, after.Addresses):
	case after.State == control.HostFound:
		r.log.Info("host name resolved", "host", name, "addresses", after.Addresses)
	default:
		r.log.Warn("host name not resolved; it will be retried", "host", name, "problem", after.Problem, "using", after.Addresses)
	}
}
