package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/overlay/portmap"
)

// ports has the network's router let packets for the node's port in, and tells the node at
// which endpoints they arrive.
type ports struct {
	node    portNode
	network link.Network
	off     portmap.Places
	key     []byte
	log     *slog.Logger

	// What was passed on last; of the goroutine that calls changed.
	told   []link.Endpoint
	logged string

	mu     sync.Mutex
	mapper *portmap.Mapper // nil before run
}

// portNode is what ports needs of a node.
type portNode interface {
	Status(ctx context.Context) (overlay.Status, error)
	SetMapped(ctx context.Context, endpoints []link.Endpoint) error
	SetPortmap(ctx context.Context, s overlay.PortmapStatus) error
}

// newPorts returns nil if no router is to be asked.
func (d *daemon) newPorts(network link.Network, off portmap.Places) *ports {
	node, able := any(d.node).(portNode)
	if !d.cfg.Portmap || !able || d.options.Network != nil {
		return nil
	}
	return &ports{node: node, network: network, off: off, key: portKey(d.identity), log: d.log}
}

// portKey derives the key of package portmap from the identity, so that a restarted daemon
// has the same.
func portKey(id *anode.Identity) []byte {
	h := hmac.New(sha256.New, id.PrivateKey().Bytes())
	h.Write([]byte("anode portmap"))
	return h.Sum(nil)
}

// run keeps ports mapped until ctx ends.
func (p *ports) run(ctx context.Context) error {
	port, err := p.port(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := portmap.New(portmap.Config{
		Port: port, Off: p.off, Key: p.key, Log: p.log,
		Network: func() (portmap.Network, error) {
			st, err := p.network.State()
			return portNetwork(st), err
		},
		Changed: func(st portmap.State) { p.changed(ctx, st) },
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.mapper = m
	p.mu.Unlock()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { p.watch(ctx, m) })
	return m.Run(ctx)
}

// port returns the UDP port on which the node listens.
func (p *ports) port(ctx context.Context) (uint16, error) {
	st, err := p.node.Status(ctx)
	if err != nil || len(st.Listen) == 0 {
		return 0, err
	}
	at, err := netip.ParseAddrPort(strings.TrimPrefix(st.Listen[0], "udp:"))
	if err != nil {
		return 0, fmt.Errorf("the node's endpoint %s: %w", st.Listen[0], err)
	}
	return at.Port(), nil
}

// changed passes on what is mapped, and logs it, if it is anything new.
func (p *ports) changed(ctx context.Context, st portmap.State) {
	if list := mappedEndpoints(st); !slices.Equal(list, p.told) {
		if err := p.node.SetMapped(ctx, list); err == nil {
			p.told = list
		} else if ctx.Err() == nil {
			p.log.Warn("the node was not told of mapped ports", "err", err)
		}
	}
	if err := p.node.SetPortmap(ctx, portmapStatus(st.IPv4)); err != nil && ctx.Err() == nil {
		p.log.Warn("the node was not told of the router", "err", err)
	}
	mapped := mappedText(st)
	if text := string(st.IPv4.Code) + " " + mapped; text != p.logged && st.IPv4.Code != portmap.Asking {
		p.logged = text
		p.log.Info("port mapping", "ipv4", st.IPv4.Code, "mapped", mapped)
	}
}

// portmapStatus is what became of IPv4, for the status.
func portmapStatus(r portmap.Result) overlay.PortmapStatus {
	s := overlay.PortmapStatus{Code: string(r.Code), Says: r.Code.Text(), Protocol: string(r.Mapping.Kind)}
	if r.Gateway.IsValid() {
		s.Gateway = r.Gateway.String()
	}
	return s
}

// watch reports changes of the network that matter for mappings.
func (p *ports) watch(ctx context.Context, m *portmap.Mapper) {
	known, err := p.network.State()
	if err == nil {
		last := portNetwork(known)
		err = p.network.Watch(ctx, known, func(st link.State) {
			if n := portNetwork(st); !n.Same(last) {
				last = n
				m.NetworkChanged()
			}
		})
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("port mapping does not follow changes of the network", "err", err)
	}
}

// again has mappings checked, since they may be gone. p may be nil.
func (p *ports) again() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mapper != nil {
		p.mapper.NetworkChanged()
	}
}

// state returns what is known, for reports. Any goroutine may call it.
func (p *ports) state() portmap.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mapper == nil {
		return portmap.State{IPv4: portmap.Result{Code: portmap.Asking}}
	}
	return p.mapper.State()
}

// mappedEndpoints lists where packets from the internet arrive.
func mappedEndpoints(st portmap.State) (list []link.Endpoint) {
	for _, m := range st.Mappings() {
		if !m.Doubtful {
			list = append(list, link.Endpoint{Addr: m.External})
		}
	}
	return list
}

func mappedText(st portmap.State) string {
	var list []string
	for _, m := range st.Mappings() {
		list = append(list, fmt.Sprintf("udp:%s (%s)", m.External, m.Kind))
	}
	return strings.Join(list, " ")
}

// portNetwork takes from a state what package portmap needs. Routes by other interfaces
// than those fit for beacons, such as tunnels, do not lead to the network's own router.
func portNetwork(st link.State) (n portmap.Network) {
	n.Route4, _ = portRoute(st, st.Route4)
	n.Route6, n.Addresses = portRoute(st, st.Route6)
	return n
}

func portRoute(st link.State, r link.Route) (portmap.Route, []netip.Addr) {
	at := slices.IndexFunc(st.Interfaces, func(i link.Interface) bool { return i.Index == r.If })
	if at < 0 || r.If == 0 {
		return portmap.Route{}, nil
	}
	i := st.Interfaces[at]
	var addrs []netip.Addr
	for _, prefix := range i.Prefixes {
		addrs = append(addrs, prefix.Addr())
	}
	return portmap.Route{Gateway: r.Via, Source: r.Source, Interface: i.Name, Index: i.Index}, addrs
}
