package main_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestNetNATPunch: the matrix is right about what is possible: a plain hole puncher, which
// knows as much of the topologies as a node can, meets the other one wherever a direct path
// is wanted, and nowhere else.
func TestNetNATPunch(t *testing.T) {
	for _, row := range topologies {
		if row.change.do != nil || row.loss() > 0 || !row.always && !long() {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			l.a, l.b = newMachine(t, "a"), newMachine(t, "b")
			r := newMachine(t, "r")
			l.put(l.a, row.a, 1, nil)
			l.put(l.b, row.b, 2, l.chains[l.a])
			l.put(r, centre, firstRelay, nil)
			l.rules()
			a, b := newPuncher(l, l.a), newPuncher(l, l.b)
			for _, eye := range []*net.UDPConn{r.bind(1000), r.bind(1001)} {
				a.look(eye)
				b.look(eye)
			}
			start := time.Now()
			limit := 4*row.trip() + 500*time.Millisecond
			if row.want == direct {
				limit = dialWait // they are done long before that, unless the machine is busy
			}
			met := punch(a, b, limit)
			t.Logf("met: %v, after %v; a is %v, b is %v", met, time.Since(start), a.candidates(), b.candidates())
			if met != (row.want == direct) {
				t.Errorf("they meet: %v, but a %s path is wanted", met, row.want)
			}
		})
	}
}

// puncher is one end of a plain hole puncher.
type puncher struct {
	name  string
	conn  *net.UDPConn
	local []netip.Addr     // its own addresses
	seen  []netip.AddrPort // the endpoints that others saw it at
	open  netip.AddrPort   // a port that its box opened

	mu    sync.Mutex
	heard []netip.AddrPort // where packets of the other came from
	met   bool             // the other has heard it
}

func newPuncher(l *laboratory, h *host) *puncher {
	p := &puncher{name: h.name, conn: h.bind(8737)}
	for _, f := range strings.Fields(h.run("ip", "-brief", "addr", "show", "eth0"))[2:] {
		if a, err := netip.ParsePrefix(f); err == nil && !a.Addr().IsLinkLocalUnicast() {
			p.local = append(p.local, a.Addr())
		}
	}
	open := map[string]func(*host, int) error{boxes["upnp"].maps: mapByUPnP, boxes["pcp"].maps: mapByPMP}
	if g := l.innermost(h); g.maps != "" {
		const port = 23456
		within(h.t, dialWait, "a port", func() bool { return open[g.maps](h, port) == nil })
		p.open = netip.AddrPortFrom(g.outside, port)
	}
	return p
}

// look has somebody outside see the puncher, if they reach each other.
func (p *puncher) look(eye *net.UDPConn) {
	port := uint16(eye.LocalAddr().(*net.UDPAddr).Port)
	for _, to := range []string{"9.0.3.2", "2a00:0:3::2"} {
		p.conn.WriteToUDPAddrPort([]byte(p.name), netip.AddrPortFrom(netip.MustParseAddr(to), port))
	}
	eye.SetReadDeadline(time.Now().Add(3 * time.Second))
	buf := make([]byte, 100)
	for {
		n, from, err := eye.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if string(buf[:n]) == p.name && from.Addr().Unmap().Is4() == p.local[0].Is4() {
			p.seen = append(p.seen, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
			return
		}
	}
}

// candidates are where the puncher may be reached, in the order in which to try: each packet
// to another address takes one more port of a symmetric NAT.
func (p *puncher) candidates() (list []netip.AddrPort) {
	if p.open.IsValid() {
		list = append(list, p.open)
	}
	if len(p.seen) == 2 {
		last := p.seen[1]
		step := int(last.Port()) - int(p.seen[0].Port())
		list = append(list, netip.AddrPortFrom(last.Addr(), uint16(int(last.Port())+step)))
	}
	for _, a := range p.local {
		list = append(list, netip.AddrPortFrom(a, 8737))
	}
	return list
}

// punch has both ends send to each other's candidates, and answer. It reports whether each
// has heard that the other heard it.
func punch(a, b *puncher, limit time.Duration) bool {
	var ended sync.WaitGroup
	for _, p := range []*puncher{a, b} {
		p.conn.SetReadDeadline(time.Time{})
		ended.Go(p.listen)
	}
	for start := time.Now(); time.Since(start) < limit && !(a.hasMet() && b.hasMet()); time.Sleep(20 * time.Millisecond) {
		a.send(b.candidates())
		b.send(a.candidates())
	}
	for _, p := range []*puncher{a, b} {
		p.conn.SetReadDeadline(time.Now())
	}
	ended.Wait()
	return a.hasMet() && b.hasMet()
}

// send sends to candidates, and to where the other was heard from.
func (p *puncher) send(to []netip.AddrPort) {
	p.mu.Lock()
	heard := slices.Clone(p.heard)
	p.mu.Unlock()
	for _, c := range to {
		p.conn.WriteToUDPAddrPort([]byte(p.name), c)
	}
	for _, c := range heard {
		p.conn.WriteToUDPAddrPort([]byte(p.name+" has heard"), c)
	}
}

func (p *puncher) listen() {
	buf := make([]byte, 100)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return // the time is over
		}
		name, rest, _ := strings.Cut(string(buf[:n]), " ")
		if len(name) != 1 || name == p.name { // it may have the same address as the other
			continue
		}
		p.mu.Lock()
		if !slices.Contains(p.heard, from) {
			p.heard = append(p.heard, from)
		}
		p.met = p.met || rest != ""
		p.mu.Unlock()
	}
}

func (p *puncher) hasMet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.met
}
