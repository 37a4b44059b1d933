package overlay

import (
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// openMux makes what carries packets beside UDP, if the network has connections.
func (n *Node) openMux() {
	s, ok := n.cfg.Network.(link.Streams)
	if !ok {
		return
	}
	n.mux = link.NewMux(link.MuxConfig{Streams: s, Log: n.log, Ended: n.ended})
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
	}
}

// broadcasts returns the endpoints of everyone on links without IP.
func (n *Node) broadcasts() []link.Endpoint {
	if n.mux == nil {
		return nil
	}
	return n.mux.Broadcasts()
}

// ended tells the loop of a connection that ended. One that the inbox has no room for is found by
// its silence.
func (n *lanes) ended(ep link.Endpoint) { n.post(event{kind: evEnded, ep: ep}) }

// connectionEnded has another way found for whoever was at the end of a connection.
func (l *loop) connectionEnded(ep link.Endpoint) {
	if c := l.n.index.source(ep); c != nil {
		if p := l.peers.get(c.Address); p != nil {
			p.Ended(l.now, ep)
			l.touch(p)
		}
	}
}

// keepConnections has the connections to a peer last, since it has proved to be there.
func (l *loop) keepConnections(p *peer.Peer) {
	if l.n.mux == nil {
		return
	}
	for w := range p.Direct {
		if w.Endpoint.Conn != 0 {
			l.n.mux.Keep(w.Endpoint)
		}
	}
}
