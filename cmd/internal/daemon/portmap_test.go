package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/overlay/portmap"
)

// told is a node that passes on what it is told.
type told chan []link.Endpoint

func (n told) Status(context.Context) (overlay.Status, error) {
	return overlay.Status{Listen: []string{"udp:[::]:8737"}}, nil
}

func (n told) SetMapped(ctx context.Context, list []link.Endpoint) error {
	select {
	case n <- list:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n told) SetPortmap(context.Context, overlay.PortmapStatus) error { return nil }

// loopback is a network whose router is on the loopback interface, until that is gone.
type loopback struct {
	link.Network
	gone chan bool
}

var loopbackState = link.State{
	Interfaces: []link.Interface{{Name: "lo", Index: 1, Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}},
	Route4:     link.Route{Via: netip.MustParseAddr("127.0.0.2"), If: 1, Source: netip.MustParseAddr("127.0.0.1")},
}

func (l loopback) State() (link.State, error) {
	select {
	case <-l.gone:
		return link.State{}, nil
	default:
		return loopbackState, nil
	}
}

func (l loopback) Watch(ctx context.Context, _ link.State, changed func(link.State)) error {
	changed(loopbackState) // the same again is no news
	select {
	case <-l.gone:
		changed(link.State{})
		<-ctx.Done()
	case <-ctx.Done():
	}
	return nil
}

// natpmp answers requests as a router does (RFC 6886), until the test ends.
func natpmp(t *testing.T, at string) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { c.Close(); <-ended })
	go func() {
		defer close(ended)
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			out := binary.BigEndian.AppendUint32([]byte{0, b[1] | 128, 0, 0}, 1000)
			switch {
			case n < 2 || b[0] != 0:
				out[3] = 1 // the only version is 0
			case b[1] == 0:
				out = append(out, 198, 51, 100, 7)
			default:
				out = append(out, b[4:12]...)
			}
			c.WriteToUDPAddrPort(out, from)
		}
	}()
}

// TestPorts: the node is told of a port that the router maps, and that it is gone in
// another network.
func TestPorts(t *testing.T) {
	natpmp(t, "127.0.0.2:5351")
	n, network := make(told, 1), loopback{gone: make(chan bool)}
	p := &ports{node: n, network: network, key: []byte("key"), log: slog.New(slog.DiscardHandler)}
	if st := p.state(); st.IPv4.Code != portmap.Asking {
		t.Errorf("before: %+v", st)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	next := func() []link.Endpoint {
		t.Helper()
		select {
		case list := <-n:
			return list
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was told")
		}
		return nil
	}
	if want := []link.Endpoint{{Addr: netip.MustParseAddrPort("198.51.100.7:8737")}}; !slices.Equal(next(), want) {
		t.Errorf("want %v", want)
	}
	if st := p.state(); st.IPv4.Code != portmap.Mapped || st.IPv4.Mapping.Kind != portmap.NATPMP {
		t.Errorf("%+v", st)
	}
	close(network.gone)
	if list := next(); len(list) != 0 {
		t.Errorf("in another network: %v", list)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestPortNetwork: which route is asked about, and with which addresses.
func TestPortNetwork(t *testing.T) {
	six := netip.MustParsePrefix("2001:db8::7/64")
	st := loopbackState
	st.Interfaces = append(st.Interfaces, link.Interface{Name: "eth0", Index: 2, Prefixes: []netip.Prefix{six}})
	st.Route6 = link.Route{Via: netip.MustParseAddr("fe80::1"), If: 2, Source: six.Addr()}
	want := portmap.Network{
		Route4:    portmap.Route{Gateway: st.Route4.Via, Source: st.Route4.Source, Interface: "lo", Index: 1},
		Route6:    portmap.Route{Gateway: st.Route6.Via, Source: six.Addr(), Interface: "eth0", Index: 2},
		Addresses: []netip.Addr{six.Addr()},
	}
	if got := portNetwork(st); !got.Same(want) {
		t.Errorf("%+v", got)
	}
	st.Route4.If = 9 // a tunnel
	if got := portNetwork(st); got.Route4 != (portmap.Route{}) {
		t.Errorf("%+v", got)
	}
	if got := portNetwork(link.State{}); !got.Same(portmap.Network{}) {
		t.Errorf("%+v", got)
	}
}

// TestMappedEndpoints: what cannot be reached from the internet is not told.
func TestMappedEndpoints(t *testing.T) {
	st := portmap.State{
		IPv4: portmap.Result{Code: portmap.BehindNAT, Mapping: portmap.Mapping{Kind: portmap.UPnP, External: netip.MustParseAddrPort("100.64.0.1:8737"), Doubtful: true}},
		IPv6: []portmap.Result{{Code: portmap.Mapped, Mapping: portmap.Mapping{Kind: portmap.PCP, External: netip.MustParseAddrPort("[2001:db8::7]:8737")}}, {Code: portmap.NoAnswer}},
	}
	if got := mappedEndpoints(st); !slices.Equal(got, []link.Endpoint{{Addr: netip.MustParseAddrPort("[2001:db8::7]:8737")}}) {
		t.Errorf("%v", got)
	}
	if got, want := mappedText(st), "udp:100.64.0.1:8737 (upnp) udp:[2001:db8::7]:8737 (pcp)"; got != want {
		t.Errorf("%q", got)
	}
}

// TestPortKey: the key stays the same for an identity, and tells nothing of it.
func TestPortKey(t *testing.T) {
	a, err := anode.NewIdentity(0)
	b, err2 := anode.NewIdentity(0)
	if errors.Join(err, err2) != nil {
		t.Fatal(err, err2)
	}
	if k := portKey(a); !slices.Equal(k, portKey(a)) || slices.Equal(k, portKey(b)) || slices.Equal(k, a.PrivateKey().Bytes()) {
		t.Error("keys are not as they should be")
	}
}
