package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"syscall"
)

// TransportsStatus is what carries packets beside UDP.
type TransportsStatus struct {
	TCP      []uint16           `json:"tcp"`      // ports on which connections are taken, by HTTP too
	Ethernet []string           `json:"ethernet"` // interfaces on which frames are sent and taken
	Failed   []TransportFailure `json:"failed"`   // what was asked for and is not there
	// UDPSilent says that on the present network connections got answers, and UDP did not.
	UDPSilent bool `json:"udp_silent"`
}

// TransportFailure is a port or an interface that cannot be used.
type TransportFailure struct {
	What  string `json:"what"` // tcp:PORT, ethernet:INTERFACE, or ethernet: no interface at all
	Error string `json:"error"`
}

// Proxy says how a proxy is used. Its functions may be called from any goroutine.
type Proxy struct {
	// Choose returns the proxy for a URL, nil for none. A TCP endpoint is asked for as
	// https://IP:PORT. nil: there is no proxy.
	Choose func(*url.URL) (*url.URL, error)
	// Credentials returns who we are at a proxy, HOST:PORT. It may be nil, and return nothing.
	Credentials func(proxy string) (user, password string)
}

// ErrNoConnections means that the node's network has no connections.
var ErrNoConnections = errors.New("the network has no connections")

// Serve has the node take connections from a listener too, as from those of Config.TCP, until
// it is closed. The node closes it at its end.
func (n *Node) Serve(l net.Listener) error {
	if n.mux == nil {
		return ErrNoConnections
	}
	return n.mux.Serve(l)
}

// TCPPorts returns the ports of Config.TCP on which connections are taken.
func (n *Node) TCPPorts() []uint16 { return slices.Clone(n.listening.tcp) }

// listening is what the node takes connections on, and what it could not. It does not change
// once the node is made.
type listening struct {
	tcp    []uint16
	failed []TransportFailure
}

// listenTCP has connections taken on a port; 0 is that of UDP. A port that is taken is no error:
// the node works without.
func (n *Node) listenTCP(port uint16) {
	if port == 0 {
		port = n.conns[0].LocalPort()
	}
	err := n.mux.ListenTCP(port)
	if err == nil {
		n.listening.tcp = append(n.listening.tcp, port)
		return
	}
	n.log.Warn("no connections are taken on a TCP port: nodes whose network lets no UDP through cannot reach this one there", "port", port, "err", plainly(err))
	n.listening.failed = append(n.listening.failed, TransportFailure{fmt.Sprintf("tcp:%d", port), plainly(err)})
}

// noEthernet notes that there are no frames.
func (n *Node) noEthernet(err error) {
	n.log.Warn("peers are not reached by Ethernet", "err", err)
	n.listening.failed = append(n.listening.failed, TransportFailure{"ethernet", err.Error()})
}

// plainly is an error of the system without the names of calls.
func plainly(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}

// listens are the endpoints at which the node is heard: first that of UDP.
func (n *Node) listens() []string {
	list := []string{fmt.Sprintf("udp:[::]:%d", n.conns[0].LocalPort())}
	for _, port := range n.listening.tcp {
		list = append(list, fmt.Sprintf("tcp:[::]:%d", port))
	}
	return list
}

func (l *loop) transportsStatus() TransportsStatus {
	n := l.n
	s := TransportsStatus{UDPSilent: l.blockage.shown(), TCP: append([]uint16{}, n.listening.tcp...), Ethernet: []string{}, Failed: append([]TransportFailure{}, n.listening.failed...)}
	for _, ep := range n.broadcasts() {
		for _, i := range l.links.state.Interfaces {
			if i.Index == ep.If {
				s.Ethernet = append(s.Ethernet, i.Name)
			}
		}
	}
	slices.Sort(s.Ethernet)
	s.Failed = append(s.Failed, n.absentEthernet(s)...)
	return s
}

// absentEthernet lists the interfaces that were asked for and carry no frames now, unless none
// can.
func (n *Node) absentEthernet(s TransportsStatus) (list []TransportFailure) {
	if slices.ContainsFunc(s.Failed, func(f TransportFailure) bool { return f.What == "ethernet" }) {
		return nil
	}
	for _, name := range n.cfg.Ethernet {
		f := TransportFailure{"ethernet:" + name, "there is no such interface, or it is down, has no carrier, is a tunnel, or is a member of a bridge"}
		if !slices.Contains(s.Ethernet, name) && !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}
