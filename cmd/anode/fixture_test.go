package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
	peerbook "anodenet/overlay/book"
)

// The identities of all tests here.
var (
	selfAddress     = mustAddress("aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu")
	northAddress    = mustAddress("aeaaaaaaaaaafm3muiub5nzkpvslou2lx62w66tttrdh4bdnmyx6ed673dwue4bv")
	southAddress    = mustAddress("aeaaaaaaaaaafwbi444ozh4qzvz37zrl6ml33oxne2o5km25omvvrhtljsro2hm5")
	hubAddress      = mustAddress("aeaaaaaaaaaafafk5kspyuzvdi6oa2x6ftdi4noospy3yrdxyt23p3sipeyvqhso")
	strangerAddress = mustAddress("aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j")
)

func mustAddress(s string) anode.Address {
	a, err := anode.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// fixtureTime is when all of it happens.
var fixtureTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func fixtureStatus() overlay.Status {
	seen := func(ago time.Duration) *time.Time { t := fixtureTime.Add(-ago); return &t }
	via := hubAddress
	peer := func(a anode.Address, name string) overlay.PeerStatus {
		return overlay.PeerStatus{Address: a, ID: a.ID(), ULA: a.ULA(), Name: name, Allowed: true,
			State: overlay.StateIdle, Path: overlay.PathStatus{Kind: overlay.PathNone}}
	}
	n, s, h, o := peer(northAddress, "north"), peer(southAddress, "south"), peer(hubAddress, ""), peer(strangerAddress, "")
	n.State, n.Path = overlay.StateUp, overlay.PathStatus{Kind: overlay.PathLAN, Endpoint: "udp:10.0.0.2:8737", RTT: 0.42, MTU: 1440}
	n.RxBytes, n.TxBytes, n.LastSeen = 999, 123_456_789, seen(time.Second)
	s.State, s.Path = overlay.StateUp, overlay.PathStatus{Kind: overlay.PathRelay, Endpoint: "udp:192.0.2.7:8737", Via: &via, RTT: 37.25, MTU: 1400}
	s.RxBytes, s.TxBytes, s.LastSeen = 2_000_000, 999_600, seen(3*time.Minute)
	h.State, h.Reason, h.ReasonAt = overlay.StateUnreachable, overlay.ReasonNoAnswer, "udp:198.51.100.7:8737"
	o.Allowed, o.State, o.LastSeen = false, overlay.StateConnecting, seen(26*time.Hour)
	return overlay.Status{
		Schema: 1, Address: selfAddress, ID: selfAddress.ID(), ULA: selfAddress.ULA(), Version: "0.0.0", Uptime: 3725,
		Tun: &overlay.TunStatus{Name: "anode0", MTU: 1440, Index: 3, Problems: []overlay.TunProblem{}}, Listen: []string{"udp:[::]:8737"}, Rung: "gso", Relay: true,
		Reach: overlay.ReachStatus{
			Mapping: "dependent", Ports: "sequential", Step: 1, Endpoint: "udp:203.0.113.5:1024", Lifetime: 25, Keepalive: 20,
			Own:    []string{"udp:[2001:db8::1]:8737", "udp:203.0.113.5:1024", "udp:10.0.0.1:8737"},
			Public: []string{"udp:[2001:db8::1]:8737", "udp:203.0.113.5:1024"}, Mapped: []string{},
			Seen:    []overlay.SeenStatus{{Endpoint: "udp:203.0.113.5:1024", By: &via, From: "udp:192.0.2.7:8737", Age: 3}},
			Anchors: []overlay.AnchorStatus{{Address: northAddress, Name: "north", Endpoint: "udp:192.0.2.7:8737", State: "kept", RTT: 37.25, Age: 3, Interval: 20}},
		},
		Network: overlay.NetworkStatus{IPv4: overlay.FamilyStatus{Address: "10.0.0.1", Gateway: "10.0.0.254", Route: true, Works: true}},
		Peers:   []overlay.PeerStatus{n, s, h, o}, Counters: map[string]uint64{"rx_packets": 7},
	}
}

// fixture is a node with that status. Of its peers north and south answer pings.
type fixture struct {
	mu        sync.Mutex
	status    overlay.Status
	endpoints map[anode.Address][]wire.Endpoint // given by people
	hosts     map[anode.Address][]peerbook.Host
}

func newFixture() *fixture { return &fixture{status: fixtureStatus()} }

func (f *fixture) Status(context.Context) (overlay.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Peers = append([]overlay.PeerStatus{}, s.Peers...)
	return s, nil
}

// verb does what a node does: by a book of its peers.
func (f *fixture) verb(do func(*peerbook.Book) (peerbook.Change, error)) (peerbook.Change, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []peerbook.Entry
	for _, p := range f.status.Peers {
		if p.Allowed || p.Blocked {
			entries = append(entries, peerbook.Entry{Address: p.Address, Name: p.Name, Added: true, Blocked: p.Blocked, Endpoints: f.endpoints[p.Address], Hosts: f.hosts[p.Address]})
		}
	}
	b, _, err := peerbook.Open(f.status.Address, peerbook.NewMemory(entries...), nil)
	if err != nil {
		return peerbook.Change{}, err
	}
	c, err := do(b)
	if err != nil {
		return c, err
	}
	e := c.After
	if f.endpoints == nil {
		f.endpoints, f.hosts = map[anode.Address][]wire.Endpoint{}, map[anode.Address][]peerbook.Host{}
	}
	f.endpoints[e.Address], f.hosts[e.Address] = e.Endpoints, e.Hosts
	k := slices.IndexFunc(f.status.Peers, func(p overlay.PeerStatus) bool { return p.Address == e.Address })
	switch {
	case !e.Added && !e.Blocked && k >= 0:
		f.status.Peers = slices.Delete(f.status.Peers, k, k+1)
		return c, nil
	case k < 0:
		f.status.Peers = append(f.status.Peers, overlay.PeerStatus{Address: e.Address, ID: e.Address.ID(), ULA: e.Address.ULA(),
			State: overlay.StateIdle, Path: overlay.PathStatus{Kind: overlay.PathNone}})
		k = len(f.status.Peers) - 1
	}
	p := &f.status.Peers[k]
	if p.Reason = overlay.NoReason; e.Blocked {
		p.State, p.Reason = overlay.StateBlocked, overlay.ReasonBlocked
	}
	p.Name, p.Allowed, p.Blocked = e.Name, e.Standing() == peerbook.Added, e.Blocked
	return c, nil
}

func (f *fixture) AddPeer(_ context.Context, p overlay.Peer) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) {
		return b.AddEntry(p, time.Now())
	})
}

func (f *fixture) RemovePeer(_ context.Context, a anode.Address) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) { return b.Remove(a, time.Now()) })
}

func (f *fixture) RenamePeer(_ context.Context, a anode.Address, name string) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) { return b.Rename(a, name) })
}

func (f *fixture) SetLAN(_ context.Context, a anode.Address, on bool) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) { return b.SetLAN(a, on) })
}

func (f *fixture) BlockPeer(_ context.Context, a anode.Address, blocked bool) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) {
		if blocked {
			return b.Block(a)
		}
		return b.Unblock(a)
	})
}

func (f *fixture) change(a anode.Address, do func(i int)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.status.Peers {
		if p.Address == a {
			do(i)
			return nil
		}
	}
	return overlay.ErrUnknownPeer
}

func (f *fixture) AddEndpoints(_ context.Context, a anode.Address, es []peerbook.Place) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) { return b.AddEndpoints(a, es) })
}

func (f *fixture) RemoveEndpoint(_ context.Context, a anode.Address, e peerbook.Place) (peerbook.Change, error) {
	return f.verb(func(b *peerbook.Book) (peerbook.Change, error) { return b.RemoveEndpoint(a, e) })
}

func (f *fixture) Entries() (list []overlay.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.status.Peers {
		if p.Allowed || p.Blocked {
			list = append(list, overlay.Peer{Address: p.Address, Name: p.Name, Added: true, Blocked: p.Blocked, Endpoints: f.endpoints[p.Address], Hosts: f.hosts[p.Address]})
		}
	}
	return list
}

// Learned is where the node is connected to a peer.
func (f *fixture) Learned(a anode.Address) (list []wire.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.status.Peers {
		if e, err := wire.EndpointFromText(p.Path.Endpoint); err == nil && p.Address == a && p.Path.Via == nil {
			list = append(list, e)
		}
	}
	return list
}

func (f *fixture) Ping(ctx context.Context, a anode.Address, size int) (reply overlay.PingReply, err error) {
	blocked := false
	err = f.change(a, func(i int) {
		blocked = f.status.Peers[i].Blocked
		reply = overlay.PingReply{Address: a, Size: size, Sealed: true, Path: f.status.Peers[i].Path,
			RTT: time.Duration(f.status.Peers[i].Path.RTT * float64(time.Millisecond))}
	})
	if err == nil && blocked {
		return reply, overlay.ErrBlocked
	}
	if err == nil && reply.RTT == 0 {
		<-ctx.Done()
		err = fmt.Errorf("%w: no answer in time", overlay.ErrUnreachable)
	}
	return reply, err
}

func (f *fixture) ResolveULA(context.Context, anode.ULA) (anode.Address, error) {
	return anode.Address{}, overlay.ErrUnknownPeer
}

func (f *fixture) ResolveID(context.Context, anode.ID) (anode.Address, error) {
	return anode.Address{}, overlay.ErrUnknownPeer
}
