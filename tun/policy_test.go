package tun

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// clock is one that tests move.
type clock struct{ now time.Time }

func newClock() *clock                { return &clock{time.Unix(1e9, 0)} }
func (c *clock) Now() time.Time       { return c.now }
func (c *clock) step(d time.Duration) { c.now = c.now.Add(d) }

func icmpBytes(typ byte, rest ...[]byte) []byte {
	return append([]byte{typ, 0, 0, 0, 0, 0, 0, 0}, slices.Concat(rest...)...)
}

func echoBytes(typ byte, ident uint16) []byte {
	b := icmpBytes(typ)
	be.PutUint16(b[4:], ident)
	return b
}

var (
	syn = tcpFields{src: 1000, dst: 22, flags: flagSYN}.bytes()
	ack = tcpFields{src: 1000, dst: 22, flags: flagACK}.bytes()

	replySYN = tcpFields{src: 22, dst: 1000, flags: flagSYN | flagACK}.bytes()
	reply    = tcpFields{src: 22, dst: 1000, flags: flagACK}.bytes()
)

// TestPolicyTrusted has what a peer that was added may send.
func TestPolicyTrusted(t *testing.T) {
	fragment := func(offset uint16, next byte, rest ...[]byte) []byte {
		b := []byte{next, 0, 0, 0, 0, 0, 0, 1}
		be.PutUint16(b[2:], offset<<3|1)
		return append(b, slices.Concat(rest...)...)
	}
	options := func(next byte, b ...byte) []byte {
		return append([]byte{next, 0}, append(b, make([]byte, 6-len(b))...)...)
	}
	routing := func(next, left byte) []byte { return []byte{next, 0, 0, left, 0, 0, 0, 0} }
	quote := func(src, dst anode.ULA) []byte { return packet(src, dst, 6<<28, protoTCP, 64, ack) }
	for _, c := range []struct {
		name string
		next byte
		b    []byte
		want counter
	}{
		{"TCP", protoTCP, syn, none},
		{"UDP", protoUDP, udpBytes(1, 2, nil), none},
		{"echo request", protoICMP, echoBytes(icmpEcho, 1), none},
		{"anything", 200, nil, none},
		{"no next header", 59, nil, none},
		{"fragment, first", protoFragment, fragment(0, protoTCP, ack), none},
		{"fragment, later", protoFragment, fragment(9, protoDestination, []byte{1, 2}), none},
		{"fragment, first, headers cut", protoFragment, fragment(0, protoDestination, []byte{1, 2}), inMalformed},
		{"hop-by-hop", protoHopByHop, slices.Concat(options(protoTCP, 5, 2, 0, 0), ack), none},
		{"destination options", protoDestination, slices.Concat(options(protoTCP, 1, 2, 0, 0), ack), none},
		{"routing header, done", protoRouting, slices.Concat(routing(protoTCP, 0), ack), none},
		{"AH", protoAH, slices.Concat([]byte{protoTCP, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, ack), none},

		{"routing header", protoRouting, slices.Concat(routing(protoTCP, 1), ack), inRouting},
		{"routing header behind others", protoHopByHop, slices.Concat(options(protoDestination), options(protoRouting), routing(protoTCP, 1), ack), inRouting},
		{"routing header in a fragment", protoFragment, fragment(0, protoRouting, routing(protoTCP, 1), ack), inRouting},
		{"routing header behind AH", protoAH, slices.Concat([]byte{protoRouting, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}, routing(protoTCP, 1), ack), inRouting},
		{"Home Address", protoDestination, slices.Concat([]byte{protoTCP, 2, 1, 2, 0, 0, optionHome, 16}, make([]byte, 16), ack), inHome},
		{"options that overrun", protoDestination, slices.Concat(options(protoTCP, 1, 9), ack), inHome},
		{"header cut", protoHopByHop, []byte{protoTCP, 0, 0}, inMalformed},
		{"header longer than all", protoHopByHop, []byte{protoTCP, 1, 0, 0, 0, 0, 0, 0}, inMalformed},
		{"AH cut", protoAH, []byte{protoTCP}, inMalformed},
		{"ICMP cut", protoICMP, []byte{1, 0}, inMalformed},
		{"router solicitation", protoICMP, icmpBytes(133), inNeighbour},
		{"router advertisement", protoICMP, icmpBytes(134), inNeighbour},
		{"neighbour solicitation", protoICMP, icmpBytes(135), inNeighbour},
		{"neighbour advertisement", protoICMP, icmpBytes(136), inNeighbour},
		{"redirect", protoICMP, icmpBytes(137), inNeighbour},
		{"redirect behind options", protoDestination, slices.Concat(options(protoICMP), icmpBytes(137)), inNeighbour},

		{"too big, about ours", protoICMP, icmpBytes(icmpTooBig, quote(bob, alice)), none},
		{"unreachable, about ours", protoICMP, icmpBytes(icmpUnreachable, quote(bob, alice)), none},
		{"too big, about another peer's", protoICMP, icmpBytes(icmpTooBig, quote(bob, carol)), inError},
		{"too big, about another's", protoICMP, icmpBytes(icmpTooBig, quote(carol, alice)), inError},
		{"too big, about nothing", protoICMP, icmpBytes(icmpTooBig), inError},
	} {
		p := newPolicy(bob, newClock().Now)
		if got := p.admit(alice, true, c.next, c.b); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, counterNames[got], counterNames[c.want])
		}
		p = newPolicy(bob, newClock().Now)
		if got := p.admit(alice, false, c.next, c.b); got == none {
			t.Errorf("%s: came in from a peer that was not added", c.name)
		}
	}
}

// TestPolicyReplies has what a peer that was not added may send after what we sent.
func TestPolicyReplies(t *testing.T) {
	quote := func(next byte, b []byte) []byte { return packet(bob, alice, 6<<28, next, 64, b) }
	udp, udpReply := udpBytes(500, 53, nil), udpBytes(53, 500, nil)
	for _, c := range []struct {
		name string
		sent func(p *policy)
		next byte
		b    []byte
		want counter
	}{
		{"SYN-ACK", func(p *policy) { p.track(alice, protoTCP, syn) }, protoTCP, replySYN, none},
		{"data", func(p *policy) { p.track(alice, protoTCP, syn) }, protoTCP, reply, none},
		{"to the ACK of a connection that is theirs", func(p *policy) { p.track(alice, protoTCP, ack) }, protoTCP, reply, inUnasked},
		{"SYN", func(p *policy) { p.track(alice, protoTCP, syn) }, protoTCP, tcpFields{src: 22, dst: 1000, flags: flagSYN}.bytes(), inUnasked},
		{"another port", func(p *policy) { p.track(alice, protoTCP, syn) }, protoTCP, tcpFields{src: 23, dst: 1000, flags: flagACK}.bytes(), inUnasked},
		{"another peer's", func(p *policy) { p.track(carol, protoTCP, syn) }, protoTCP, reply, inUnasked},
		{"another protocol", func(p *policy) { p.track(alice, protoTCP, syn) }, protoUDP, reply, inUnasked},
		{"TCP cut", func(p *policy) { p.track(alice, protoTCP, syn) }, protoTCP, reply[:12], inUnasked},
		{"UDP", func(p *policy) { p.track(alice, protoUDP, udp) }, protoUDP, udpReply, none},
		{"UDP, another port", func(p *policy) { p.track(alice, protoUDP, udp) }, protoUDP, udpBytes(53, 501, nil), inUnasked},
		{"echo reply", func(p *policy) { p.track(alice, protoICMP, echoBytes(icmpEcho, 7)) }, protoICMP, echoBytes(icmpReply, 7), none},
		{"another echo reply", func(p *policy) { p.track(alice, protoICMP, echoBytes(icmpEcho, 7)) }, protoICMP, echoBytes(icmpReply, 8), inUnasked},
		{"echo request", func(p *policy) { p.track(alice, protoICMP, echoBytes(icmpEcho, 7)) }, protoICMP, echoBytes(icmpEcho, 7), inUnasked},
		{"unreachable", func(p *policy) { p.track(alice, protoUDP, udp) }, protoICMP, icmpBytes(icmpUnreachable, quote(protoUDP, udp)), none},
		{"time exceeded", func(p *policy) { p.track(alice, protoTCP, syn) }, protoICMP, icmpBytes(icmpTimeout, quote(protoTCP, ack)), none},
		{"unreachable, no flow", func(p *policy) {}, protoICMP, icmpBytes(icmpUnreachable, quote(protoUDP, udp)), inUnasked},
		{"unreachable, quote cut", func(p *policy) { p.track(alice, protoUDP, udp) }, protoICMP, icmpBytes(icmpUnreachable, quote(protoUDP, udp[:4])), inUnasked},
		{"too big", func(p *policy) { p.track(alice, protoUDP, udp) }, protoICMP, icmpBytes(icmpTooBig, quote(protoUDP, udp)), inUnasked},
		{"redirect", func(p *policy) { p.track(alice, protoUDP, udp) }, protoICMP, icmpBytes(137, quote(protoUDP, udp)), inUnasked},
		{"fragment of UDP", func(p *policy) { p.track(alice, protoUDP, udp) }, protoFragment, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 1}, udpReply...), inUnasked},
		{"UDP behind options", func(p *policy) { p.track(alice, protoUDP, udp) }, protoDestination, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 0}, udpReply...), inUnasked},
	} {
		p := newPolicy(bob, newClock().Now)
		c.sent(p)
		if got := p.admit(alice, false, c.next, c.b); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, counterNames[got], counterNames[c.want])
		}
	}
}

// TestPolicyTimes lets flows end, unless we go on sending.
func TestPolicyTimes(t *testing.T) {
	udp, udpReply := udpBytes(500, 53, nil), udpBytes(53, 500, nil)
	for _, c := range []struct {
		name        string
		next        byte
		first, more []byte
		reply       []byte
		life        time.Duration
	}{
		{"TCP", protoTCP, syn, ack, reply, lifeTCP},
		{"UDP", protoUDP, udp, udp, udpReply, lifeUDP},
		{"ICMP", protoICMP, echoBytes(icmpEcho, 1), echoBytes(icmpEcho, 1), echoBytes(icmpReply, 1), lifeICMP},
	} {
		clk := newClock()
		p := newPolicy(bob, clk.Now)
		p.track(alice, c.next, c.first)
		for range 3 {
			clk.step(c.life - 1)
			if p.admit(alice, false, c.next, c.reply) != none {
				t.Errorf("%s: a reply within the time did not come in", c.name)
			}
			p.track(alice, c.next, c.more)
		}
		clk.step(c.life)
		if p.admit(alice, false, c.next, c.reply) == none {
			t.Errorf("%s: a reply came in too late", c.name)
		}
	}
}

// TestTable fills a table with more than it holds: it stays as large, keeps the newest,
// and has forgotten nothing while there is room.
func TestTable(t *testing.T) {
	at := func(i int) flow { return flow{alice, protoUDP, uint16(i), uint16(i >> 16)} }
	tab := newTable(maxFlows)
	if n := len(tab.sets) * ways; n != maxFlows {
		t.Fatalf("room for %d", n)
	}
	for i := range 1000 {
		tab.put(at(i), time.Duration(i), time.Hour+time.Duration(i))
	}
	for i := range 1000 {
		if tab.find(at(i), 1000) == nil {
			t.Errorf("flow %d of 1000 was forgotten", i)
		}
	}
	for i := range 10 * maxFlows {
		tab.put(at(i), time.Duration(i), time.Hour+time.Duration(i))
	}
	last := 10*maxFlows - 1
	for i := range 100 {
		if tab.find(at(last-i), time.Duration(last)) == nil {
			t.Errorf("flow %d before the last was forgotten", i)
		}
	}
	if !tab.take(at(last), 0) || tab.take(at(last), 0) {
		t.Error("a flow was not taken once")
	}
}

// TestPolicyUnasked has what is lost at a peer that lets only replies in. Alice has sent
// what is in came.
func TestPolicyUnasked(t *testing.T) {
	dgram := func(src, dst byte) []byte { return []byte{byte(wire.Dgram), 0, src, 0, dst, 'x'} }
	ip6 := func(typ wire.Type, next byte, b []byte) []byte {
		return append([]byte{byte(typ), 0x60, 0, 0, 0, next, 64}, b...)
	}
	for _, c := range []struct {
		name string
		came []byte
		next byte
		b    []byte
		want bool
	}{
		{"SYN", nil, protoTCP, syn, true},
		{"SYN behind a packet of a connection", ip6(wire.IP6P, protoTCP, reply), protoTCP, syn, true},
		{"SYN-ACK", nil, protoTCP, replySYN, false},
		{"data", nil, protoTCP, ack, false},
		{"reset", nil, protoTCP, tcpFields{src: 1, dst: 2, flags: flagRST}.bytes(), false},
		{"TCP cut", nil, protoTCP, syn[:12], true},
		{"UDP", nil, protoUDP, udpBytes(5, 6, nil), true},
		{"UDP, a reply", dgram(6, 5), protoUDP, udpBytes(5, 6, nil), false},
		{"UDP, a reply to IP6", ip6(wire.IP6, protoUDP, udpBytes(6, 5, nil)), protoUDP, udpBytes(5, 6, nil), false},
		{"UDP, a reply to IP6P", ip6(wire.IP6P, protoUDP, udpBytes(6, 5, nil)), protoUDP, udpBytes(5, 6, nil), false},
		{"UDP, another local port", dgram(6, 4), protoUDP, udpBytes(5, 6, nil), true},
		{"UDP, another remote port", dgram(7, 5), protoUDP, udpBytes(5, 6, nil), true},
		{"UDP, the other way round", dgram(5, 6), protoUDP, udpBytes(5, 6, nil), true},
		{"UDP, after what is cut", dgram(6, 5)[:4], protoUDP, udpBytes(5, 6, nil), true},
		{"UDP cut", dgram(6, 5), protoUDP, udpBytes(5, 6, nil)[:6], true},
		{"echo request", nil, protoICMP, echoBytes(icmpEcho, 1), false},
		{"echo reply", nil, protoICMP, echoBytes(icmpReply, 1), false},
		{"error", nil, protoICMP, icmpBytes(icmpUnreachable), false},
		{"fragment", dgram(6, 5), protoFragment, append([]byte{protoUDP, 0, 0, 0, 0, 0, 0, 1}, udpBytes(5, 6, nil)...), true},
		{"another protocol", nil, 132, []byte{1, 2, 3, 4}, true},
		{"nothing", []byte{}, 59, nil, true},
	} {
		clk := newClock()
		p := newPolicy(bob, clk.Now)
		if c.came != nil {
			p.came(alice, c.came)
		}
		if got := p.unasked(alice, c.next, c.b); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if c.next == protoUDP && !p.unasked(carol, c.next, c.b) {
			t.Errorf("%s: counts for another peer too", c.name)
		}
		// What a peer began lets nothing in once it is not trusted any more.
		if p.admit(alice, false, protoUDP, udpBytes(6, 5, nil)) == none {
			t.Errorf("%s: lets something in", c.name)
		}
		clk.step(lifeUDP)
		if c.next == protoUDP && !p.unasked(alice, c.next, c.b) {
			t.Errorf("%s: a flow that has ended", c.name)
		}
	}
}
