package overlay

import (
	"slices"
	"sync"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// openMux makes what carries packets beside UDP, if the network has connections.
func (n *Node) openMux() {
	s, ok := n.cfg.Network.(link.Streams)
	if !ok {
		return
	}
	n.mux = link.NewMux(link.MuxConfig{
		Streams: s, Log: n.log, Ended: n.ended,
		Web: n.cfg.Web, Proxy: n.cfg.Proxy.Choose, Credentials: n.cfg.Proxy.Credentials,
	})
	if err := n.mux.OpenEthernet(n.cfg.Ethernet); err != nil {
		n.noEthernet(err)
	}
	for _, port := range n.cfg.TCP {
		n.listenTCP(port)
	}
}

// writer returns a writer by the socket of a lane, and by connections. What comes from programs of
// this machine is patient.
func (n *Node) writer(lane int, patient bool) link.Writer {
	w := n.conns[lane].NewWriter()
	if n.mux == nil {
		return w
	}
	return link.Join(w, n.mux, patient)
}

// linksChanged follows the interfaces that carry packets without IP.
func (n *Node) linksChanged(s link.State) {
	if n.mux != nil {
		n.mux.Links(s)
		n.mux.Redial()
	}
}

// broadcasts returns the endpoints of everyone on links without IP.
func (n *Node) broadcasts() []link.Endpoint {
	if n.mux == nil {
		return nil
	}
	return n.mux.Broadcasts()
}

// departures are the endpoints of connections that ended, until the loop has seen to them. They
// have an inbox of their own without a bound: thousands may end in one moment, when a network
// fails, and there are no more than there were connections.
type departures struct {
	mu   sync.Mutex
	list []link.Endpoint
	wake chan struct{} // takes one: there are some
}

// departuresAtOnce is how many the loop sees to before it looks at what else waits.
const departuresAtOnce = 64

// ended tells the loop of a connection that ended.
func (n *lanes) ended(ep link.Endpoint) {
	d := &n.departures
	d.mu.Lock()
	d.list = append(d.list, ep)
	d.mu.Unlock()
	d.signal()
}

func (d *departures) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// take returns some of them.
func (d *departures) take() (some []link.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := min(len(d.list), departuresAtOnce)
	some, d.list = d.list[:k:k], d.list[k:]
	if len(d.list) > 0 {
		d.signal()
	} else {
		d.list = nil
	}
	return some
}

// connectionsEnded sees to some of the connections that ended.
func (l *loop) connectionsEnded() {
	for _, ep := range l.n.departures.take() {
		l.connectionEnded(ep)
	}
}

// connectionEnded has another way found for whoever was at the end of a connection. A client is
// there no more.
func (l *loop) connectionEnded(ep link.Endpoint) {
	if b := l.clients.x.at(placeOf(ep)); b != nil {
		l.clients.left(b)
	}
	for _, a := range l.dials.at(ep, l.n.index.source(ep)) {
		if p := l.peers.get(a); p != nil {
			p.Ended(l.now, ep)
			l.touch(p)
		}
	}
}

// connectionDead ends a connection by which nothing comes any more.
func (l *loop) connectionDead(ep link.Endpoint) {
	if l.n.mux != nil {
		l.n.mux.Drop(ep)
	}
}

// dials are the peers that connections are opened to, until these end: nobody is known to be at
// their end before.
type dials map[link.Endpoint]anode.Address

// maxDials is how many are remembered. Of others, it takes longer until another way is tried.
const maxDials = 1 << 12

// note takes a packet that is about to leave for a peer.
func (d *dials) note(p *peer.Peer, to link.Endpoint) {
	if !to.Kind.Connected() || to.Conn != 0 {
		return
	}
	if *d == nil {
		*d = dials{}
	}
	if _, ok := (*d)[to.Place()]; ok || len(*d) < maxDials {
		(*d)[to.Place()] = p.Address
	}
}

// at lists who was at the end of a connection that ended, or was sought there. owner is who has
// been found there; nil: nobody.
func (d *dials) at(ep link.Endpoint, owner *peer.Contact) (list []anode.Address) {
	if a, ok := (*d)[ep.Place()]; ok {
		delete(*d, ep.Place())
		list = append(list, a)
	}
	if owner != nil && !slices.Contains(list, owner.Address) {
		list = append(list, owner.Address)
	}
	return list
}

// keepConnections has the connections to a peer last, since it has proved to be there.
func (l *loop) keepConnections(p *peer.Peer) {
	for w := range p.Direct {
		l.keepConnection(w.Endpoint, p.Contact, p.Standing() >= book.Added)
	}
}

// keepConnection has a connection last, of owner, who has proved to be there.
func (l *loop) keepConnection(ep link.Endpoint, owner any, added bool) {
	if l.n.mux != nil && ep.Conn != 0 {
		l.n.mux.Keep(ep, owner, added)
	}
}

// releaseConnections ends the connections of somebody who is none of ours any more.
func (l *loop) releaseConnections(owner any) {
	if l.n.mux != nil {
		l.n.mux.Release(owner)
	}
}
