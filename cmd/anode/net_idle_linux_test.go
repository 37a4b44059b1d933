package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/overlay"
	"anodenet/overlay/link"
)

const (
	// idleClients is a variable of the environment: how many clients TestNetIdleClients has.
	idleClients = "IDLE_CLIENTS"
	fewIdle     = 200
	// idleFull is a number of clients for which the daemon has so much memory, in kB.
	idleFull   = 1000
	idleMemory = 60 << 10
	// idleRequests bounds the HTTP requests of an idle client in a minute.
	idleRequests = 4.0
)

// TestNetIdleClients measures what a relay's daemon spends on clients that have nothing to say, and that
// reach it by HTTP alone, or by TCP alone. The figures of a thousand, after three minutes:
//
//	IDLE_CLIENTS=1000 go test ./cmd/anode -run TestNetIdleClients -v -timeout 20m
func TestNetIdleClients(t *testing.T) {
	count, kinds := fewIdle, 1
	if text := os.Getenv(idleClients); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 1 {
			t.Fatalf("%s is %q", idleClients, text)
		}
		kinds = 2
	}
	for _, by := range []struct {
		kind string
		port int
	}{{"http", 80}, {"tcp", link.Port}}[:kinds] {
		t.Run(by.kind, func(t *testing.T) {
			x := newIdleWorld(t)
			bare := x.r.resident()
			x.start(count, by.port)
			x.settle(by.kind)
			x.measure(by.kind, bare)
		})
	}
}

// idleWorld is a relay, and a host that has the addresses of very many clients. These are nodes in
// the test's process.
type idleWorld struct {
	t       *testing.T
	c, r    *host
	file    *zone.File
	zone    anode.Zone
	clients []*overlay.Node
	spent   ownUse // by the test's process, without clients

	dialling sync.RWMutex // held while a client dials
	over     bool         // nobody may any more
}

func newIdleWorld(t *testing.T) *idleWorld {
	x := &idleWorld{t: t, c: newMachine(t, "c"), r: newMachine(t, "r"), spent: use()}
	x.c.ip("link add eth1 type veth peer name eth1 netns "+strconv.Itoa(x.r.tid), "addr add 9.0.3.1/24 dev eth1", "link set eth1 up",
		"route add local 9.8.0.0/16 dev lo")
	x.r.ip("addr add "+zoneIP+"/24 dev eth1", "link set eth1 up", "route add default via 9.0.3.1")
	onlyIPv4(x.c, x.r)
	x.r.joinZone("--relay")
	within(t, dialWait, "the zone file to be served", func() bool { return x.r.zoneFile().Served == zoneIP+":80" })
	x.zone = x.r.address.Zone()
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		return in(x.c, func() (net.Conn, error) { return net.DialTimeout(network, address, dialWait) })
	}
	web := &http.Transport{DialContext: dial}
	defer web.CloseIdleConnections()
	got, err := zone.Fetch(t.Context(), &http.Client{Transport: web}, x.zone, zone.Copy{})
	if err != nil {
		t.Fatal(err)
	}
	x.file = got.File
	return x
}

// start has clients come, a few at a time and four from each address, until the test ends.
func (x *idleWorld) start(count, port int) {
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	x.t.Cleanup(func() {
		cancel()
		running.Wait()
		x.dialling.Lock()
		defer x.dialling.Unlock()
		x.over = true
	})
	for k := range count {
		id, err := anode.NewIdentity(x.zone)
		if err != nil {
			x.t.Fatal(err)
		}
		from := netip.AddrFrom4([4]byte{9, 8, byte(k / 4 >> 8), byte(k / 4)})
		n, err := overlay.New(overlay.Config{Identity: id, Network: &onePort{world: x, from: from, port: port}, Port: link.Port, Version: "test"})
		if err != nil {
			x.t.Fatal(err)
		}
		running.Go(func() { n.Run(ctx) })
		if err := n.SetZone(ctx, x.zone, x.file); err != nil {
			x.t.Fatal(err)
		}
		x.clients = append(x.clients, n)
		if k%8 == 7 {
			x.registered(k - 100)
		}
	}
	x.registered(count - 1)
}

// registered waits until the relay knows the first clients, up to the k-th.
func (x *idleWorld) registered(k int) {
	within(x.t, time.Minute, fmt.Sprintf("client %d to be registered", k), func() bool {
		return k < 0 || x.isRegistered(x.clients[k])
	})
}

func (x *idleWorld) isRegistered(n *overlay.Node) bool {
	s, err := n.Status(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			if r.Own && r.State == overlay.RelayRegistered {
				return true
			}
		}
	}
	return false
}

// settle waits until what comes with a start is over.
func (x *idleWorld) settle(kind string) {
	for k := range x.clients {
		x.registered(k)
	}
	if kind == "http" {
		within(x.t, time.Minute, "an answer to stay open for each client", func() bool {
			return x.r.status().Counters["mux_http_streams"] >= uint64(len(x.clients))
		})
	}
}

// measure says what a minute costs, and how much memory there is at its end.
func (x *idleWorld) measure(kind string, bare int) {
	t, count := x.t, len(x.clients)
	window := 30 * time.Second
	if count >= idleFull {
		time.Sleep(2 * time.Minute)
		window = time.Minute
	}
	before, cpu, ours := x.r.status().Counters, x.r.cpu(), use()
	time.Sleep(window)
	after, spent, ours2 := x.r.status().Counters, x.r.cpu()-cpu, use()
	minutes := window.Minutes()
	requests := float64(after["mux_http_requests"]-before["mux_http_requests"]) / minutes / float64(count)
	rss, registered := x.r.resident(), 0
	for _, n := range x.clients {
		if x.isRegistered(n) {
			registered++
		}
	}
	t.Logf("%d clients by %s, of which %d are registered", count, kind, registered)
	t.Logf("relay: %d kB resident with none, %d kB with all, %.1f kB a client; %.2f s of CPU a minute; %.2f requests a client and minute; %d connections",
		bare, rss, float64(rss-bare)/float64(count), spent.Seconds()/minutes, requests, after["mux_http_connections"]+after["mux_connections"]-after["mux_http_sessions"])
	t.Logf("clients: %.1f kB of heap and stacks a client, %.1f goroutines; %.2f s of CPU a minute for all", float64(ours2.memory-x.spent.memory)/1024/float64(count),
		float64(ours2.goroutines-x.spent.goroutines)/float64(count), (ours2.cpu-ours.cpu).Seconds()/minutes)
	if registered != count {
		t.Errorf("%d of %d clients are registered", registered, count)
	}
	if requests > idleRequests {
		t.Errorf("%.2f requests a client and minute, want at most %v", requests, idleRequests)
	}
	most := bare + max(idleMemory-bare, 0)*count/idleFull
	if count < idleFull {
		most += idleStart
	}
	if rss > most {
		t.Errorf("%d kB resident, want at most %d", rss, most)
	}
	for name, n := range after {
		if n != 0 && strings.HasPrefix(name, "mux_") {
			t.Log(name, n)
		}
	}
	t.Logf("relay: %d goroutines", x.r.goroutines())
}

// idleStart is memory in kB that the start of the clients took, and that the daemon gives back only
// after some minutes.
const idleStart = 16 << 10

// goroutines ends the daemon, and counts what it lists at that.
func (h *host) goroutines() int {
	h.t.Helper()
	p := h.node
	p.end(syscall.SIGQUIT)
	return strings.Count(p.output(), "\ngoroutine ")
}

// ownUse is what the test's process uses.
type ownUse struct {
	memory     uint64
	goroutines int
	cpu        time.Duration
}

func use() ownUse {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return ownUse{m.HeapInuse + m.StackInuse, runtime.NumGoroutine(), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

// onePort is a network that lets connections to one port through, and nothing else. It is like the
// system's in all other ways.
type onePort struct {
	world *idleWorld
	from  netip.Addr
	port  int
}

// Dial implements link.Streams.
func (n *onePort) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if _, port, _ := net.SplitHostPort(address); port != strconv.Itoa(n.port) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	n.world.dialling.RLock()
	defer n.world.dialling.RUnlock()
	if n.world.over {
		return nil, net.ErrClosed
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.from, 0)), Timeout: dialWait}
	return in(n.world.c, func() (net.Conn, error) { return d.Dial(network, address) })
}

// ListenTCP implements link.Streams.
func (n *onePort) ListenTCP(uint16) (net.Listener, error) { return nil, syscall.EACCES }

// Listen implements link.Network.
func (n *onePort) Listen(port uint16) (link.Conn, error) {
	return &blackHole{closed: make(chan struct{})}, nil
}

// ListenBeacons implements link.Network.
func (n *onePort) ListenBeacons() (link.Conn, error) { return n.Listen(link.Port) }

// State implements link.Network.
func (n *onePort) State() (link.State, error) {
	return link.State{
		Interfaces: []link.Interface{{Name: "eth0", Index: 1, MTU: 1500, Prefixes: []netip.Prefix{netip.PrefixFrom(n.from, 32)}}},
		Route4:     link.Route{Via: netip.MustParseAddr("9.8.255.254"), If: 1, Source: n.from},
	}, nil
}

// Watch implements link.Network.
func (n *onePort) Watch(ctx context.Context, _ link.State, _ func(link.State)) error {
	<-ctx.Done()
	return nil
}

// blackHole is a socket of which all that is sent is lost.
type blackHole struct {
	closed chan struct{}
	once   sync.Once
}

// Read implements link.Conn.
func (b *blackHole) Read([]link.Train) (int, error) {
	<-b.closed
	return 0, link.ErrClosed
}

// NewWriter implements link.Conn.
func (b *blackHole) NewWriter() link.Writer { return b }

// Write implements link.Writer.
func (b *blackHole) Write(ts []link.Train) (int, error) { return len(ts), nil }

// LocalPort implements link.Conn.
func (b *blackHole) LocalPort() uint16 { return link.Port }

// Rung implements link.Conn.
func (b *blackHole) Rung() string { return link.RungPlain }

// Counters implements link.Conn.
func (b *blackHole) Counters() map[string]uint64 { return nil }

// Close implements link.Conn.
func (b *blackHole) Close() error { b.once.Do(func() { close(b.closed) }); return nil }
