package platform

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// IPv4 aliases. The interface gets our alias with the length of the range, so that programs find the
// range's broadcast, and a route for each peer's alias. There is no route for the range: carriers have
// servers in 100.64.0.0/10 that must stay reachable.
//
// Other programs and networks use such ranges too. Where an address or route of this machine is in
// the range, all of IPv4 is refused until it goes away: a /32 of ours would beat the other's route.

// ip4 is what the keeper has of IPv4.
type ip4 struct {
	on    bool
	guard *guard // nil: there is none
}

func (i *ip4) close() error {
	if i.guard == nil {
		return nil
	}
	return i.guard.close()
}

// halves is the length up to which a route counts as a default route: with two or eight of them,
// programs lead everything to themselves.
const halves = 3

// The destinations that the discovery of games and other programs goes to.
var (
	everybody = netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 32)
	groups    = netip.PrefixFrom(netip.AddrFrom4([4]byte{224, 0, 0, 0}), 4)
)

// isGames reports whether a route is one of Wanted.Games. Its metric is the lowest, and it stands
// before one of the same kind, which stays.
func isGames(p netip.Prefix) bool { return p == everybody || p == groups }

// groups are the kernel's announcements that the keeper listens to.
func (k *Keeper) groups() []uint {
	list := []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE}
	if k.wantsIP4() {
		list = append(list, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE)
	}
	return list
}

func (k *Keeper) wantsIP4() bool { return k.settings.IP4.Alias.IsValid() }

// reachIP4 adds what is wanted of IPv4.
func (k *Keeper) reachIP4(w Wanted, r reach) {
	if !k.ip4.on {
		return
	}
	for _, a := range w.Aliases {
		r.aliases[a] = true
		r.ways[way{netip.PrefixFrom(a, 32), unix.RT_TABLE_MAIN}] = true
	}
	if w.Games {
		r.ways[way{everybody, unix.RT_TABLE_MAIN}] = true
		r.ways[way{groups, unix.RT_TABLE_MAIN}] = true
	}
}

// lookIP4 reads what the kernel has of IPv4.
func (k *Keeper) lookIP4(f *found) (err error) {
	if !k.wantsIP4() {
		return nil
	}
	if f.addrs4, err = k.iface.addresses(unix.AF_INET); err != nil {
		return err
	}
	ways, err := k.iface.routes(allIP4, unix.RT_TABLE_MAIN)
	if err != nil {
		return err
	}
	maps.Copy(f.ways, ways)
	f.rival, err = k.rival()
	return err
}

// rival names an address or route of this machine in the range of our alias that is neither ours nor
// that of another node; "" if there is none.
func (k *Keeper) rival() (string, error) {
	r := k.settings.IP4.Range
	addrs, err := k.iface.conn.addresses(unix.AF_INET, 0)
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if a.prefix.Bits() > halves && a.prefix.Overlaps(r) && !k.adapters(a.index) {
			return fmt.Sprintf("%s has the address %s", k.nameOf(a.index), a.prefix), nil
		}
	}
	routes, err := k.iface.conn.allRoutes()
	if err != nil {
		return "", err
	}
	for _, w := range routes {
		if w.table != unix.RT_TABLE_LOCAL && w.to.Bits() > halves && w.to.Overlaps(r) && !k.adapters(w.index) {
			return fmt.Sprintf("%s has the route %s", k.nameOf(w.index), w.to), nil
		}
	}
	return "", nil
}

// adapters reports whether an interface is our adapter, or that of another node of this machine.
func (k *Keeper) adapters(index int) bool {
	if index == k.iface.index {
		return true
	}
	s, err := (&iface{conn: k.iface.conn, index: index}).link()
	return index != 0 && err == nil && s.group == adapterGroup
}

// nameOf is what people call the owner of a route.
func (k *Keeper) nameOf(index int) string {
	if s, err := (&iface{conn: k.iface.conn, index: index}).link(); index != 0 && err == nil {
		return s.name
	}
	return "another program"
}

// allRoutes lists the IPv4 routes of all tables.
func (c *conn) allRoutes() (list []foundRoute, err error) {
	err = c.dump(func(e *encoder) {
		fixed := routeHeader(allIP4, unix.RT_TABLE_UNSPEC)
		fixed[5], fixed[6], fixed[7] = 0, 0, 0
		e.message(unix.RTM_GETROUTE, unix.NLM_F_DUMP, fixed, nil)
	}, func(body []byte) {
		if r, ok := parseRoute(body); ok && r.to.Addr().Is4() {
			list = append(list, r)
		}
	})
	return list, err
}

// startIP4 finds out whether IPv4 can be used.
func (k *Keeper) startIP4() error {
	if !k.wantsIP4() {
		return nil
	}
	rival, err := k.rival()
	if err != nil {
		return fmt.Errorf("reading what there is of IPv4: %w", err)
	}
	k.switchIP4(rival)
	k.applied = k.reach(k.settings.Wanted)
	return k.setGuard()
}

// settleIP4 begins or ends the use of IPv4 if what stands in its way has changed, and reports
// whether it did.
func (k *Keeper) settleIP4(rival string) bool {
	if !k.wantsIP4() || k.ip4.on == (rival == "") {
		return false
	}
	k.switchIP4(rival)
	change := func() error { return k.iface.addAlias(k.settings.IP4) }
	if !k.ip4.on {
		change = func() error { return k.iface.removeAddress(k.ownAlias()) }
	}
	if err := errors.Join(change(), k.apply()); err != nil {
		k.log.Debug("not all of IPv4 is set", "err", err) // a fault, with its retries
	}
	return true
}

// ownAlias is our alias as an address of the interface.
func (k *Keeper) ownAlias() netip.Prefix {
	return netip.PrefixFrom(k.settings.IP4.Alias, k.settings.IP4.Range.Bits())
}

// switchIP4 begins to use IPv4, or refuses it because of a rival.
func (k *Keeper) switchIP4(rival string) {
	k.ip4.on = rival == ""
	refused := ""
	if k.ip4.on {
		k.openGuard4()
		k.log.Info("IPv4 aliases are used", "alias", k.settings.IP4.Alias, "range", k.settings.IP4.Range)
	} else {
		k.closeGuard4()
		refused = fmt.Sprintf("IPv4 aliases are not used: %s, in their range %s; IPv6 is not affected; try: [lan] ip4 = \"%s\", or another free range",
			rival, k.settings.IP4.Range, k.settings.IP4.another())
	}
	k.mu.Lock()
	k.refused = refused
	k.mu.Unlock()
	if k.tellIP4 != nil {
		k.tellIP4(refused)
	}
}

// another is a range to try in place of this one.
func (i IP4) another() netip.Prefix {
	first, second := netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("10.97.0.0/16")
	if first.Overlaps(i.Range) {
		return second
	}
	return first
}

// openGuard4 makes the guard of the aliases, if there is one of the ULAs.
func (k *Keeper) openGuard4() {
	if k.guard == nil || k.ip4.guard != nil {
		return
	}
	g, err := openGuard(k.iface.index, k.settings.IP4.Alias, k.settings.IP4.broadcast())
	if err != nil {
		k.log.Debug("the guard of IPv4 cannot be made", "err", err) // a fault, with its retries
		return
	}
	k.ip4.guard = g
	k.mu.Lock()
	k.guard4 = g
	k.mu.Unlock()
}

func (k *Keeper) closeGuard4() {
	k.mu.Lock()
	k.guard4 = nil
	k.mu.Unlock()
	if err := k.ip4.close(); err != nil {
		k.log.Debug("the guard of IPv4", "err", err)
	}
	k.ip4.guard = nil
}

// setGuard4 makes the guard of the aliases know them.
func (k *Keeper) setGuard4() error {
	if !k.ip4.on {
		return nil
	}
	if k.openGuard4(); k.ip4.guard == nil {
		return errors.New("nf_tables: there is no table for IPv4")
	}
	return k.ip4.guard.set(k.applied.aliases)
}

// guards4 reports whether the guard of the aliases is as it must be.
func (k *Keeper) guards4() bool {
	return !k.ip4.on || k.ip4.guard != nil && maps.Equal(k.ip4.guard.has, k.applied.aliases)
}

// aliasFaults is addressFaults for IPv4. Other addresses of the interface are other people's.
func (k *Keeper) aliasFaults(addrs []netip.Prefix) []fault {
	if !k.wantsIP4() {
		return nil
	}
	own := k.ownAlias()
	text := "address " + own.Addr().String()
	switch there := slices.Contains(addrs, own); {
	case k.ip4.on && !there:
		return []fault{{ProblemAlias, "no " + text, text, func() error { return k.iface.addAlias(k.settings.IP4) }}}
	case !k.ip4.on && there:
		return []fault{{ProblemAlias, text, "no " + text, func() error { return k.iface.removeAddress(own) }}}
	}
	return nil
}

// rangeFaults is about a route for all of the range that leads to the adapter. dhcpcd and NetworkManager
// make one out of the alias's length, and it would take the carrier's servers in the range away.
func (k *Keeper) rangeFaults(have map[way]bool) []fault {
	w := way{k.settings.IP4.Range.Masked(), unix.RT_TABLE_MAIN}
	if _, there := have[w]; !there || !k.wantsIP4() || k.applied.ways[w] {
		return nil
	}
	return []fault{{ProblemRange, "a route to all of " + w.to.String(), "removed it", func() error { return k.iface.removeForeign(w) }}}
}
