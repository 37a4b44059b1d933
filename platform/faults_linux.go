package platform

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// fault is a difference between what the kernel has and what is wanted.
type fault struct {
	code  string
	found string // for people
	back  string // what is done about it
	mend  func() error
}

// problem is that of a fault that could not be mended.
func (f *fault) problem(err error) Problem {
	return Problem{f.code, f.found + "; " + f.back + ": " + err.Error()}
}

// faults lists the differences in the order in which they can be mended.
func (k *Keeper) faults(f found) []fault {
	list := append(k.linkFaults(f.link), k.ipv6Faults(f.link)...)
	list = append(list, k.addressFaults(f.addrs)...)
	list = append(list, k.aliasFaults(f.addrs4)...)
	if !f.link.up {
		list = append(list, fault{ProblemDown, "interface down", "up", k.iface.setUp})
	}
	list = append(list, k.routeFaults(f.ways)...)
	list = append(list, k.rangeFaults(f.ways)...)
	if f.noRule {
		list = append(list, fault{ProblemRule, "policy rule gone", "policy rule", k.rule.add})
	}
	if k.guard != nil && (!maps.Equal(k.guard.has, k.applied.peers) || !k.guards4()) {
		list = append(list, fault{ProblemGuard, "peers that are not guarded", "guarded peers", k.setGuard})
	}
	return list
}

func (k *Keeper) linkFaults(s linkState) (list []fault) {
	number := func(code, what string, kind uint16, have, want int) {
		if want != 0 && have != want {
			list = append(list, fault{code, fmt.Sprintf("%s %d", what, have), fmt.Sprintf("%s %d", what, want),
				func() error { return k.iface.setNumber(kind, want) }})
		}
	}
	if s.master != 0 {
		list = append(list, fault{ProblemMaster, fmt.Sprintf("member of interface %d", s.master), "no member",
			func() error { return k.iface.setNumber(unix.IFLA_MASTER, 0) }})
	}
	if !s.noARP { // before there are addresses, of which it would tell others
		list = append(list, fault{ProblemARP, "ARP on", "ARP off", k.iface.setNoARP})
	}
	number(ProblemMTU, "MTU", unix.IFLA_MTU, s.mtu, k.settings.MTU)
	number(ProblemQueue, "queue of", unix.IFLA_TXQLEN, s.queue, k.settings.TxQueueLen)
	number(ProblemGSO, "GSO size", unix.IFLA_GSO_MAX_SIZE, s.gso, k.settings.GSOMaxSize)
	number(ProblemGroup, "group", unix.IFLA_GROUP, int(s.group), adapterGroup)
	return list
}

func (k *Keeper) ipv6Faults(s linkState) (list []fault) {
	// An interface with too small an MTU has none of these, and gets the defaults with the MTU.
	if s.addrMode != addrGenNone || s.ipv6 == ipv6None {
		list = append(list, fault{ProblemMode, "link-local addresses on", "link-local addresses off", k.iface.setAddrMode})
	}
	if s.ipv6 != ipv6On {
		list = append(list, fault{ProblemIPv6, "IPv6 off", "IPv6 on", func() error { return enableIPv6(s.name) }})
	}
	return list
}

func (k *Keeper) addressFaults(addrs []netip.Prefix) (list []fault) {
	own := netip.PrefixFrom(k.settings.ULA, 128)
	if !slices.Contains(addrs, own) {
		list = append(list, fault{ProblemAddress, "no address " + own.Addr().String(), "address " + own.Addr().String(),
			func() error { return k.iface.addAddress(own.Addr()) }})
	}
	foreign := slices.DeleteFunc(slices.Clone(addrs), func(p netip.Prefix) bool { return !p.Addr().IsLinkLocalUnicast() })
	if len(foreign) > 0 {
		list = append(list, fault{ProblemForeign, "address " + foreign[0].Addr().String(), "no link-local address",
			func() error {
				var errs []error
				for _, p := range foreign {
					errs = append(errs, k.iface.removeAddress(p))
				}
				return errors.Join(errs...)
			}})
	}
	return list
}

func (k *Keeper) routeFaults(have map[way]bool) (list []fault) {
	ours := maps.Clone(have)
	maps.DeleteFunc(ours, func(_ way, own bool) bool { return !own })
	if missing := difference(ours, k.applied.ways); len(missing) > 0 {
		list = append(list, fault{ProblemRoutes, routesText("no", missing), routesText("the", missing),
			func() error { return k.addRoutes(missing) }})
	}
	if extra := difference(k.applied.ways, ours); len(extra) > 0 {
		list = append(list, fault{ProblemUnwanted, routesText("an old", extra), "removed it",
			func() error { return k.iface.removeRoutes(extra) }})
	}
	return list
}

// addRoutes adds routes once packets to our own address are taken as ours, or after a moment. If a route
// to the zone came first, a program that sends to our own address just then would have its packets go into
// the adapter: a connected socket keeps the way that it has chosen.
func (k *Keeper) addRoutes(list []way) error {
	_ = k.untilLocal(localMoment) // then routes to others are still better than none
	return k.iface.addRoutes(list)
}

// localMoment is how long routes wait for the address.
const localMoment = 300 * time.Millisecond

// routesText names one route and counts the others.
func routesText(article string, list []way) string {
	s := article + " route to " + list[0].to.String()
	if len(list) > 1 {
		s += fmt.Sprintf(" and %d more", len(list)-1)
	}
	return s
}
