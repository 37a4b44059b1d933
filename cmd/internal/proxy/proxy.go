// Package proxy joins programs of this machine and peers where there is no adapter, and so
// no ULA that programs could connect to.
//
//	program -- SOCKS5, HTTP CONNECT ---+
//	program -- forwarded port ---------+--> Network.Dial ---> a port of a peer
//	program -- anode nc ---------------+
//
//	a peer ---> Network.Listen -- exposed port ---> local service
//
// Each of these is a Door, which listens on one side. Doors of the configuration stay until
// it changes; those of a command stay as long as the command runs.
//
// What comes from programs reaches added peers and nothing else: no stranger, no host of the
// internet, not this machine. What comes from peers reaches the ports that are exposed, and
// comes from added peers only. Doors for programs listen on loopback addresses unless somebody
// asks for more: everybody who can connect to one uses the network as this node.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"anodenet/anode"
)

// Errors that callers tell apart.
var (
	ErrNotPeer  = errors.New("not a peer that was added")
	ErrInUse    = errors.New("it exists already")
	ErrAnywhere = errors.New("not a loopback address")
	errClosed   = errors.New("the daemon is stopping")
)

// Network connects to peers. *overlay.Node is one for a node without an adapter; System is one
// for a node with an adapter.
type Network interface {
	// Dial opens a connection ("tcp") or an association of datagrams ("udp") to ADDRESS:PORT,
	// ADDRESS being a whole Anode address.
	Dial(ctx context.Context, network, target string) (net.Conn, error)
	// Listen takes connections of peers to ":PORT". The String of a remote address is
	// [ULA]:PORT.
	Listen(network, address string) (net.Listener, error)
	// ListenPacket takes datagrams of peers to ":PORT".
	ListenPacket(network, address string) (net.PacketConn, error)
}

// maxDial is how long a connection to a peer or to a local service may take to open.
const maxDial = 20 * time.Second

// Service is all doors of a node. Any goroutine may call its methods.
type Service struct {
	network Network
	peers   Directory
	unix    Unix
	log     *slog.Logger
	counts  counters
	// associations are those of SOCKS5, which cost more memory than connections.
	associations *crowd

	mu    sync.Mutex
	doors []*Door
	fixed []*Door     // those of the configuration
	start func(*Door) // nil: Run has not begun, or has ended
	ended bool
}

// New makes a Service without doors.
func New(n Network, peers Directory, unix Unix, log *slog.Logger) *Service {
	return &Service{network: n, peers: peers, unix: unix, log: log, associations: newCrowd(maxAssociations)}
}

// Run serves the doors of the configuration until ctx ends, and returns when all their
// connections are closed.
func (s *Service) Run(ctx context.Context) error {
	var running sync.WaitGroup
	s.mu.Lock()
	s.start = func(d *Door) { running.Go(func() { s.serve(ctx, d) }) }
	for _, d := range s.fixed {
		s.start(d)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.start, s.ended = nil, true
	s.mu.Unlock()
	running.Wait()
	return nil
}

// Close closes the doors of a Service that never ran.
func (s *Service) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, d := range s.fixed {
		d.close()
	}
}

// Set makes the doors of the configuration those of specs. Connections of doors that go are
// closed. If one cannot be opened, those that went are opened again.
func (s *Service) Set(specs []Spec) error {
	s.mu.Lock()
	was := slices.Clone(s.fixed)
	s.mu.Unlock()
	var keep []*Door
	var missing, gone []Spec
	for _, spec := range specs {
		if i := slices.IndexFunc(was, func(d *Door) bool { return d.is(spec) }); i >= 0 {
			keep = append(keep, was[i])
		} else {
			missing = append(missing, spec)
		}
	}
	for _, d := range was { // before others open: one may have its port
		if !slices.Contains(keep, d) {
			gone = append(gone, d.spec)
			s.remove(d)
		}
	}
	opened, err := s.openAll(missing)
	if err != nil {
		var lost error
		if opened, lost = s.openAll(gone); lost != nil {
			s.log.Error("what was closed for a new configuration cannot be opened again", "err", lost)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fixed = append(keep, opened...)
	for _, d := range opened {
		if s.start != nil {
			s.start(d)
		}
	}
	return err
}

// openAll opens doors of the configuration: all, or none.
func (s *Service) openAll(specs []Spec) (list []*Door, err error) {
	for _, spec := range specs {
		d, err := s.open(spec, OwnerConfig)
		if err != nil {
			for _, d := range list {
				s.remove(d)
			}
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}

// Keep opens a door, calls ready, and serves the door until ctx ends. It returns when all
// connections of the door are closed. owner says in words who asked for it.
//
// Unlike those of the configuration, a command's peers must be there.
func (s *Service) Keep(ctx context.Context, spec Spec, owner string, ready func(Status)) error {
	for _, peer := range spec.peers() {
		if _, err := s.peers.Find(peer); err != nil {
			return err
		}
	}
	d, err := s.open(spec, owner)
	if err != nil {
		return err
	}
	s.log.Info("a port is "+spec.verb(), "spec", spec.String(), "listen", d.listen, "by", owner)
	ready(d.status())
	s.serve(ctx, d)
	s.log.Info("a port is no longer "+spec.verb(), "spec", spec.String(), "by", owner)
	return nil
}

// Dial opens a connection to an added peer, "tcp" or "udp". host is what Directory.Find takes.
func (s *Service) Dial(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	a, err := s.peers.Find(host)
	if err != nil {
		s.counts.notPeer.Add(1)
		return nil, err
	}
	return s.DialAddress(ctx, network, a, port)
}

// DialAddress is Dial for an address, of an added peer or not.
func (s *Service) DialAddress(ctx context.Context, network string, a anode.Address, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxDial)
	defer cancel()
	c, err := s.network.Dial(ctx, network, net.JoinHostPort(a.String(), strconv.Itoa(int(port))))
	if err != nil {
		s.counts.dialFailed.Add(1)
		return nil, err
	}
	keepAlive(c)
	return c, nil
}

// Doors lists all doors in the order in which they were opened.
func (s *Service) Doors() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, len(s.doors))
	for i, d := range s.doors {
		list[i] = d.status()
	}
	return list
}

// open opens a door that nobody serves yet.
func (s *Service) open(spec Spec, owner string) (*Door, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return nil, errClosed
	}
	d, err := spec.open(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec.place(), err)
	}
	d.spec, d.owner, d.gone = spec, owner, make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors = append(s.doors, d)
	return d, nil
}

// serve serves a door until ctx ends or the door is removed.
func (s *Service) serve(ctx context.Context, d *Door) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, d.close)
	defer stop()
	go func() {
		select {
		case <-d.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	d.run(ctx)
	if ctx.Err() == nil {
		s.log.Error("a door failed: it no longer listens", "spec", d.spec.String(), "listen", d.listen)
	}
	s.remove(d)
}

// remove closes a door, and has its connections closed.
func (s *Service) remove(d *Door) {
	s.mu.Lock()
	i := slices.Index(s.doors, d)
	if i >= 0 {
		s.doors = slices.Delete(s.doors, i, i+1)
	}
	s.mu.Unlock()
	if i >= 0 {
		close(d.gone)
		d.close()
	}
}
