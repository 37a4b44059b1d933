package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// draftNode is a node of ours that a draft peer has streams with: its services, and how
// a program of its machine opens a stream.
type draftNode struct {
	*host
	listen  func(port int) net.Listener
	dial    func(port int) (io.ReadWriteCloser, error) // to the draft peer
	refused func(port int) error                       // what a dial that is refused returns
	much    int64                                      // bytes of the longest transfer
}

// draftPorts are those that the draft peer finds services at.
const draftFirstPort, draftPorts = 7000, 20

// How much goes each way with one kind of node, with the others, and in the scenes that are
// not for their length.
const draftMost, draftMuch, draftSize = 10 << 20, 4 << 20, 256 << 10

// swap sends so many bytes on a connection and takes as many, at once, and returns what came.
func swap(c io.ReadWriter, size int64) string {
	sent := make(chan error, 1)
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, pattern(size), make([]byte, 1<<16))
		sent <- err
	}()
	sum := sumOf(io.LimitReader(c, size))
	return fmt.Sprint(sum, " ", <-sent)
}

// swapped is what swap returns if all is well.
func swapped(size int64) string { return fmt.Sprint(sumOf(pattern(size)), " ", nil) }

// serve has a service do something with one connection, and returns what it says.
func (n *draftNode) serve(t *testing.T, port int, f func(c net.Conn) string) chan string {
	t.Helper()
	l := n.listen(port)
	said := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			said <- err.Error()
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * dialWait))
		said <- f(c)
	}()
	t.Cleanup(func() { l.Close() })
	return said
}

// openTo is open that must succeed.
func (p *draftPeer) openTo(t *testing.T, port int) *draftStream {
	t.Helper()
	s, err := p.open(uint16(port))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// over ends a stream whose data has come, and has the node end it too.
func (s *draftStream) over(t *testing.T) {
	t.Helper()
	s.close(0, draftEnded)
	if !s.settled() {
		t.Errorf("the S_CLOSE is not acknowledged; the stream ended by %v", s.fate)
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("instead of the node's S_CLOSE: %d bytes, %v", n, err)
	}
}

// TestNetDraftStream: a program by others that has the draft's streams, and nothing of ours
// beyond what carries them, opens, transfers, ends and is refused, in every form that
// the draft has, with nodes of each kind; and so do their programs with it.
func TestNetDraftStream(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a, b, c := newHost(t, "a"), newHost(t, "b"), newMachine(t, "c")
	l := newLibrary(t, "l")
	join(1, a, b, l.host, c)
	ports := []string{"--tun", "none"}
	for port := draftFirstPort; port < draftFirstPort+draftPorts; port++ {
		ports = append(ports, "--expose", fmt.Sprintf("%d=127.0.0.1:%d", port, port))
	}
	a.up()
	b.up(ports...)

	peers := map[string]*draftPeer{}
	for k, h := range []*host{a, b, l.host} {
		peers[h.name] = newDraftPeer(c, h, fmt.Sprintf("10.0.1.%d:8737", k+1), seed+uint64(k))
	}
	draft := func(name string) *host {
		return &host{name: "draft", address: peers[name].o.id.Address(), ula: peers[name].o.id.Address().ULA()}
	}
	a.add(draft("a"))
	b.add(draft("b"))
	l.lib = bareNode(t, l.host, l.id, draft("l"), "10.0.1.4")
	nodes := []*draftNode{
		{host: a, much: draftMuch, listen: a.listen, dial: func(port int) (io.ReadWriteCloser, error) { return a.dial(draft("a"), port) }},
		{host: b, much: draftMuch, listen: b.loopback, dial: func(port int) (io.ReadWriteCloser, error) { return b.nc("draft", port) }, refused: func(port int) error {
			out, code := b.tryAnode("nc", "draft", strconv.Itoa(port))
			if code == 1 && strings.Contains(out, "connection refused") {
				return syscall.ECONNREFUSED
			}
			return fmt.Errorf("exit code %d: %s", code, out)
		}},
		{host: l.host, much: draftMost, listen: func(port int) net.Listener {
			s, err := l.lib.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				t.Fatal(err)
			}
			return s
		}, dial: func(port int) (io.ReadWriteCloser, error) {
			return l.lib.Dial(t.Context(), "tcp", fmt.Sprintf("draft:%d", port))
		}},
	}
	for _, n := range nodes {
		if n.refused == nil {
			n.refused = func(port int) error {
				c, err := n.dial(port)
				if err == nil {
					c.Close()
				}
				return err
			}
		}
	}
	var all sync.WaitGroup // at once, however few processors there are: they wait for the most part
	for k, name := range []string{"with an adapter", "without an adapter", "in a program"} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				p := peers[nodes[k].name]
				p.on(draftLine{})
				p.start()
				p.plays(t, nodes[k])
			})
		})
	}
	all.Wait()
}

// plays plays all scenes with a node.
func (p *draftPeer) plays(t *testing.T, n *draftNode) {
	port := draftFirstPort
	next := func() int { port++; return port - 1 }
	for _, scene := range []struct {
		name string
		play func(t *testing.T, n *draftNode, port int)
	}{
		{"transfer with losses", p.transfers(n.much, draftLine{loss: 0.05})},
		{"transfer", p.transfers(draftSize, draftLine{letter: draftFromPort})},
		{"acknowledging many", p.transfers(draftSize, draftLine{loss: 0.05, letter: draftFromPort, acks: (*draftStream).ackMany})},
		{"acknowledging by S_DACK", p.transfers(draftSize, draftLine{loss: 0.05, acks: (*draftStream).ackInDAck})},
		{"repeats and disorder", p.transfers(draftSize, draftLine{twice: true, mix: 9, old: true})},
		{"S_OPEN and S_CLOSE are lost", p.losesEnds},
		{"refused", p.isRefused},
		{"closing first", p.closesFirst},
		{"closing its own direction", p.closesHalf},
		{"the service closes first", p.waits},
		{"closing for a reason", p.breaks},
		{"a pause", p.pauses},
		{"a pause of the service", p.waitsForRoom},
		{"opened by the node", p.accepts(draftSize, draftLine{loss: 0.05})},
		{"opened by the node, from a port", p.accepts(draftSize, draftLine{loss: 0.05, letter: draftFromPort})},
		{"opened by the node, with more losses", p.accepts(1000, draftLine{loss: 0.15})},
		{"refusing", p.refuses},
		{"unsealed", p.unsealed},
	} {
		t.Run(scene.name, func(t *testing.T) { scene.play(t, n, next()) })
	}
}

// transfers opens a stream on which both sides send at once.
func (p *draftPeer) transfers(size int64, l draftLine) func(*testing.T, *draftNode, int) {
	return func(t *testing.T, n *draftNode, port int) {
		p.on(l)
		said := n.serve(t, port, func(c net.Conn) string { return swap(c, size) })
		start := time.Now()
		s := p.openTo(t, port)
		got, want := swap(s, size), swapped(size)
		took := time.Since(start)
		if there := <-said; got != want || there != want {
			t.Errorf("%s came, %s there, instead of %s", got, there, want)
		}
		t.Logf("%v, %.0f Mbit/s each way", took.Round(time.Millisecond), float64(size)*8/1e6/took.Seconds())
		s.over(t)
	}
}

// accepts takes a stream of the node's, on which both sides send at once.
func (p *draftPeer) accepts(size int64, l draftLine) func(*testing.T, *draftNode, int) {
	return func(t *testing.T, n *draftNode, port int) {
		p.on(l)
		in, said := p.listen(uint16(port)), make(chan string, 1)
		go func() {
			c, err := n.dial(port)
			if err != nil {
				said <- err.Error()
				return
			}
			got := swap(c, size)
			_, err = c.Read(make([]byte, 1)) // the end
			said <- fmt.Sprint(got, " ", err, " ", c.Close())
		}()
		var s *draftStream
		select {
		case s = <-in:
		case err := <-said:
			t.Fatal(err)
		}
		if got := swap(s, size); got != swapped(size) {
			t.Errorf("%s came", got)
		}
		s.over(t)
		if got := <-said; got != swapped(size)+" EOF <nil>" {
			t.Errorf("%s came to the node's program", got)
		}
	}
}

// losesEnds loses the first of what opens and ends a stream, each way.
func (p *draftPeer) losesEnds(t *testing.T, n *draftNode, port int) {
	lost := map[byte]int{}
	l := draftLine{drop: func(kind byte) bool {
		lost[kind]++
		return (kind == draftOpen || kind == draftClose) && lost[kind] <= 4
	}}
	p.transfers(1000, l)(t, n, port)
	if lost[draftOpen] < 5 || lost[draftClose] < 5 {
		t.Errorf("%d S_OPENs and %d S_CLOSEs", lost[draftOpen], lost[draftClose])
	}
}

// isRefused asks for a port that is nobody's, several times.
func (p *draftPeer) isRefused(t *testing.T, n *draftNode, _ int) {
	p.on(draftLine{})
	for range 3 {
		start := time.Now()
		if _, err := p.open(9); err != errDraftRefused {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		t.Logf("refused after %v", time.Since(start).Round(time.Microsecond))
	}
}

// closesFirst ends a stream right behind its data: all of that arrives, and the other
// direction ends too.
func (p *draftPeer) closesFirst(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{loss: 0.05})
	const size = draftSize
	said := n.serve(t, port, func(c net.Conn) string { return sumOf(c) })
	s := p.openTo(t, port)
	if _, err := io.Copy(struct{ io.Writer }{s}, pattern(size)); err != nil {
		t.Fatal(err)
	}
	s.over(t)
	if got := <-said; got != sumOf(pattern(size)) {
		t.Errorf("%s came, instead of %s", got, sumOf(pattern(size)))
	}
}

// closesHalf ends its own direction alone, which the draft has no flag for and nodes have.
func (p *draftPeer) closesHalf(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{loss: 0.05})
	const size = draftSize
	said := n.serve(t, port, func(c net.Conn) string {
		got := sumOf(c)
		_, err := io.Copy(struct{ io.Writer }{c}, pattern(size))
		return fmt.Sprint(got, " ", err)
	})
	s := p.openTo(t, port)
	if _, err := io.Copy(struct{ io.Writer }{s}, pattern(size)); err != nil {
		t.Fatal(err)
	}
	s.close(wire.FlagHalfClose, draftEnded)
	got, want := sumOf(s), sumOf(pattern(size))
	if there := <-said; got != want || there != want+" <nil>" || !s.settled() {
		t.Errorf("%s came, %s there, instead of %s", got, there, want)
	}
}

// waits does nothing until the service has ended the stream, as a program does that asked
// an HTTP server to close. The node cannot tell that the service reads no more: its end comes
// after a silence.
func (p *draftPeer) waits(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{loss: 0.05})
	said := n.serve(t, port, func(c net.Conn) string {
		_, err := io.Copy(struct{ io.Writer }{c}, pattern(draftSize))
		return fmt.Sprint(err)
	})
	s := p.openTo(t, port)
	start := time.Now()
	if got, there := sumOf(s), <-said; got != sumOf(pattern(draftSize)) || there != "<nil>" {
		t.Errorf("%s came, %s there", got, there)
	}
	t.Logf("the end came after %v", time.Since(start).Round(time.Millisecond))
	s.close(0, draftEnded)
	if !s.settled() {
		t.Errorf("the S_CLOSE is not acknowledged; the stream ended by %v", s.fate)
	}
}

// breaks ends a stream at once: the service notices.
func (p *draftPeer) breaks(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{loss: 0.05})
	said := n.serve(t, port, func(c net.Conn) string {
		n, err := io.Copy(io.Discard, c)
		return fmt.Sprint(n, " ", err != nil && !errors.Is(err, context.DeadlineExceeded))
	})
	s := p.openTo(t, port)
	if _, err := s.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	if !s.settled() {
		t.Error("the data is not acknowledged")
	}
	s.close(0, draftProtocol)
	if got := <-said; got != "4 true" {
		t.Errorf("bytes and whether there was an error: %s", got)
	}
	if !s.settled() {
		t.Error("the S_CLOSE is not acknowledged")
	}
}

// pauses stops reading until the window is shut, and then loses the S_ACKs that open it.
func (p *draftPeer) pauses(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{})
	const size = 4 * draftRoom
	said := n.serve(t, port, func(c net.Conn) string { return swap(c, size) })
	s := p.openTo(t, port)
	p.mu.Lock()
	if !p.until(func() bool { return s.told == 0 || s.beyond > 0 }) {
		t.Errorf("there is a window of %d kB", s.told)
	}
	lost, before := 0, p.count[draftData]
	p.line.drop = func(kind byte) bool {
		lost++
		return kind == draftAck && lost < 20
	}
	p.mu.Unlock()
	if got := swap(s, size); got != swapped(size) {
		t.Errorf("%s came", got)
	}
	if there := <-said; there != swapped(size) {
		t.Errorf("%s came to the service", there)
	}
	p.mu.Lock()
	t.Logf("%d packets came, %d of them beyond the window", p.count[draftData]-before, s.beyond)
	if s.beyond > 20 {
		t.Errorf("%d packets beyond the window", s.beyond)
	}
	p.mu.Unlock()
	s.over(t)
}

// waitsForRoom fills the node's window and never probes it; the S_ACKs that open it are lost, and those of a
// second after that.
func (p *draftPeer) waitsForRoom(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{waits: true})
	reads := make(chan struct{})
	said := n.serve(t, port, func(c net.Conn) string {
		<-reads
		n, err := io.Copy(io.Discard, c)
		return fmt.Sprint(n, " ", err)
	})
	s := p.openTo(t, port)
	wrote, enough := make(chan int), make(chan struct{})
	go func() {
		n, err := 0, error(nil)
		for part := 0; err == nil && !closed(enough); n += part {
			part, err = s.Write(make([]byte, 1<<16))
		}
		wrote <- n
	}()
	p.mu.Lock()
	var shut time.Time // since when nothing may be sent
	if !p.until(func() bool {
		if len(s.sent) > 0 || s.theirRoom >= draftPayload {
			shut = time.Now()
		}
		return time.Since(shut) > 500*time.Millisecond
	}) {
		t.Errorf("there is a window of %d bytes", s.theirRoom)
	}
	var first time.Time
	lost, start := 0, time.Now()
	p.line.drop = func(kind byte) bool {
		if kind != draftAck {
			return false
		}
		if first.IsZero() {
			first = time.Now()
		}
		if time.Since(first) > time.Second {
			return false
		}
		lost++
		return true
	}
	p.mu.Unlock()
	close(enough)
	close(reads)
	size := <-wrote
	p.mu.Lock()
	kept := lost
	t.Logf("%d bytes fill the window; %d S_ACKs that open it are lost, and the rest goes after %v", size, lost, time.Since(start).Round(time.Millisecond))
	p.mu.Unlock()
	s.over(t)
	if there := <-said; there != fmt.Sprint(size, " ", nil) || kept < 2 {
		t.Errorf("%s came to the service, of %d bytes; %d S_ACKs were lost", there, size, kept)
	}
}

// closed reports whether a channel is closed.
func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// refuses refuses a stream of the node's, at once.
func (p *draftPeer) refuses(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{})
	start := time.Now()
	err := n.refused(9)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	t.Logf("refused after %v", time.Since(start).Round(time.Microsecond))
}

// unsealed opens a stream in a packet that has a MAC, as the draft's have, and is not sealed.
func (p *draftPeer) unsealed(t *testing.T, n *draftNode, port int) {
	p.on(draftLine{})
	said := n.serve(t, port, func(c net.Conn) string { return "a stranger's stream" })
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.count[draftOpen] + p.count[draftClose]
	p.o.sendPlain(wire.SOpen, slices.Concat(u16(123), u16(uint16(port)), u16(100), u32(5), []byte{0}))
	p.o.say(wire.Ping, []byte("after it"))
	pongs := p.count[byte(wire.Pong)]
	if !p.until(func() bool { return p.count[byte(wire.Pong)] > pongs }) {
		t.Error("no PONG")
	}
	if p.count[draftOpen]+p.count[draftClose] != before {
		t.Error("data in clear is answered")
	}
	select {
	case got := <-said:
		t.Error(got)
	default:
	}
}

// ncPipe is a running anode nc.
type ncPipe struct {
	io.WriteCloser
	io.Reader
	cmd *exec.Cmd
	err strings.Builder
}

// Close waits until it has ended.
func (c *ncPipe) Close() error {
	c.WriteCloser.Close()
	return c.cmd.Wait()
}

// nc runs anode nc, and returns once it is connected.
func (h *host) nc(peer string, port int) (io.ReadWriteCloser, error) {
	c := &ncPipe{cmd: exec.Command(h.bin, "nc", peer, strconv.Itoa(port), "--socket", h.socket())}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.Stderr = &c.err
	var err error
	if c.WriteCloser, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if c.Reader, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if _, err := in(h, func() (struct{}, error) { return struct{}{}, c.cmd.Start() }); err != nil {
		return nil, err
	}
	return c, nil
}
