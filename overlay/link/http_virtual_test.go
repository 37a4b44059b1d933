package link

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipes are connections in memory, for virtual time.
type pipes struct {
	mu    sync.Mutex
	ports map[string]*pipeListener // by IP:PORT
	last  uint16
}

// pipeHost is one host of them.
type pipeHost struct {
	net  *pipes
	addr netip.Addr
}

func (p *pipes) host(addr string) *pipeHost { return &pipeHost{p, netip.MustParseAddr(addr)} }

type pipeConn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c *pipeConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *pipeConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

type pipeListener struct {
	host  *pipeHost
	at    netip.AddrPort
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

// Dial implements Streams.
func (h *pipeHost) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	h.net.mu.Lock()
	l := h.net.ports[address]
	h.net.last++
	from := netip.AddrPortFrom(h.addr, 20000+h.net.last)
	h.net.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- &pipeConn{theirs, l.at, from}:
		return &pipeConn{ours, from, l.at}, nil
	case <-l.ended:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ListenTCP implements Streams.
func (h *pipeHost) ListenTCP(port uint16) (net.Listener, error) {
	l := &pipeListener{host: h, at: netip.AddrPortFrom(h.addr, port), conns: make(chan net.Conn), ended: make(chan struct{})}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.net.ports == nil {
		h.net.ports = make(map[string]*pipeListener)
	}
	h.net.ports[l.at.String()] = l
	return l, nil
}

// virtual is a server and a client in virtual time.
type virtual struct {
	t              *testing.T
	net            *pipes
	server, client *Mux
	ended          chan Endpoint // what the server tells
	arrived        chan arrival  // at the server
	back           chan arrival  // at the client
}

type arrival struct {
	packet []byte
	from   Endpoint
}

// inVirtualTime runs a test with both.
func inVirtualTime(t *testing.T, test func(*testing.T, *virtual)) {
	synctest.Test(t, func(t *testing.T) {
		v := &virtual{t: t, net: new(pipes), ended: make(chan Endpoint, 4096)}
		v.server = NewMux(MuxConfig{Streams: v.net.host("192.0.2.1"), Ended: func(ep Endpoint) { v.ended <- ep }})
		v.client = NewMux(MuxConfig{Streams: v.net.host("198.51.100.7")})
		if err := v.server.ListenTCP(80); err != nil {
			t.Fatal(err)
		}
		v.arrived, v.back = arrivals(v.server), arrivals(v.client)
		defer synctest.Wait()
		defer v.server.Close()
		defer v.client.Close()
		test(t, v)
	})
}

// arrivals reads until the Mux is closed. Of what nobody takes, it keeps some.
func arrivals(m *Mux) chan arrival {
	all := make(chan arrival, 4096)
	go func() {
		ts := make([]Train, 32)
		for {
			n, err := m.Read(ts)
			if err != nil {
				close(all)
				return
			}
			for _, x := range ts[:n] {
				for p := x.Buf; len(p) > 0; p = p[min(x.Size, len(p)):] {
					select {
					case all <- arrival{bytes.Clone(p[:min(x.Size, len(p))]), x.Endpoint}:
					default:
					}
				}
			}
		}
	}()
	return all
}

// meet has the client prove who it is, and returns where it is.
func (v *virtual) meet(ep Endpoint) Endpoint {
	v.t.Helper()
	v.client.NewWriter().Write(packets(ep, 1, 40))
	x := <-v.arrived
	v.server.Keep(x.from, "client", true)
	v.server.NewWriter().Write(packets(x.from, 1, 60))
	if y := <-v.back; len(y.packet) != 60 {
		v.t.Fatalf("a packet of %d bytes came back", len(y.packet))
	}
	return x.from
}

// raw opens a connection to the server from an address, and writes.
func (v *virtual) raw(from, text string) net.Conn {
	v.t.Helper()
	c, err := v.net.host(from).Dial(v.t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		v.t.Fatal(err)
	}
	if len(text) > 0 {
		if _, err := io.WriteString(c, text); err != nil {
			v.t.Error(err)
		}
	}
	return c
}

// status reads an answer's.
func status(t *testing.T, c net.Conn) int {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Error(err)
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

var virtualServer = at("http://192.0.2.1/")

// A client with nothing to say keeps one answer open, and makes few requests.
func TestHTTPIdleClientMakesFewRequests(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		v.meet(virtualServer)
		time.Sleep(time.Minute)
		before := count(v.server, "http_requests")
		time.Sleep(8 * time.Minute)
		n := count(v.server, "http_requests") - before
		if n == 0 || n > 8*3 || count(v.server, "http_connections") > 2 {
			t.Errorf("%d requests in 8 minutes, %d connections", n, count(v.server, "http_connections"))
		}
		time.Sleep(5 * time.Minute)
		if n := count(v.client, "connections"); n != 0 {
			t.Errorf("%d connections of no use", n)
		}
	})
}

// Answers that stay open are replaced, and nothing is lost or comes twice meanwhile.
func TestHTTPAnswersAreReplacedWithoutAGap(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		w := v.server.NewWriter()
		const packets = 3000
		var sender sync.WaitGroup
		defer sender.Wait()
		sender.Go(func() {
			for i := range packets {
				p := make([]byte, 40)
				binary.BigEndian.PutUint32(p, uint32(i))
				w.Write([]Train{{Buf: p, Size: len(p), Endpoint: from}})
				time.Sleep(100 * time.Millisecond)
			}
		})
		for i := range packets {
			if n := binary.BigEndian.Uint32((<-v.back).packet); n != uint32(i) {
				t.Errorf("packet %d came, want %d", n, i)
				break
			}
		}
		if n := count(v.server, "http_streams"); n < 3 || n > 5 {
			t.Errorf("%d answers stayed open in 5 minutes", n)
		}
	})
}

// A client that no longer asks is gone soon.
func TestHTTPSessionEnds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		v.client.Close()
		for ep := range v.ended { // two requests that came at once had a session each for a moment
			if ep.Same(&from) {
				break
			}
		}
		if n := count(v.server, "http_ended_idle"); n != 1 {
			t.Errorf("%d ended", n)
		}
	})
}

const someSession = "0123456789abcdef0123456789abcdef"

// A body that comes a byte at a time is not waited for, nor are headers, and nobody else notices.
func TestHTTPSlowRequestsEnd(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		drip := func(c net.Conn, done chan<- struct{}) {
			defer close(done)
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}
		body := v.raw("203.0.113.5", "POST /?id="+someSession+"&n=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n\x00\xff")
		header := v.raw("203.0.113.5", "POST / HTTP/1.1\r\nHost: h\r\nX-Long: ")
		began := time.Now()
		ended := []chan struct{}{make(chan struct{}), make(chan struct{})}
		go drip(body, ended[0])
		go drip(header, ended[1])
		code := make(chan int, 1)
		go func() { code <- status(t, body) }()
		go io.Copy(io.Discard, header)
		w := v.server.NewWriter()
		for range 20 {
			w.Write(packets(from, 1, 50))
			select {
			case <-v.back:
			case <-time.After(time.Second):
				t.Error("a packet did not come")
			}
			time.Sleep(500 * time.Millisecond)
		}
		if c := <-code; c != http.StatusRequestTimeout {
			t.Errorf("status %d", c)
		}
		<-ended[0]
		<-ended[1]
		if took := time.Since(began); took > 20*time.Second || count(v.server, "http_slow_body") != 1 {
			t.Errorf("after %v, counters %v", took, v.server.Counters())
		}
	})
}

// Headers without end and bodies that are too long are refused before they are read.
func TestHTTPRefusesWhatIsTooLong(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		refused := func(what string, want int, text string) {
			c := v.raw("203.0.113.5", "")
			defer c.Close()
			go io.WriteString(c, text)
			if code := status(t, c); code != want {
				t.Errorf("%s: status %d, want %d", what, code, want)
			}
		}
		post := "POST /?id=" + someSession + "&n=1 HTTP/1.1\r\nHost: h\r\n"
		refused("endless headers", http.StatusRequestHeaderFieldsTooLarge, "POST / HTTP/1.1\r\n"+strings.Repeat("X: y\r\n", 10000))
		refused("a huge body", http.StatusRequestEntityTooLarge, post+"Content-Length: 1000000000000\r\n\r\n")
		long := "4e20\r\n" + strings.Repeat("\x00\x00", 10000) + "\r\n0\r\n\r\n"
		refused("a long body in chunks", http.StatusRequestEntityTooLarge, post+"Transfer-Encoding: chunked\r\n\r\n"+long)
		refused("no packets", http.StatusBadRequest, post+"Content-Length: 5\r\n\r\nHello")
		refused("half a packet", http.StatusBadRequest, post+"Content-Length: 5\r\n\r\n\x00\x28abc")
		refused("no session", http.StatusBadRequest, "POST /?id=1234 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		if c := v.server.Counters(); c["http_refused_body"] != 2 || c["http_refused_query"] != 1 || c["http_no_packets"] != 2 {
			t.Errorf("counters %v", c)
		}
	})
}

// Sessions without proof are bounded for each site, and end; one that has given it goes on.
func TestHTTPGuests(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		codes := make(chan int, 100)
		ask := func(from string, i int) {
			c := v.raw(from, fmt.Sprintf("POST /?id=%032x&d=1&w=25 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", i))
			go func() { defer c.Close(); codes <- status(t, c) }()
		}
		for i := range maxSiteGuests + 4 {
			ask("203.0.113.5", i)
		}
		for range 4 {
			if c := <-codes; c != http.StatusServiceUnavailable {
				t.Errorf("status %d", c)
			}
		}
		if n := count(v.server, "http_sessions_unproved"); n != maxSiteGuests {
			t.Errorf("%d guests", n)
		}
		v.server.NewWriter().Write(packets(from, 1, 50))
		<-v.back
		began := time.Now()
		for range maxSiteGuests {
			if c := <-codes; c != http.StatusOK {
				t.Errorf("status %d", c)
			}
		}
		if took := time.Since(began); took > proveFor+janitorEvery {
			t.Errorf("guests stay for %v", took)
		}
		synctest.Wait()
		if c := v.server.Counters(); c["http_sessions_unproved"] != 0 || c["http_sessions"] != 1 || c["ended_unproved"] != maxSiteGuests {
			t.Errorf("counters %v", c)
		}
	})
}

// A proxy on the same host names its clients, and what it says counts for the bounds alone.
func TestHTTPGuestsBehindAProxy(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		codes := make(chan int, 100)
		ask := func(from, via string, i int) {
			c := v.raw(from, fmt.Sprintf("POST /?id=%032x&d=1&w=1 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: %s\r\nContent-Length: 0\r\n\r\n", i, via))
			go func() { defer c.Close(); codes <- status(t, c) }()
		}
		expect := func(n, code int) {
			t.Helper()
			for range n {
				if c := <-codes; c != code {
					t.Errorf("status %d, want %d", c, code)
				}
			}
		}
		for i := range maxSiteGuests + 1 {
			ask("127.0.0.1", "203.0.113."+strconv.Itoa(i)+", 198.51.100.9", i) // all but the last are the client's words
		}
		expect(1, http.StatusServiceUnavailable)
		ask("127.0.0.1", "198.51.100.10", 100)
		for i := range maxSiteGuests + 1 {
			ask("203.0.113.5", "198.51.100."+strconv.Itoa(20+i), 200+i) // not from this host: not believed
		}
		expect(1, http.StatusServiceUnavailable)
		expect(2*maxSiteGuests+1, http.StatusOK)
	})
}

// Requests of one session that are too many are refused.
func TestHTTPRequestsInFlight(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		codes := make(chan int, 100)
		for i := range maxGuestFlight + 1 {
			c := v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%s&d=%d&s=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", someSession, i+1))
			go func() { defer c.Close(); codes <- status(t, c) }()
			synctest.Wait()
		}
		refused := 0
		for range maxGuestFlight + 1 {
			if <-codes == http.StatusTooManyRequests {
				refused++
			}
		}
		if n := count(v.server, "http_refused_in_flight"); n != 1 || refused != 1 {
			t.Errorf("%d refused, counted %d", refused, n)
		}
	})
}

// A request without a session, as the draft has it, is answered with what comes for it.
func TestHTTPRequestWithoutASession(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		there := appendFrames(nil, &Train{Buf: make([]byte, 80), Size: 40})
		c := v.raw("203.0.113.5", fmt.Sprintf("POST /any HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(there), there))
		defer c.Close()
		x := <-v.arrived
		v.server.NewWriter().Write(packets(x.from, 1, 60))
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		if err != nil || len(b) != 62 {
			t.Errorf("%d bytes, %v", len(b), err)
		}
		if ep := <-v.ended; !ep.Same(&x.from) {
			t.Errorf("%v ended", ep)
		}
	})
}

// Bodies that overtake each other are put in order; one that never comes is not waited for long.
func TestHTTPBodiesAreTakenInOrder(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		for _, n := range []int{1, 4, 3, 2, 6} { // 5 is lost
			b := appendFrames(nil, &Train{Buf: bytes.Repeat([]byte{byte(n)}, 40), Size: 40})
			c := v.raw("203.0.113.5", fmt.Sprintf("POST /?id=%s&n=%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", someSession, n, len(b), b))
			defer c.Close()
			go io.Copy(io.Discard, c)
			synctest.Wait()
		}
		for _, want := range []byte{1, 2, 3, 4, 6} {
			if x := <-v.arrived; x.packet[0] != want {
				t.Errorf("%d came, want %d", x.packet[0], want)
			}
		}
	})
}

// Who does not know a session's number can do nothing to it; who does gets sealed packets.
func TestHTTPSessionsOfOthers(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		from := v.meet(virtualServer)
		other := v.raw("203.0.113.5", "POST /?id="+someSession+"&d=1000000&seen=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		defer other.Close()
		if code := status(t, other); code != http.StatusConflict {
			t.Errorf("status %d", code)
		}
		hold := v.raw("203.0.113.5", "POST /?id="+someSession+"&d=1000001 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
		defer hold.Close()
		synctest.Wait()
		v.server.NewWriter().Write(packets(from, 1, 50))
		if x := <-v.back; len(x.packet) != 50 {
			t.Error("another packet came")
		}
	})
}

// A server that is not there is tried once for each packet, and the reason is known.
func TestHTTPTroubleUnreachable(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, v *virtual) {
		ep := at("http://192.0.2.1:81/")
		v.client.NewWriter().Write(packets(ep, 1, 40))
		time.Sleep(time.Second)
		x, ok := v.client.Trouble(ep).(*Trouble)
		if !ok || x.Kind != Unreachable || !strings.Contains(x.Error(), "connection: connection refused") {
			t.Errorf("trouble %v", v.client.Trouble(ep))
		}
		if n := count(v.client, "connections"); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}
