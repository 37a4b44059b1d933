package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/proxy"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// loopback is a Network of peers that are ports of 127.0.0.1: what listens there for a peer is
// in tcp and udp, by "ADDRESS:PORT".
type loopback struct {
	mu       sync.Mutex
	tcp, udp map[string]string
	fail     map[string]error
	from     anode.ULA // who connects to what is exposed
	exposed  map[string]net.Listener
	packets  map[string]net.PacketConn
	waiting  chan context.Context // of connections to port 99, which do not open
}

func (n *loopback) Dial(ctx context.Context, network, target string) (net.Conn, error) {
	n.mu.Lock()
	to, err := n.tcp[target], n.fail[target]
	if network == "udp" {
		to = n.udp[target]
	}
	n.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case strings.HasSuffix(target, ":99"):
		n.waiting <- ctx
		<-ctx.Done()
		return nil, ctx.Err()
	case to == "":
		return nil, syscall.ECONNREFUSED
	}
	var d net.Dialer
	return d.DialContext(ctx, network, to)
}

func (n *loopback) Listen(_, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exposed[address] = l
	return &posing{l, n}, nil
}

func (n *loopback) ListenPacket(_, address string) (net.PacketConn, error) {
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.packets[address] = p
	return &posingPackets{p, n}, nil
}

// peerAddr is a remote address with a peer's ULA in the place of 127.0.0.1.
type peerAddr struct {
	net.Addr
	ula anode.ULA
}

func (a peerAddr) String() string {
	return netip.AddrPortFrom(a.ula.Addr(), netip.MustParseAddrPort(a.Addr.String()).Port()).String()
}

func (n *loopback) pose(a net.Addr) net.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return peerAddr{a, n.from}
}

type posing struct {
	net.Listener
	n *loopback
}

func (p *posing) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &posingConn{c.(*net.TCPConn), p.n.pose(c.RemoteAddr())}, nil
}

type posingConn struct {
	*net.TCPConn
	remote net.Addr
}

func (c *posingConn) RemoteAddr() net.Addr { return c.remote }

type posingPackets struct {
	net.PacketConn
	n *loopback
}

func (p *posingPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := p.PacketConn.ReadFrom(b)
	if err == nil {
		a = p.n.pose(a)
	}
	return n, a, err
}

func (p *posingPackets) WriteTo(b []byte, a net.Addr) (int, error) {
	return p.PacketConn.WriteTo(b, a.(peerAddr).Addr)
}

// world is a Service whose peers are north, which is added, and blocked and stranger.
type world struct {
	t                        *testing.T
	net                      *loopback
	s                        *Service
	north, blocked, stranger anode.Address
}

func identity(t *testing.T) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

func newWorld(t *testing.T, specs ...Spec) *world {
	t.Helper()
	w := &world{t: t, net: &loopback{tcp: map[string]string{}, udp: map[string]string{}, fail: map[string]error{},
		exposed: map[string]net.Listener{}, packets: map[string]net.PacketConn{}, waiting: make(chan context.Context, 1)},
		north: identity(t), blocked: identity(t), stranger: identity(t)}
	w.net.from = w.north.ULA()
	entries := func() []book.Entry {
		return []book.Entry{{Address: w.north, Name: "north", Added: true}, {Address: w.blocked, Name: "foe", Added: true, Blocked: true}}
	}
	unix := func(path string) (net.Listener, error) { return net.Listen("unix", path) }
	w.s = New(w.net, Directory{Entries: entries}, unix, slog.New(slog.DiscardHandler))
	if err := w.s.Set(specs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if left := w.s.Doors(); len(left) > 0 {
			t.Errorf("doors are left: %v", left)
		}
	})
	return w
}

// echo serves a port of north that sends back what it gets, and then "end".
func (w *world) echo(port int) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
				io.WriteString(c, "end")
			}()
		}
	}()
	w.put(w.net.tcp, port, l.Addr().String())
}

// echoPackets is echo for datagrams.
func (w *world) echoPackets(port int) {
	w.t.Helper()
	w.put(w.net.udp, port, packetEcho(w.t))
}

func packetEcho(t *testing.T) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 65535)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo(append([]byte("re: "), b[:n]...), from)
		}
	}()
	return p.LocalAddr().String()
}

func (w *world) put(m map[string]string, port int, to string) {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	m[fmt.Sprintf("%s:%d", w.north, port)] = to
}

func (w *world) counters() map[string]uint64 {
	c := map[string]uint64{}
	w.s.Count(c)
	return c
}

func (w *world) listen(i int) string { return w.s.Doors()[i].Listen }

// loop is a free port of 127.0.0.1.
func loop() Place { return Place{Addr: netip.MustParseAddrPort("127.0.0.1:0")} }

// talk sends a text through a connection, ends it, and wants it back with "end".
func talk(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	text := strings.Repeat("some text ", 100_000)
	go func() {
		io.WriteString(c, text)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || string(got) != text+"end" {
		t.Errorf("%d of %d bytes came back: %v", len(got), len(text)+3, err)
	}
}

// forms are the ways in which a program may name north.
func (w *world) forms() []string {
	a := w.north.String()
	return []string{"north", "north.anode.internal", "North.Anode.Internal.", "git.north.anode.internal", a, a[:32] + "." + a[32:] + ".anode.internal",
		w.north.ULA().String(), w.north.ID().String(), w.north.ID().String() + ".id.anode.internal"}
}

// none are names of what may not be reached.
func (w *world) none() []string {
	return []string{"foe", w.blocked.String(), w.blocked.ULA().String(), w.stranger.String(), w.stranger.ULA().String(), "nor", "localhost", "127.0.0.1", "::1", "0.0.0.0",
		"example.org", "git.north", "north.example.org", "anode.internal", ".anode.internal", "", "north\x00", w.north.String()[:63], "192.0.2.1", "fe80::1"}
}

func TestSOCKS(t *testing.T) {
	w := newWorld(t, Proxy{Type: SOCKS, At: loop()})
	w.echo(80)
	// The client is golang.org/x/net's.
	client, err := proxy.SOCKS5("tcp", w.listen(0), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range w.forms() {
		c, err := client.Dial("tcp", net.JoinHostPort(host, "80"))
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		c.Close()
	}
	raw, err := net.Dial("tcp", w.listen(0))
	if err != nil {
		t.Fatal(err)
	}
	if code := socksAsk(t, raw, commandConnect, "north", 80); code != replyDone {
		t.Fatalf("reply %d", code)
	}
	talk(t, raw)
}

// socksAsk sends a greeting and a request, and returns the reply.
func socksAsk(t *testing.T, c net.Conn, command byte, host string, port uint16) socksReply {
	t.Helper()
	reply, _ := socksAskAt(t, c, command, host, port)
	return reply
}

func socksAskAt(t *testing.T, c net.Conn, command byte, host string, port uint16) (socksReply, netip.AddrPort) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	request := []byte{5, 2, 2, 0, 5, command, 0}
	if a, err := netip.ParseAddr(host); err == nil {
		request = appendSocksAddr(request, netip.AddrPortFrom(a, port))
	} else {
		request = append(append(append(request, typeName, byte(len(host))), host...), byte(port>>8), byte(port))
	}
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	var head [6]byte
	if _, err := io.ReadFull(c, head[:]); err != nil || head[0] != 5 || head[1] != 0 || head[2] != 5 || head[4] != 0 {
		t.Fatalf("% x, %v", head, err)
	}
	n := 4
	if head[5] == typeIPv6 {
		n = 16
	}
	rest := make([]byte, n+2)
	if _, err := io.ReadFull(c, rest); err != nil {
		t.Fatal(err)
	}
	ip, _ := netip.AddrFromSlice(rest[:n])
	return socksReply(head[3]), netip.AddrPortFrom(ip, uint16(rest[n])<<8|uint16(rest[n+1]))
}

func TestSOCKSRefuses(t *testing.T) {
	w := newWorld(t, Proxy{Type: SOCKS, At: loop()})
	w.echo(80)
	for port, err := range map[int]error{1: overlay.ErrUnreachable, 2: context.DeadlineExceeded, 3: overlay.ErrBlocked, 4: errors.New("else")} {
		w.net.fail[fmt.Sprintf("%s:%d", w.north, port)] = err
	}
	ask := func(command byte, host string, port uint16) socksReply {
		c, err := net.Dial("tcp", w.listen(0))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return socksAsk(t, c, command, host, port)
	}
	for _, host := range w.none() {
		if code := ask(commandConnect, host, 80); code != replyNotAllowed {
			t.Errorf("%q: reply %d", host, code)
		}
	}
	for port, want := range map[uint16]socksReply{1: replyUnreachable, 2: replyUnreachable, 3: replyNotAllowed, 4: replyFailed, 81: replyRefused, 80: replyDone} {
		if code := ask(commandConnect, "north", port); code != want {
			t.Errorf("port %d: reply %d, want %d", port, code, want)
		}
	}
	if code := ask(2, "north", 80); code != replyCommand {
		t.Errorf("BIND: reply %d", code)
	}
	for _, c := range []struct{ send, want string }{
		{"\x05\x01\x02", "\x05\xff"},                                     // wants a password
		{"\x05\x01\x00\x05\x01\x00\x05", "\x05\x00\x05\x08\x00\x01\x00"}, // an unknown type of address
		{"GET / HTTP/1.1\r\n\r\n", ""},
		{"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", ""}, // SOCKS4
		{"\x05\x00", "\x05\xff"},
	} {
		conn, err := net.Dial("tcp", w.listen(0))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, c.send)
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		got, _ := io.ReadAll(conn) // it may be reset
		conn.Close()
		if !strings.HasPrefix(string(got), c.want) || c.want == "" && len(got) > 0 {
			t.Errorf("%q: %q instead of %q", c.send, got, c.want)
		}
	}
	if c := w.counters(); c["local_not_peer"] != uint64(len(w.none())) || c["local_handshake"] != 5 {
		t.Errorf("%v", c)
	}
}

func TestSOCKSDatagrams(t *testing.T) {
	w := newWorld(t, Proxy{Type: SOCKS, At: loop()})
	w.echoPackets(53)
	w.echoPackets(54)
	c, err := net.Dial("tcp", w.listen(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	code, at := socksAskAt(t, c, commandAssociate, "0.0.0.0", 0)
	if code != replyDone || !at.Addr().IsLoopback() {
		t.Fatalf("reply %d, %v", code, at)
	}
	port, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer port.Close()
	name := func(host string, n byte) []byte {
		return append(append([]byte{0, 0, 0, typeName, byte(len(host))}, host...), 0, n)
	}
	b := make([]byte, 65535)
	answer := func(to net.Conn) string {
		to.SetReadDeadline(time.Now().Add(20 * time.Second))
		n, err := to.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		_, data, ok := parseSocksDatagram(b[:n])
		if !ok {
			t.Fatalf("% x", b[:n])
		}
		return string(data)
	}
	for i, n := range []byte{53, 54, 53} {
		text := fmt.Sprint("question ", i)
		port.Write(append(name("north", n), text...))
		if got := answer(port); got != "re: "+text {
			t.Errorf("%q", got)
		}
	}
	// Another program, fragments, what is malformed, and what is no peer.
	other, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Write(append(name("north", 53), "other"...))
	port.Write([]byte{0, 0, 1, typeIPv4, 1, 2, 3, 4, 0, 53})
	port.Write([]byte{0, 0, 0, typeName, 200, 'n'})
	port.Write(append(name("stranger", 53), "nobody"...))
	port.Write(append(name("north", 53), "last"...))
	if got := answer(port); got != "re: last" {
		t.Errorf("%q", got)
	}
	within(t, "the counters", func() bool {
		c := w.counters()
		return c["local_datagrams_dropped"] == 3 && c["local_not_peer"] == 1
	})
	// The port goes with the connection.
	c.Close()
	within(t, "the port to close", func() bool {
		port.Write(append(name("north", 53), "late"...))
		port.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, err := port.Read(b)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// within polls until f is true.
func within(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestSOCKSUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	w := newWorld(t, Proxy{Type: SOCKS, At: Place{Unix: path}})
	w.echo(80)
	for command, want := range map[byte]socksReply{commandConnect: replyDone, commandAssociate: replyCommand} {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if code := socksAsk(t, c, command, "north", 80); code != want {
			t.Errorf("command %d: reply %d", command, code)
		}
		if want == replyDone {
			talk(t, c)
		}
		c.Close()
	}
}

// A program that leaves while its connection is being opened ends that at once, whatever it
// sent ahead. What another one sends ahead arrives.
func TestProgramLeaves(t *testing.T) {
	w := newWorld(t, Proxy{Type: SOCKS, At: loop()}, Proxy{Type: HTTP, At: loop()})
	w.echo(80)
	socks := "\x05\x01\x00\x05\x01\x00\x03\x05north\x00"
	for i, x := range []struct {
		hangs, opens string
		reply        int // bytes
	}{
		{socks + "\x63", socks + "\x50", 12},
		{"CONNECT north:99 HTTP/1.1\r\n\r\n", "CONNECT north:80 HTTP/1.1\r\n\r\n", len("HTTP/1.1 200 Connected\r\n\r\n")},
	} {
		for _, ahead := range []string{"", "more", strings.Repeat("much", 100)} {
			c, err := net.Dial("tcp", w.listen(i))
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(c, x.hangs+ahead)
			waiting := <-w.net.waiting
			c.Close()
			select {
			case <-waiting.Done():
				if !errors.Is(waiting.Err(), context.Canceled) {
					t.Errorf("port %d: %v", i, waiting.Err())
				}
			case <-time.After(maxDial):
				t.Errorf("port %d, %d bytes ahead: the connection is still being opened", i, len(ahead))
			}
			if c, err = net.Dial("tcp", w.listen(i)); err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(c, x.opens+ahead)
			reply := make([]byte, x.reply)
			if _, err := io.ReadFull(c, reply); err != nil {
				t.Fatal(err)
			}
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != ahead+"end" {
				t.Errorf("port %d: %q, %q, %v", i, reply, got, err)
			}
		}
	}
}

func TestConnect(t *testing.T) {
	w := newWorld(t, Proxy{Type: HTTP, At: loop()})
	w.echo(80)
	ask := func(request string) (*http.Response, net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", w.listen(0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, request)
		r := bufio.NewReader(c)
		method, _, _ := strings.Cut(request, " ")
		response, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		return response, c, r
	}
	for _, host := range w.forms() {
		// What follows the request at once belongs to the peer.
		response, c, r := ask("CONNECT " + net.JoinHostPort(host, "80") + " HTTP/1.1\r\nHost: x\r\n\r\nearly")
		if response.StatusCode != 200 {
			t.Errorf("%s: %s", host, response.Status)
			continue
		}
		c.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(r); err != nil || string(got) != "earlyend" {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	w.net.fail[w.north.String()+":1"] = overlay.ErrUnreachable
	for request, want := range map[string]int{
		"CONNECT north:81 HTTP/1.1\r\nHost: x\r\n\r\n":                                  502,
		"CONNECT north:1 HTTP/1.1\r\nHost: x\r\n\r\n":                                   504,
		"CONNECT foe:80 HTTP/1.1\r\nHost: x\r\n\r\n":                                    403,
		"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n":                              403,
		"CONNECT example.org:443 HTTP/1.1\r\nHost: north:80\r\n\r\n":                    403,
		"CONNECT north HTTP/1.1\r\nHost: x\r\n\r\n":                                     400,
		"CONNECT north:0 HTTP/1.1\r\nHost: x\r\n\r\n":                                   400,
		"GET http://north/ HTTP/1.1\r\nHost: north\r\n\r\n":                             405,
		"POST / HTTP/1.1\r\nHost: 127.0.0.1:8118\r\nContent-Length: 9\r\n\r\nsomething": 405,
		"nonsense\r\n\r\n": 400,
	} {
		response, _, _ := ask(request)
		text, _ := io.ReadAll(response.Body)
		if response.StatusCode != want || len(text) == 0 {
			t.Errorf("%q: %s %q", request, response.Status, text)
		}
		if want == 405 && (!strings.Contains(string(text), "only CONNECT") || response.Header.Get("Allow") != "CONNECT") {
			t.Errorf("%q", text)
		}
	}
	// More than a request may have.
	c, err := net.Dial("tcp", w.listen(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "CONNECT north:80 HTTP/1.1\r\nX: "+strings.Repeat("x", 2*maxRequest)+"\r\n\r\n")
	if got, _ := io.ReadAll(c); strings.Contains(string(got), "200") {
		t.Errorf("%q", got)
	}
	// As programs use it.
	u, _ := url.Parse("http://" + w.listen(0))
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(u)}}
	if _, err := client.Get("https://foe/"); err == nil || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("got %v", err)
	}
}

func TestForward(t *testing.T) {
	w := newWorld(t, Forwarding{At: loop(), Peer: "north", Port: 80}, Forwarding{At: loop(), Peer: "north", Port: 53, UDP: true},
		Forwarding{At: loop(), Peer: "north", Port: 81})
	w.echo(80)
	w.echoPackets(53)
	c, err := net.Dial("tcp", w.listen(0))
	if err != nil {
		t.Fatal(err)
	}
	talk(t, c)
	var clients []net.Conn
	for range 3 {
		p, err := net.Dial("udp", w.listen(1))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		clients = append(clients, p)
	}
	b := make([]byte, 100)
	for i, p := range slices.Concat(clients, clients) {
		text := fmt.Sprint("question ", i)
		p.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(p, text)
		if n, err := p.Read(b); err != nil || string(b[:n]) != "re: "+text {
			t.Errorf("%q, %v", b[:n], err)
		}
	}
	// Nothing listens: the program sees a reset, not an end.
	c, err = net.Dial("tcp", w.listen(2))
	if err == nil { // the reset may have come before
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		_, err = c.Read(b)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

func TestExpose(t *testing.T) {
	service := newWorld(t) // only its echo is used
	service.echo(1)
	to := service.net.tcp[service.north.String()+":1"]
	packets := packetEcho(t)
	w := newWorld(t, Exposure{Port: 80, To: to}, Exposure{Port: 53, To: packets, UDP: true},
		Exposure{Port: 81, To: to, Only: []string{"foe"}}, Exposure{Port: 82, To: to, Only: []string{"foe", "north"}}, Exposure{Port: 83, To: "127.0.0.1:1"})
	dial := func(port string) net.Conn {
		c, err := net.Dial("tcp", w.net.exposed[port].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	refused := func(port string) {
		t.Helper()
		c, err := net.Dial("tcp", w.net.exposed[port].Addr().String())
		if err == nil { // the reset may have come before
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("port %s: %v", port, err)
		}
	}
	ask := func() (string, error) {
		p, err := net.Dial("udp", w.net.packets[":53"].LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		io.WriteString(p, "question")
		p.SetDeadline(time.Now().Add(20 * time.Second))
		if w.net.from != w.north.ULA() {
			p.SetDeadline(time.Now().Add(50 * time.Millisecond)) // nothing comes
		}
		b := make([]byte, 100)
		n, err := p.Read(b)
		return string(b[:n]), err
	}
	talk(t, dial(":80"))
	talk(t, dial(":82"))
	refused(":81")
	refused(":83") // the service is not there
	if got, err := ask(); got != "re: question" {
		t.Errorf("%q, %v", got, err)
	}
	for _, other := range []anode.Address{w.stranger, w.blocked} {
		w.net.mu.Lock()
		w.net.from = other.ULA()
		w.net.mu.Unlock()
		for _, port := range []string{":80", ":81", ":82"} {
			refused(port)
		}
		if got, err := ask(); err == nil {
			t.Errorf("a stranger got %q", got)
		}
	}
	if c := w.counters(); c["local_not_allowed"] != 9 || c["local_service_failed"] != 1 {
		t.Errorf("%v", c)
	}
}

// TestKeep: the doors of a command are there as long as its context.
func TestKeep(t *testing.T) {
	w := newWorld(t)
	w.echo(80)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan Status, 1), make(chan error, 1)
	go func() {
		done <- w.s.Keep(ctx, Forwarding{At: loop(), Peer: "north", Port: 80}, "somebody", func(s Status) { ready <- s })
	}()
	s := <-ready
	if list := w.s.Doors(); len(list) != 1 || list[0] != s || s.Owner != "somebody" || s.Kind != Forward {
		t.Errorf("%+v, %+v", s, list)
	}
	c, err := net.Dial("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "x")
	c.Read(make([]byte, 1))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection is still there: %v", err)
	}
	if c, err := net.Dial("tcp", s.Listen); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	for _, c := range []struct {
		spec Spec
		want error
	}{
		{Forwarding{At: Place{Addr: netip.MustParseAddrPort("0.0.0.0:0")}, Peer: "north", Port: 80}, ErrAnywhere},
		{Forwarding{At: Place{Addr: netip.MustParseAddrPort("[::]:0")}, Peer: "north", Port: 80, UDP: true}, ErrAnywhere},
		{Forwarding{At: loop(), Peer: "foe", Port: 80}, ErrNotPeer},
		{Exposure{Port: 80, To: "127.0.0.1:80", Only: []string{"north", "foe"}}, ErrNotPeer},
	} {
		if err := w.s.Keep(t.Context(), c.spec, "somebody", func(Status) { t.Errorf("%v is open", c.spec) }); !errors.Is(err, c.want) {
			t.Errorf("%v: %v", c.spec, err)
		}
	}
}

// TestSet: doors of the configuration that stay are not touched, and an error changes nothing.
func TestSet(t *testing.T) {
	stays, goes := Forwarding{At: loop(), Peer: "north", Port: 80}, Proxy{Type: SOCKS, At: loop()}
	w := newWorld(t, stays, goes)
	w.echo(80)
	before := w.s.Doors()
	if err := w.s.Set([]Spec{stays, Proxy{Type: HTTP, At: loop()}, Proxy{Type: SOCKS, At: Place{Addr: netip.MustParseAddrPort("192.0.2.1:1080")}}}); !errors.Is(err, ErrAnywhere) {
		t.Error(err)
	}
	if after := w.s.Doors(); len(after) != 2 || after[0] != before[0] || after[1].Kind != SOCKS {
		t.Errorf("%v became %v", before, after)
	}
	if err := w.s.Set([]Spec{stays, Proxy{Type: HTTP, At: loop()}}); err != nil {
		t.Fatal(err)
	}
	after := w.s.Doors()
	if len(after) != 2 || after[0] != before[0] || after[1].Kind != HTTP {
		t.Errorf("%v", after)
	}
	// Another peer at the same port, and back when something else fails.
	at := loop()
	at.Addr = netip.AddrPortFrom(at.Addr.Addr(), netip.MustParseAddrPort(after[1].Listen).Port())
	if err := w.s.Set([]Spec{stays, Forwarding{At: at, Peer: "north", Port: 81}}); err != nil {
		t.Error(err)
	}
	taken := Place{Addr: netip.MustParseAddrPort(before[0].Listen)}
	if err := w.s.Set([]Spec{stays, Forwarding{At: at, Peer: "north", Port: 82}, Proxy{Type: HTTP, At: taken}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error(err)
	}
	if after = w.s.Doors(); len(after) != 2 || !strings.HasSuffix(after[1].Spec, "=north:81") {
		t.Errorf("%v", after)
	}
	within(t, "the old one to close", func() bool {
		c, err := net.Dial("tcp", before[1].Listen)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	c, err := net.Dial("tcp", before[0].Listen)
	if err != nil {
		t.Fatal(err)
	}
	talk(t, c)
}

// TestCrowd: one who makes many connections keeps out nobody else.
func TestCrowd(t *testing.T) {
	c := newCrowd(maxPerPeer)
	n := 0
	for c.enter("a") {
		n++
	}
	if n != maxPerPeer || !c.enter("b") {
		t.Errorf("%d of one are in", n)
	}
	c.leave("b")
	for range n {
		c.leave("a")
	}
	if c.total != 0 || len(c.of) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestFlows: one who has too many flows loses its oldest, and nobody else's.
func TestFlows(t *testing.T) {
	w := newWorld(t)
	f := w.s.newFlows(new(Door), 100, 3)
	ctx, cancel := context.WithCancel(t.Context())
	f.dial = func(ctx context.Context, _ flowKey) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	key := func(addr string, port uint16) flowKey {
		return flowKey{from: netip.AddrPortFrom(netip.MustParseAddr(addr), port)}
	}
	f.send(ctx, key("fd00::1", 1), nil, []byte("x"))
	for port := range uint16(10) {
		f.send(ctx, key("fd00::2", 1+port), nil, []byte("x"))
	}
	f.mu.Lock()
	for _, k := range []flowKey{key("fd00::1", 1), key("fd00::2", 10), key("fd00::2", 9), key("fd00::2", 8)} {
		if f.m[k] == nil {
			t.Errorf("%v is gone", k)
		}
	}
	if len(f.m) != 4 {
		t.Errorf("there are %d", len(f.m))
	}
	f.mu.Unlock()
	cancel()
	f.wait()
	if f.count() != 0 {
		t.Errorf("%d are left", f.count())
	}
}

func TestSpecs(t *testing.T) {
	for text, want := range map[string]string{
		"8080=north:80": "127.0.0.1:8080=north:80", "udp:5353=north:53": "udp:127.0.0.1:5353=north:53",
		"[::1]:80=[fd00::1]:80": "[::1]:80=[fd00::1]:80", "[::1]:80=fd00::1:80": "[::1]:80=[fd00::1]:80",
		"localhost:0=north:1": "127.0.0.1:0=north:1", "unix:/tmp/s=north:22": "unix:/tmp/s=north:22", "0.0.0.0:80=north:80": "0.0.0.0:80=north:80",
	} {
		f, err := ParseForwarding(text)
		if err != nil || f.String() != want {
			t.Errorf("%s: %v, %v", text, f, err)
		}
	}
	for _, text := range []string{"", "8080", "=north:80", "8080=", "8080=north", "8080=north:0", "8080=north:65536", "8080=:80", "x:80=north:80", "unix:s=north:80",
		"udp:unix:/s=north:80", "+80=north:80", "-1=north:80", "8080=no rth:80", "8080=north:+80", "[fe80::1%eth0]:80=north:80", "8080=nor\x1bth:80", "unix:/a\x1b=north:80", "unix:/a,b=north:80"} {
		if f, err := ParseForwarding(text); err == nil {
			t.Errorf("%q: %v", text, f)
		}
	}
	for text, want := range map[string]string{
		"80": "80=127.0.0.1:80", "udp:53=127.0.0.1:5353": "udp:53=127.0.0.1:5353", "80=web.lan:8080@north+south": "80=web.lan:8080@north+south",
		"22@fd00::1": "22=127.0.0.1:22@fd00::1", "80=[::1]:80": "80=[::1]:80",
	} {
		e, err := ParseExposure(text)
		if err != nil || e.String() != want {
			t.Errorf("%s: %v, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "0", "65536", "80@", "80@north+", "80=", "80=x", "80=:80", "80=x:0", "x", "80=a b:80", "80=a\x1b:80", "80@nor\u202eth"} {
		if e, err := ParseExposure(text); err == nil {
			t.Errorf("%q: %v", text, e)
		}
	}
}

func FuzzSpecs(f *testing.F) {
	for _, text := range []string{"8080=north:80", "udp:[::1]:5353=fd00::1:53", "unix:/s=a:1", "80=x:8080@north+south", "udp:53"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := ParseForwarding(text); err == nil {
			if b, err := ParseForwarding(a.String()); err != nil || a != b {
				t.Errorf("%q: %v, %v, %v", text, a, b, err)
			}
		}
		if a, err := ParseExposure(text); err == nil {
			if b, err := ParseExposure(a.String()); err != nil || a.String() != b.String() || !slices.Equal(a.Only, b.Only) {
				t.Errorf("%q: %v, %v, %v", text, a, b, err)
			}
		}
	})
}

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x05north\x00\x50"))
	f.Add([]byte("\x05\x02\x02\x00\x05\x03\x00\x01\x7f\x00\x00\x01\x00\x50"))
	f.Add([]byte("\x00\x00\x00\x04\xfd000000000000001\x00\x50data"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if err := readGreeting(r); err == nil || errors.Is(err, errMethod) {
			if n := len(b) - r.Len(); n != 2+int(b[1]) {
				t.Errorf("a greeting of %d bytes", n)
			}
			_, to, err := readRequest(r)
			if err == nil && len(to.host) > 255 {
				t.Errorf("%q", to.host)
			}
		}
		to, data, ok := parseSocksDatagram(b)
		if ok && !bytes.HasSuffix(b, data) {
			t.Errorf("% x: %v, % x", b, to, data)
		}
		if a, err := netip.ParseAddr(to.host); ok && err == nil && b[3] != typeName {
			again := append(appendSocksDatagram(nil, netip.AddrPortFrom(a, to.port)), data...)
			if back, rest, ok := parseSocksDatagram(again); !ok || !bytes.Equal(rest, data) || netip.MustParseAddr(back.host) != a.Unmap() {
				t.Errorf("% x became % x", b, again)
			}
		}
	})
}

func FuzzConnect(f *testing.F) {
	f.Add([]byte("CONNECT north:80 HTTP/1.1\r\nHost: x\r\n\r\nearly"))
	f.Add([]byte("GET http://north/ HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		host, port, err := readConnect(bufio.NewReader(bytes.NewReader(b)))
		if err == nil && (host == "" || port == 0 || !bytes.HasPrefix(b, []byte("CONNECT "))) {
			t.Errorf("%q: %q, %d", b, host, port)
		}
	})
}
