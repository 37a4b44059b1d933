package main

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/dns"
	"anodenet/cmd/internal/names"
)

// fixtureNames answers DNS on loopback for the peers of the fixture.
type fixtureNames struct {
	server  *dns.Server
	sockets *dns.Sockets
}

func newFixtureNames() (*fixtureNames, error) {
	sockets, err := dns.Listen(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0))
	if err != nil {
		return nil, err
	}
	s := dns.NewServer(slog.New(slog.DiscardHandler), func() time.Duration { return time.Hour })
	s.Publish(dns.New(dns.Contents{
		Suffix: names.Suffix, Serial: 1, Self: selfAddress, Zones: []anode.Zone{0},
		Peers: []dns.Peer{{Address: northAddress, Name: "north"}, {Address: southAddress, Name: "south"}},
		Services: map[anode.Address][]dns.Service{northAddress: {
			{Port: 80, Proto: "tcp", Type: "http", Name: "web"}, {Port: 8080, Proto: "tcp", Type: "http", Name: "wiki", TXT: []string{"path=/w", "v=\"1\""}}}},
	}))
	return &fixtureNames{s, sockets}, nil
}

// run answers until ctx ends.
func (f *fixtureNames) run(ctx context.Context) error { return f.server.Serve(ctx, f.sockets) }

// Suffix implements control.Names.
func (f *fixtureNames) Suffix() string { return names.Suffix }

// View implements control.Names.
func (f *fixtureNames) View() control.NamesView {
	at := f.sockets.At()
	return control.NamesView{
		Suffix: names.Suffix, Server: &at, Problem: "port 53: address already in use", Names: 2, Services: 1, Domains: []string{names.Suffix, dns.ReverseZone(0)},
		Resolver: control.NamesResolver{Managed: true, Manager: "dnsmasq", Why: "dnsmasq is not told by the daemon", Try: "anode dns instructions dnsmasq", Instructions: "dnsmasq"},
		Counters: map[string]uint64{"dns_found": 0},
	}
}
