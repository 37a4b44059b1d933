package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/vnet"
)

// nobodys is a ULA that no key has.
func nobodys(k int) (u anode.ULA) {
	return anode.ULA{0xfd, 0, 0, 0, 0, 1, 2, 3, byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k), 1, 2, 3, 4}
}

// whois counts the questions on a tape.
func (t *tape) whois() (n int) {
	for _, p := range t.all() {
		if h, _, err := wire.Parse(p.Data); err == nil && h.Type == wire.Whois {
			n++
		}
	}
	return n
}

// A program that scans the prefix makes few questions; meanwhile others find what they
// look for, and peers are reached.
func TestScanOfThePrefix(t *testing.T) {
	for _, rate := range []int{200, 2000} {
		t.Run(fmt.Sprint(rate, " a second"), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newTestNode(t, w.Host("a"), nil)
				b := newTestNode(t, w.Host("b"), nil)
				c := newTestNode(t, w.Host("c"), nil)
				d := newTestNode(t, w.Host("d"), nil)
				adds(a, b)
				s := lan(w, "lan", 0, a.host, b.host, c.host, d.host)
				for _, n := range []*testNode{a, b} {
					n.start()
					defer n.stop()
				}
				settle(20 * time.Second)
				for _, n := range []*testNode{c, d} {
					n.cfg.Config.Port = 0 // so that nobody hears their beacons first
					n.start()
					defer n.stop()
				}
				tap := record(s)
				for k := range 5 * rate {
					a.sayTo(nobodys(k), "scan")
					if k%rate == rate/2 {
						a.say(c, "a program that means it")
						a.say(b, fmt.Sprint("peer ", k))
					}
					if k == 2*rate {
						go func() {
							ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
							defer cancel()
							if _, err := a.ResolveULA(ctx, d.address0().ULA()); err != nil {
								t.Errorf("a person's search: %v", err)
							}
						}()
					}
					settle(time.Second / time.Duration(rate))
				}
				settle(6 * time.Second)
				if n := tap.whois(); n > 11*4+6 || n == 0 {
					t.Errorf("%d questions in 11 s", n)
				}
				got := 0
				for _, x := range c.dev.delivered() {
					if x.from == a.address0().ULA() {
						got++
					}
				}
				if got == 0 {
					t.Error("the program that meant it found nobody")
				}
				if n := len(b.dev.delivered()); n != 5 {
					t.Errorf("%d of 5 messages came to the peer", n)
				}
			})
		})
	}
}

// "Nobody" is remembered for a while, and not for ever.
func TestNobodyIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(20 * time.Second)
		a.sayTo(nobodys(1), "?")
		settle(6 * time.Second)
		tap := record(s)
		told := len(a.dev.answers())
		for range 30 {
			a.sayTo(nobodys(1), "?")
			settle(50 * time.Millisecond)
		}
		if n := tap.whois(); n != 0 {
			t.Errorf("%d questions although nobody knew a moment ago", n)
		}
		if n := len(a.dev.answers()) - told; n != 30 {
			t.Errorf("%d of 30 packets were answered at once", n)
		}
		if _, err := a.ResolveULA(t.Context(), nobodys(1)); !errors.Is(err, ErrUnknownPeer) || tap.whois() == 0 {
			t.Errorf("a person asks anew: %v, %d questions", err, tap.whois())
		}
		settle(15 * time.Second)
		tap.reset()
		a.sayTo(nobodys(1), "?")
		settle(time.Second)
		if tap.whois() == 0 {
			t.Error("nobody was asked again")
		}
	})
}

// A report of the links that says the same again sends nothing and forgets nothing; one
// that says something else is acted on at once.
func TestSameLinksAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		adds(a, b)
		s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
		other := w.Segment("other", vnet.Link{Delay: time.Millisecond})
		i := a.host.Attach(s, netip.MustParsePrefix("10.0.0.1/24"))
		b.host.Attach(s, netip.MustParsePrefix("10.0.0.2/24"))
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "session")
		settle(20 * time.Minute)
		tap := record(s)
		mtu := a.peer(b).Path.MTU
		for range 20 {
			i.SetAddrs(netip.MustParsePrefix("10.0.0.1/24"))
			a.host.SetAsleep(false)
			settle(time.Second)
		}
		if n := tap.from("10.0.0.1"); n > 1 {
			t.Errorf("20 reports of the same: %d packets", n)
		}
		if got := a.peer(b).Path.MTU; got != mtu {
			t.Errorf("the path's size was forgotten: %d, before %d", got, mtu)
		}
		tap.reset()
		a.host.Attach(other, netip.MustParsePrefix("10.9.0.1/24"))
		settle(100 * time.Millisecond)
		if tap.from("10.0.0.1") == 0 {
			t.Error("a new link changed nothing")
		}
	})
}

// Fifty peers that nobody speaks to cost nothing but beacons: no timer is due before the
// next one.
func TestIdlePeersHaveNoTimers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		for k := range 50 {
			p := Peer{Address: newIdentity(t).Address()}
			if k%2 == 0 {
				p.Endpoints = []wire.Endpoint{wire.UDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + k)}), 8737))}
			}
			if _, err := a.AddPeer(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		c := newTestNode(t, w.Host("c"), nil) // a stranger, which goes away
		c.host.Attach(s, netip.MustParsePrefix("10.0.0.3/24"))
		c.start()
		settle(time.Second)
		a.say(b, "session")
		if _, err := c.ping(a, time.Second); err != nil {
			t.Error(err)
		}
		a.say(c, "session")
		settle(time.Second)
		c.stop()
		a.say(c, "into the void")
		settle(3 * time.Hour)
		for _, n := range []*testNode{a, b} {
			n.call(t.Context(), func(l *loop) error {
				if due := l.peers.schedule.Due(); due != mono.Never {
					t.Errorf("%s: a peer is due in %v", n.host.Name(), due.Sub(l.now))
				}
				if next := min(l.finder.tickLookups(), l.finder.tickWarm(), l.copies.tick()); next != mono.Never {
					t.Errorf("%s: something is due in %v", n.host.Name(), next.Sub(l.now))
				}
				if pause := l.beacon.next.Sub(l.now); pause < 0 || l.beacon.pause != beaconLast {
					t.Errorf("%s: the next beacon is in %v", n.host.Name(), pause)
				}
				return nil
			})
		}
		tap := record(s)
		settle(24 * time.Hour)
		beacons := 0
		for _, p := range tap.all() {
			if p.To.Addr() == netip.MustParseAddr("10.0.0.255") {
				beacons++
			}
		}
		if others := len(tap.all()) - beacons; beacons > 2*24*4+2 || others > 2*2*beacons {
			t.Errorf("in a day %d beacons and %d other packets", beacons, others)
		}
		a.stop()
		b.stop()
	})
}

// A thousand peers with endpoints of the last run are not all tried at once, whatever
// else happens meanwhile.
func TestManyPeersAtStart(t *testing.T) {
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("busy ", busy), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newTestNode(t, w.Host("a"), nil)
				for k := range 1000 {
					a.cfg.Peers = append(a.cfg.Peers, Peer{Address: newIdentity(t).Address(),
						Endpoints: []wire.Endpoint{wire.UDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(4 + k/200), byte(1 + k%200)}), 8737))}})
				}
				s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
				a.host.Attach(s, netip.MustParsePrefix("10.0.0.1/16"))
				tap := record(s)
				a.start()
				defer a.stop()
				settle(0)
				first := map[netip.AddrPort]time.Time{}
				for range 200 {
					if busy {
						a.status()
					}
					settle(100 * time.Millisecond)
				}
				seconds := map[int64]int{}
				for _, p := range tap.all() {
					if _, seen := first[p.To]; !seen && p.To.Addr() != netip.MustParseAddr("10.0.255.255") {
						first[p.To] = p.At
						seconds[p.At.Unix()]++
					}
				}
				for at, n := range seconds {
					if n > warmPeers+1 {
						t.Errorf("%d peers were tried in second %d", n, at)
					}
				}
				settle(time.Minute)
				tap.reset()
				a.host.Attach(w.Segment("other", vnet.Link{}), netip.MustParsePrefix("10.9.0.1/24"))
				settle(5 * time.Second)
				tried := 0
				for _, p := range tap.all() {
					if p.To.Addr() != netip.MustParseAddr("10.0.255.255") {
						tried++
					}
				}
				if tried > 10 {
					t.Errorf("another link: %d packets to peers that are not there", tried)
				}
				if len(first) != 1000 {
					t.Errorf("%d of 1000 peers were tried in 20 s", len(first))
				}
			})
		})
	}
}

// Who is added while somebody looks for its ULA is found at once.
func TestAddedWhileSought(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		settle(time.Second)
		sought := newIdentity(t).Address()
		found := make(chan anode.Address, 1)
		go func() {
			x, _ := a.ResolveULA(t.Context(), sought.ULA())
			found <- x
		}()
		settle(100 * time.Millisecond)
		if _, err := a.AddPeer(t.Context(), Peer{Address: sought}); err != nil {
			t.Fatal(err)
		}
		settle(0)
		select {
		case x := <-found:
			if x != sought {
				t.Errorf("found %v", x)
			}
		default:
			t.Error("the search goes on")
			<-found
		}
	})
}

// Of a ULA that a program found by its address, nobody is asked whose it is.
func TestKnownULA(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				c := newTestNode(t, w.Host("c"), nil)
				a := newTestNode(t, w.Host("a"), func(x *Config) {
					x.Known = func(u anode.ULA) (anode.Address, bool) { return c.address0(), known && u == c.address0().ULA() }
				})
				s := lan(w, "lan", 0, a.host, c.host)
				a.start()
				defer a.stop()
				settle(20 * time.Second)
				c.cfg.Config.Port = 0 // so that nobody hears its beacons first
				c.start()
				defer c.stop()
				tap := record(s)
				a.say(c, "hello")
				settle(3 * time.Second)
				if len(c.dev.delivered()) == 0 {
					t.Error("it did not arrive")
				}
				asked := 0
				for _, p := range tap.all() {
					h, body, err := wire.Parse(p.Data)
					if err != nil || h.Type != wire.Whois {
						continue
					}
					if m, err := wire.ParseWhois(body); err == nil && m.Kind == wire.WhoisULA {
						asked++
					}
				}
				if known != (asked == 0) {
					t.Errorf("%d questions whose the ULA is", asked)
				}
				got, err := a.ResolveULA(t.Context(), c.address0().ULA())
				if err != nil || got != c.address0() {
					t.Error(got, err)
				}
			})
		})
	}
}
