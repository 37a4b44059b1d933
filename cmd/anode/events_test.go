package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/overlay"
)

func TestTeller(t *testing.T) {
	var out bytes.Buffer
	teller := &teller{now: func() time.Time { return fixtureTime }, print: (&eventText{out: &out}).print}
	s := fixtureStatus()
	stranger := s.Peers[3]
	s.Peers = s.Peers[:3:3]
	teller.see(s)

	next := s
	next.Peers = append([]overlay.PeerStatus{}, s.Peers...)
	next.Peers[0].State, next.Peers[0].Path = overlay.StateIdle, overlay.PathStatus{Kind: overlay.PathNone}
	next.Peers[1].Path = overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:192.0.2.9:8737"}
	next.Peers = append(next.Peers, stranger)
	teller.see(next)
	teller.see(next) // nothing changed
	s.Peers = s.Peers[:2]
	teller.see(s)
	teller.stopped()
	wantText(t, out.String(), `
This machine is now on the network as

  address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
  IPv6      fd00:0:40:5d2d:2c3:b4bc:7790:f928
  short ID  02c3b4bc7790f928
  adapter   anode0, MTU 1440
  listens   udp:[::]:8737
  settings  open: no, secret: no, relay: yes, Info2 bridge: no

3 peers are added.
Ctrl-C stops and cleans up.

12:00:00  north (dd9fcbf1d49c786b) is connected: LAN udp:10.0.0.2:8737
12:00:00  south (395d77976c9f8031) is connected: relay 314c6a3662ebad08
12:00:00  314c6a3662ebad08 does not answer: its machine is off or has moved, or a firewall drops UDP (udp:198.51.100.7:8737)
          try: on that machine: anode status; and allow incoming UDP on its port in the firewall
12:00:00  north (dd9fcbf1d49c786b) is idle: nothing is sent; traffic connects it again
12:00:00  south (395d77976c9f8031) has another path now: direct udp:192.0.2.9:8737
12:00:00  found aa2a510d72b2d432; to meet it, run:
anode peers ask aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j
12:00:00  north (dd9fcbf1d49c786b) is connected: LAN udp:10.0.0.2:8737
12:00:00  south (395d77976c9f8031) has another path now: relay 314c6a3662ebad08
12:00:00  314c6a3662ebad08 was removed
12:00:00  aa2a510d72b2d432 is not heard any more

Stopped. The adapter, its address and its routes are gone.
`)
}

// TestTellerDecides: what people do is told as such, and not as a failure.
func TestTellerDecides(t *testing.T) {
	var out bytes.Buffer
	teller := &teller{now: func() time.Time { return fixtureTime }, print: (&eventText{out: &out}).print}
	s := fixtureStatus()
	peers := s.Peers
	with := func(change func(p []overlay.PeerStatus) []overlay.PeerStatus) {
		s.Peers = change(append([]overlay.PeerStatus{}, s.Peers...))
		teller.see(s)
	}
	s.Peers = peers[:1:1]
	teller.see(s)
	out.Reset()
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { return append(p, peers[3]) })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].Allowed, p[1].Name = true, "far"; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].Name = "farther"; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].Name = ""; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus {
		p[1].Reason = overlay.ReasonNotAddedThere
		return p
	})
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus {
		p[1].State, p[1].Reason, p[1].Path = overlay.StateUp, overlay.NoReason, peers[0].Path
		return p
	})
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus {
		p[1].Allowed, p[1].Blocked, p[1].State, p[1].Reason = false, true, overlay.StateBlocked, overlay.ReasonBlocked
		return p
	})
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus {
		p[1].Allowed, p[1].Blocked, p[1].State, p[1].Reason = true, false, overlay.StateIdle, overlay.NoReason
		return p
	})
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].State = overlay.StateUp; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].State = overlay.StateConnecting; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus {
		p[1].State, p[1].Reason, p[1].ReasonAt = overlay.StateUnreachable, overlay.ReasonNoAnswer, "udp:10.0.0.9:8737"
		return p
	})
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { p[1].Reason = overlay.ReasonNotRunning; return p })
	with(func(p []overlay.PeerStatus) []overlay.PeerStatus { return p[:1] })
	s.Tun = &overlay.TunStatus{Name: "anode0", MTU: 1440, Problems: []overlay.TunProblem{{Code: "ipv6_off", Text: "IPv6 is switched off on anode0"}}}
	teller.see(s)
	s.Tun = &overlay.TunStatus{Name: "anode0", MTU: 1440, Problems: []overlay.TunProblem{{Code: "ipv6_off", Text: "IPv6 is switched off again; next try in 2s"}}}
	teller.see(s)
	s.Tun = &overlay.TunStatus{Name: "anode0", MTU: 1440}
	teller.see(s)
	wantText(t, out.String(), `
12:00:00  found aa2a510d72b2d432; to meet it, run:
anode peers ask aeaaaaaaaaaaeot3eqysw235of3gbnjkdmomb344fcynnanqfuuj5xrt2sutc74j
12:00:00  far (aa2a510d72b2d432) was added
12:00:00  far (aa2a510d72b2d432) is now named farther
12:00:00  farther (aa2a510d72b2d432) has no name now
12:00:00  aa2a510d72b2d432 has not added this machine, so only pings get through
          try: on that machine: anode peers add aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
12:00:00  aa2a510d72b2d432 is connected: LAN udp:10.0.0.2:8737
12:00:00  aa2a510d72b2d432 has added this machine
12:00:00  aa2a510d72b2d432 was blocked
12:00:00  aa2a510d72b2d432 is not blocked any more
12:00:00  aa2a510d72b2d432 is connected: LAN udp:10.0.0.2:8737
12:00:00  aa2a510d72b2d432 was lost; looking for another path
12:00:00  aa2a510d72b2d432 does not answer: its machine is off or has moved, or a firewall drops UDP (udp:10.0.0.9:8737)
          try: on that machine: anode status; and allow incoming UDP on its port in the firewall
12:00:00  the machine of aa2a510d72b2d432 answers, but anode is not running there, has another port, or is rejected by a firewall (udp:10.0.0.9:8737)
          try: on that machine: anode up
12:00:00  aa2a510d72b2d432 was removed
12:00:00  warning: the adapter: IPv6 is switched off on anode0
          try: anode doctor
12:00:00  the adapter is in order again; it was: IPv6 is switched off again; next try in 2s
`)
}

// TestGreeting says loudly what is dangerous.
func TestGreeting(t *testing.T) {
	var out bytes.Buffer
	teller := &teller{now: func() time.Time { return fixtureTime }, print: (&eventText{out: &out}).print, bridged: true}
	s := fixtureStatus()
	s.Peers, s.Tun, s.Open, s.Secret, s.Relay, s.Copies = nil, nil, true, true, false, true
	teller.see(s)
	teller.stopped()
	wantText(t, out.String(), `
This machine is now on the network as

  address   aeaaaaaaaaaaehyiaw7ql3ufsy6nbvffpkj2juft5cmpyunufwpw4o4xyraabpiu
  IPv6      fd00:0:40:5d2d:2c3:b4bc:7790:f928
  short ID  02c3b4bc7790f928
  adapter   none; programs use anode nc, anode forward or a proxy (anode up
            --socks 1080)
  listens   udp:[::]:8737
  settings  open: yes, secret: yes, relay: no, Info2 bridge: yes

WARNING: everybody can reach the ports of this machine, not only the peers that
         you added (policy.open)

WARNING: the Info2 bridge is on: what your peers say becomes clear text that
         anybody can read (info2.bridge)

No peers yet. "anode invite NAME" makes a link that lets somebody in;
"anode join" uses a link that you got.
Ctrl-C stops and cleans up.

12:00:00  another machine has the same address; this one has machine number 0

Stopped.
`)
}

func TestEventsJSON(t *testing.T) {
	var out bytes.Buffer
	teller := &teller{now: func() time.Time { return fixtureTime }, print: (&eventJSON{out: &out}).print}
	s := fixtureStatus()
	teller.see(s)
	teller.stopped()
	var types []string
	for line := range strings.Lines(out.String()) {
		var e event
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil || e.Schema != schema || !e.Time.Equal(fixtureTime) || e.Message == "" {
			t.Errorf("%s: %v", line, err)
		}
		word := string(e.Type)
		if e.Peer != nil {
			word += " " + e.Peer.ID.String()
		}
		if e.Path != nil {
			word += " " + string(e.Path.Kind)
		}
		if e.Reason != "" {
			word += " " + string(e.Reason)
		}
		types = append(types, word)
	}
	wantText(t, strings.Join(types, "\n")+"\n", `
running
connected dd9fcbf1d49c786b lan
connected 395d77976c9f8031 relay
unreachable 314c6a3662ebad08 no_answer
found aa2a510d72b2d432
stopped
`)
}

// TestEventLog: a line of the log is one line in the form of the other events.
func TestEventLog(t *testing.T) {
	var out bytes.Buffer
	level := &slog.LevelVar{}
	level.Set(slog.LevelWarn)
	log := slog.New(&eventLog{level: level, print: (&eventText{out: &out}).print})
	log.Info("not this")
	log.Warn("the port is taken", "port", 8737, "err", errors.New("bind: in use\nreally; try: --port 0"))
	log.With("network", "bare").WithGroup("a").Error("two\nlines", "b", time.Second, slog.Group("c", "d", 1))
	level.Set(slog.LevelInfo)
	log.Info("this")
	text := out.String()
	for _, want := range []string{
		"  warning: the port is taken: bind: in use; really (port 8737)\n          try: --port 0\n",
		"  error: two; lines (network bare, a.b 1s, a.c.d 1)\n",
		"  this\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q has no %q", text, want)
		}
	}
	if strings.Contains(text, "not this") || strings.Count(text, "\n") != 4 {
		t.Error(text)
	}
}

// TestEventWidth: lines are broken at words on a terminal.
func TestEventWidth(t *testing.T) {
	var out bytes.Buffer
	print := (&eventText{out: &out, width: 40, color: true}).print
	print(event{Time: fixtureTime, Type: eventWarning, Message: "one two three four five six seven eight", Try: strings.Repeat("x", 50) + " y"})
	wantText(t, strings.ReplaceAll(out.String(), "\x1b[1;31mwarning\x1b[0m", "WORD"), `
12:00:00  WORD: one two three four
          five six seven eight
          try:
          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          y
`)
}

// A crowd of strangers has the status read once in a while; what concerns a peer, or the node, is reported at once, also
// beside a crowd.
func TestCrowdIsCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fixtureStatus()
		peer, strange := s.Peers[0].Address, s.Peers[3].Address
		if !s.Peers[0].Allowed || s.Peers[3].Allowed {
			t.Fatal("the fixture is another one")
		}
		ctx, stop := context.WithCancel(t.Context())
		events := make(chan overlay.Event, 100)
		var looked atomic.Int32
		status := func(context.Context) (overlay.Status, error) {
			looked.Add(1)
			return s, nil
		}
		next := func(ctx context.Context) ([]overlay.Event, error) {
			select {
			case e := <-events:
				return []overlay.Event{e}, nil
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		ended := make(chan struct{})
		teller := &teller{now: func() time.Time { return fixtureTime }, print: func(event) {}}
		go func() {
			defer close(ended)
			teller.follow(ctx, status, next)
		}()
		within := func(what string, d time.Duration, send ...overlay.Event) {
			t.Helper()
			looked.Store(0)
			for _, e := range send {
				events <- e
			}
			time.Sleep(d)
			synctest.Wait()
			if looked.Load() == 0 {
				t.Errorf("nothing is reported %v after %s", d, what)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := looked.Load(); n != 1 {
			t.Errorf("the status is read %d times while nothing happens", n)
		}
		found, missed := overlay.Event{Kind: overlay.EventFound, Address: strange}, overlay.Event{Kind: overlay.EventMissed}
		within("the first stranger", 300*time.Millisecond, found)
		looked.Store(0)
		for range 600 {
			events <- found
			events <- missed
			time.Sleep(100 * time.Millisecond)
			for drained := false; !drained; { // the teller takes some meanwhile
				select {
				case <-events:
				default:
					drained = true
				}
			}
		}
		synctest.Wait()
		if n := looked.Load(); n < 10 || n > 13 {
			t.Errorf("the status is read %d times in a minute while strangers come", n)
		}
		within("a peer beside strangers", 500*time.Millisecond, found, overlay.Event{Kind: overlay.EventPeer, Address: peer})
		within("a decision beside strangers", 500*time.Millisecond, found, overlay.Event{Kind: overlay.EventDecided, Address: strange})
		within("another machine with the address", 300*time.Millisecond, overlay.Event{Kind: overlay.EventCopies})
		within("strangers who are gone", strangersPause+300*time.Millisecond, found, overlay.Event{Kind: overlay.EventRemoved, Address: strange})
		stop()
		<-ended
	})
}
