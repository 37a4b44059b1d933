package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/platform"
)

// newZones makes what follows the zone files.
func (d *daemon) newZones() *zones {
	self := d.identity.Address()
	c := zonesConfig{
		self: self, log: d.log, watch: platform.Watch, addresses: localAddresses, fetch: d.options.fetchZone,
		set:   func(ctx context.Context, z anode.Zone, f *zone.File) error { return d.node.SetZone(ctx, z, f) },
		peers: func(z anode.Zone) bool { return hasAdded(d.book.Entries(), z) },
		port:  d.udpPort, listener: listenTCP,
		tcpPorts: func() []uint16 { return d.node.TCPPorts() },
		share:    func(l net.Listener) error { return d.node.Serve(l) },
	}
	if d.options.State != NoState {
		c.cache = zone.Cache{Dir: d.options.State, ReadOnly: d.options.ReadOnly}
	}
	if c.fetch == nil {
		c.fetch = d.proxies.fetcher(self.Zone(), fetcher(self.Zone()), func(ctx context.Context) { _ = d.node.ExpectSilence(ctx) }) // it ends, then
	}
	return newZones(c, siteSettingsOf(d.cfg.Config))
}

// fetcher gets zone files from the web. A person chose the own zone, whose address may be
// anywhere; those of others must be public.
func fetcher(own anode.Zone) func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
	named, public := zone.NewClient(zone.Named(own)), zone.NewClient(nil)
	return func(ctx context.Context, z anode.Zone, known zone.Copy) (zone.Copy, error) {
		client := map[bool]*http.Client{true: named, false: public}[z == own]
		return zone.Fetch(ctx, client, z, known)
	}
}

// hasAdded reports whether an added peer of a book is in a zone.
func hasAdded(entries []book.Entry, z anode.Zone) bool {
	return slices.ContainsFunc(entries, func(e book.Entry) bool {
		return e.Address.Zone() == z && e.Standing() == book.Added
	})
}

// localAddresses lists this machine's IP addresses, IPv4 ones as such.
func localAddresses() (list []netip.Addr) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				list = append(list, ip.Unmap())
			}
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// udpPort returns the port on which the node listens.
func (d *daemon) udpPort(ctx context.Context) (uint16, error) {
	if port := d.cfg.Listen.Port; port != 0 {
		return port, nil
	}
	status, err := d.node.Status(ctx)
	if err != nil {
		return 0, err
	}
	for _, text := range status.Listen {
		if e, err := wire.EndpointFromText(text); err == nil {
			return e.Addr.Port(), nil
		}
	}
	return 0, errors.New("the node does not say on which port it listens")
}

// relayZones are the zones that a node relays for.
func relayZones(c config.Relay, self anode.Address) []anode.Zone {
	if !c.Zone {
		return nil
	}
	return []anode.Zone{self.Zone()}
}

// relayLimits are the limits of the zone's clients. Without a limit of bytes there is none of
// packets.
func relayLimits(c config.Relay) overlay.RelayLimits {
	l := overlay.DefaultRelayLimits()
	if l.ClientBytes = c.ClientRate.Bytes; l.ClientBytes == 0 {
		l.ClientPackets = 0
	}
	if l.TotalBytes = c.TotalRate.Bytes; l.TotalBytes == 0 {
		l.TotalPackets = 0
	}
	return l
}

// takeRelay takes up the section relay of a configuration.
func (d *daemon) takeRelay(ctx context.Context, c config.Config) error {
	self := d.identity.Address()
	if c.Relay.Zone && self.Zone() == 0 {
		return errors.New(relayZone0)
	}
	return errors.Join(
		d.node.SetRelay(ctx, c.Relay.Enabled),
		d.node.SetRelayZones(ctx, relayZones(c.Relay, self)),
		d.node.SetRelayLimits(ctx, relayLimits(c.Relay)),
		d.zones.Set(ctx, siteSettingsOf(c)),
	)
}

const relayZone0 = "this machine is in zone 0, the local network, which has no relays; try: anode zone join IP, with the public address of this machine, which gives it a new address: its ULA and short ID change, and everybody who added the old address has to add the new one; or no --relay: peers that you added are relayed for in any case"

// checkNew refuses a new machine that is to relay for zone 0, before it gets an identity there.
func checkNew(state string, cfg config.Loaded) error {
	if !cfg.Relay.Zone || cfg.Zone.Zone != 0 {
		return nil
	}
	for _, name := range []string{identityFile, "state.db"} {
		if _, err := os.Lstat(filepath.Join(state, name)); state != NoState && !errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return cfg.Refuse("relay.zone", "a new machine is in zone 0, the local network, which has no relays, unless it is told a zone; try: --zone IP too, with the public IPv4 address of this machine")
}

// checkZone refuses settings that the identity does not fit.
func checkZone(state string, cfg config.Loaded, own anode.Zone) error {
	if want := cfg.Zone.Zone; want != 0 && own != want {
		from := "zone " + zone.Label(own)
		if own == 0 {
			from = "zone 0, the local network"
		}
		return cfg.Refuse("zone", fmt.Sprintf("the identity in %s is in %s, not in zone %s; try: anode zone join %s%s, which gives this machine a new address: "+
			"its ULA and short ID change, and everybody who added the old address has to add the new one", state, from, zone.Label(want), zone.Label(want), stateFlag(state)))
	}
	if cfg.Relay.Zone && own == 0 {
		return cfg.Refuse("relay.zone", relayZone0)
	}
	return nil
}

// stateFlag is the flag that names a state directory, if it is not the usual one.
func stateFlag(state string) string {
	if state == platform.DefaultDirectories().State {
		return ""
	}
	return " --state " + state
}
