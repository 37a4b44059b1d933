package main_test

import (
	"container/heap"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
)

// caller is a stranger of a swarm. Its first message is made beforehand. With welcome set it meets nobody: it
// takes that, which is made beforehand too, for the answer, so that it computes what others do.
type caller struct {
	*outsider
	from    netip.Addr
	hello   []byte
	welcome []byte
	ask     []byte
	said    int
}

// swarm is many strangers on one host, each at an address of its own, who shake hands, ask to be let in, and repeat
// it as a program does that was not answered. One socket serves them all, so that they take little of the cores that
// they share with the node.
type swarm struct {
	t    *testing.T
	conn *net.UDPConn

	mu    sync.Mutex // guards what follows
	to    netip.AddrPort
	by    map[netip.Addr]*caller
	queue callings
	told  int
}

// calling is something that a caller does at a time.
type calling struct {
	at time.Time
	do func()
}

type callings []calling

func (q callings) Len() int           { return len(q) }
func (q callings) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q callings) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *callings) Push(x any)        { *q = append(*q, x.(calling)) }
func (q *callings) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// newSwarm opens the socket of a swarm on a host to which 100.64.0.0/10 belongs.
func newSwarm(evil *host) *swarm {
	evil.t.Helper()
	conn, err := in(evil, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: 8738}) })
	if err != nil {
		evil.t.Fatal(err)
	}
	if err := ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true); err != nil {
		evil.t.Fatal(err)
	}
	s := &swarm{t: evil.t, conn: conn, by: map[netip.Addr]*caller{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.listen()
	}()
	evil.t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return s
}

// callers makes strangers, the first with number from: of ten regions, and of all their networks. With nobody set
// they meet nobody.
func (s *swarm) callers(node anode.Address, from, count int, nobody bool) []*caller {
	s.t.Helper()
	other := newIdentity(s.t)
	if nobody {
		node = other.Address()
	}
	list := make([]*caller, count)
	var making sync.WaitGroup
	for part := range 2 {
		making.Go(func() {
			for k := part; k < count; k += 2 {
				list[k] = s.caller(node, from+k)
				if x := list[k]; x != nil && nobody {
					h, msg, _ := wire.Parse(x.hello)
					reply, _, err := seal.NewSet(&seal.Local{Identity: other, PeerID: 2}, x.id.Address(), 0).OnHello(time.Hour, h.SenderPeer, msg)
					if err != nil {
						s.t.Error(err)
						return
					}
					x.welcome = reply.Body
				}
			}
		})
	}
	making.Wait()
	if s.t.Failed() {
		s.t.FailNow()
	}
	return list
}

func (s *swarm) caller(node anode.Address, k int) *caller {
	id, err := anode.NewIdentity(0)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	key, err := seal.SharedKey(id, node)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	c := &caller{outsider: &outsider{t: s.t, id: id, peerID: 1, node: node, mac: seal.NewMAC(key), answers: everything, heard: map[wire.Type]int{}},
		from: netip.AddrFrom4([4]byte{100, byte(64 + k%10), byte(k / 10), byte(1 + k/2560)})}
	c.set = seal.NewSet(&seal.Local{Identity: id, PeerID: 1}, node, 0)
	c.set.SetMAC(c.mac)
	if err := c.set.Want(time.Hour); err != nil {
		s.t.Error(err)
		return nil
	}
	do, _ := c.set.Tick(time.Hour)
	c.hello = c.packet(wire.Hello, do.Hello.Body)
	x := id.Address().X()
	body := wire.Fields{{Type: wire.FieldName, Value: []byte("bank")}, {Type: wire.FieldText, Value: make([]byte, 100)}}.Append(nil)
	c.ask = wire.TellMsg{ID: wire.TellID(x[:8]), Kind: wire.TellAsk, Body: body}.Append(nil)
	src := (&ipv4.ControlMessage{Src: c.from.AsSlice()}).Marshal()
	c.sends = func(p []byte) { s.conn.WriteMsgUDPAddrPort(p, src, s.to) }
	return c
}

// run has strangers come, so many a second, and returns when the last one is done.
func (s *swarm) run(to netip.AddrPort, rate int, list []*caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	start := time.Now()
	for k, c := range list {
		s.later(start.Add(time.Duration(k)*time.Second/time.Duration(rate)), func() { s.begin(c) })
	}
	for len(s.queue) > 0 {
		if wait := time.Until(s.queue[0].at); wait > 0 {
			s.mu.Unlock()
			time.Sleep(wait)
			s.mu.Lock()
			continue
		}
		heap.Pop(&s.queue).(calling).do()
	}
}

// asked is how many were answered.
func (s *swarm) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

func (s *swarm) later(at time.Time, do func()) { heap.Push(&s.queue, calling{at, do}) }

// begin sends the first message, and again while it is not answered.
func (s *swarm) begin(c *caller) {
	now := time.Now()
	c.began = now.Add(-time.Hour) // when it was made
	c.write(c.hello)
	if c.welcome != nil {
		s.later(now.Add(time.Millisecond), func() {
			if _, err := c.set.OnWelcome(c.now(), 2, c.welcome); err != nil {
				s.t.Error(err)
			}
			c.tick()
			s.say(c)
		})
		return
	}
	s.by[c.from] = c
	for _, wait := range []time.Duration{300 * time.Millisecond, 800 * time.Millisecond, 1800 * time.Millisecond} {
		s.later(now.Add(wait), func() {
			if c.said == 0 {
				c.tick()
			}
		})
	}
}

// say asks, and again after 1 and 3 s.
func (s *swarm) say(c *caller) {
	c.sendSealed(wire.Tell, c.ask)
	if c.said++; c.said < 3 {
		s.later(time.Now().Add(time.Second<<(c.said-1)), func() { s.say(c) })
	}
}

// listen takes what comes until the socket is closed.
func (s *swarm) listen() {
	buf, oob := make([]byte, 2048), make([]byte, 128)
	for {
		n, k, _, _, err := s.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return
		}
		var m ipv4.ControlMessage
		if err := m.Parse(oob[:k]); err != nil {
			continue
		}
		to, _ := netip.AddrFromSlice(m.Dst)
		s.mu.Lock()
		if c := s.by[to.Unmap()]; c != nil {
			s.receive(c, append([]byte(nil), buf[:n]...))
		}
		s.mu.Unlock()
	}
}

func (s *swarm) receive(c *caller, p []byte) {
	c.take(p)
	if c.heard[wire.Told] == 1 {
		s.told++
		c.heard[wire.Told]++
	}
	if c.said == 0 && c.set.Current(c.now()) != nil {
		c.tick()
		s.say(c)
	}
}
