package main_test

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// newPeer is an outsider that a node has added.
func newPeer(h *host, peerID uint8, n *host) *outsider {
	h.t.Helper()
	id := newIdentity(h.t)
	n.anode("peers", "add", id.Address().String())
	return newOutsider(h, id, peerID, n, "10.0.1.1:8737")
}

// TestNetAttackMachines: answers go to the machine that asked, machines of one key do not
// disturb each other, and a packet for another machine than the node's is not for it.
func TestNetAttackMachines(t *testing.T) {
	t.Parallel()
	n, evil := newHost(t, "n"), newMachine(t, "evil")
	join(1, n, evil)
	n.up(quiet...)

	step(t, "answers name the machine that asked", func(t *testing.T) {
		for _, who := range []struct {
			name string
			*outsider
		}{
			{"a stranger", newOutsider(evil, newIdentity(t), 3, n, "10.0.1.1:8737")},
			{"a peer", newPeer(evil, 3, n)},
		} {
			for _, ask := range []struct {
				question, answer wire.Type
				msg              []byte
			}{
				{wire.Ping, wire.Pong, []byte("are you there?")},
				{wire.EPCReq, wire.EPC, wire.AppendEPC(nil, 77)},
				{wire.NetIDReq, wire.NetID, wire.NetIDMsg{Request: 78}.Append(nil)},
			} {
				who.sendPlain(ask.question, ask.msg)
				a, ok := who.await(ask.answer, 2*time.Second)
				if !ok {
					t.Errorf("%s with peer ID 3: no %v", who.name, ask.answer)
				} else if a.recipient != 3 {
					t.Errorf("%s with peer ID 3: %v for peer ID %d", who.name, ask.answer, a.recipient)
				}
			}
		}
	}, n, evil)

	step(t, "two machines of one key", func(t *testing.T) {
		first := newPeer(evil, 3, n)
		second := newOutsider(evil, first.id, 5, n, "10.0.1.1:8737")
		first.meets()
		second.shakes()
		for start := time.Now(); time.Since(start) < 3*time.Second && !second.connected(); {
			time.Sleep(20 * time.Millisecond)
		}
		if !second.connected() {
			t.Errorf("while a machine with peer ID 3 is there, another with 5 gets %d WELCOMEs and %d STALEs", second.count(wire.Welcome), second.count(wire.Stale))
		}
		const pings = 20
		pongs := [2]int{first.count(wire.Pong), second.count(wire.Pong)}
		for range pings {
			first.say(wire.Ping, []byte("first"))
			second.say(wire.Ping, []byte("second"))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(300 * time.Millisecond)
		for i, o := range []*outsider{first, second} {
			if got := o.count(wire.Pong) - pongs[i]; got < pings-1 || got > pings+1 {
				t.Errorf("machine %d: %d PONGs for %d PINGs", i+1, got, pings)
			}
		}
	}, n, evil)

	step(t, "another machine's packet", func(t *testing.T) {
		o := newPeer(evil, 3, n)
		o.shakes()
		w, ok := o.await(wire.Welcome, 3*time.Second)
		if !ok {
			t.Fatal("no WELCOME")
		}
		within(t, dialWait, "a session", o.connected)
		time.Sleep(2500 * time.Millisecond) // until then it was heard a moment ago, and needs no new session
		r := rand.New(rand.NewPCG(4, 0))
		hellos := func(recipient uint8) int {
			before := o.count(wire.Hello)
			for range 4 {
				o.write(sealedLike(r, o.id.Address().ID(), n.id, 3<<4|recipient))
				time.Sleep(400 * time.Millisecond)
			}
			return o.count(wire.Hello) - before
		}
		if got := hellos(w.sender%15 + 1); got != 0 {
			t.Errorf("a sealed packet for another machine of the node's address, in a session that is unknown, causes %d HELLOs", got)
		}
		if got := hellos(w.sender); got == 0 {
			t.Error("one for this machine causes no HELLO: the test proves nothing")
		}
	}, n, evil)
}

// TestNetAttackAmplified: whoever a node does not know for sure gets no more bytes from it
// than the wire's rules say.
func TestNetAttackAmplified(t *testing.T) {
	t.Parallel()
	n, evil := newHost(t, "n"), newMachine(t, "evil")
	join(1, n, evil)
	n.up(quiet...)
	settled(n)

	step(t, "EPI of strangers", func(t *testing.T) {
		const strangers = 20
		var all []*outsider
		in, start := 0, time.Now()
		for range strangers {
			o := newOutsider(evil, newIdentity(t), 1, n, "10.0.1.1:8737")
			o.shall(nothing)
			p := o.packet(wire.EPI, wire.EPIMsg{}.Append(nil))
			o.write(p)
			in += len(p)
			all = append(all, o)
			time.Sleep(100 * time.Millisecond)
		}
		requests, out := gathered(all, time.Second)
		took := time.Since(start)
		limit := 1 + int(took/time.Second) // one a second: 4 where nothing holds the test up
		t.Logf("%d EPIs of %d bytes cause %d EPC_REQs, and %d bytes", strangers, in, requests, out)
		if requests > limit || out > in {
			t.Errorf("%d EPIs of strangers, %d bytes, cause %d EPC_REQs in %v, and %d bytes in all; want at most %d, and no more bytes than came", strangers, in, requests, took, out, limit)
		}
	}, n, evil)

	step(t, "beacons of strangers", func(t *testing.T) {
		const strangers = 20
		var all []*outsider
		start := time.Now()
		for range strangers {
			o := newOutsider(evil, newIdentity(t), 1, n, "10.0.1.1:8737")
			o.conn.WriteToUDP(beacon(o.id.Address()), &net.UDPAddr{IP: net.IPv4(10, 0, 1, 255), Port: 8737})
			all = append(all, o)
			time.Sleep(100 * time.Millisecond)
		}
		requests, out := gathered(all, time.Second)
		took := time.Since(start)
		limit := int(10 * took / (3 * time.Second)) // 10 where nothing holds the test up
		t.Logf("%d beacons of strangers cause %d EPC_REQs, and %d bytes", strangers, requests, out)
		if requests == 0 || requests > limit {
			t.Errorf("%d beacons of strangers cause %d EPC_REQs in %v, want 1 to %d", strangers, requests, took, limit)
		}
	}, n, evil)

	step(t, "a new endpoint of a peer", func(t *testing.T) {
		const times = 3
		for _, old := range []string{"answers", "is silent"} {
			o := newPeer(evil, 1, n)
			o.meets()
			time.Sleep(1200 * time.Millisecond) // endpoints are proposed once a second
			if old == "is silent" {
				o.shall(nothing)
			}
			conn, err := in(evil, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", nil) })
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			p := o.sealNow(wire.Ping, []byte("from away"))
			if p == nil {
				t.Fatal("no session")
			}
			conn.WriteToUDPAddrPort(p, o.to)
			conn.SetReadDeadline(time.Now().Add(3 * time.Second))
			bytes, packets, plain := 0, 0, 0
			buf := make([]byte, 1<<16)
			for {
				k, err := conn.Read(buf)
				if err != nil {
					break
				}
				bytes += k
				if packets++; !wire.IsSealed(buf[:k]) {
					plain++
				}
			}
			t.Logf("the old endpoint %s: the new one sent %d bytes, and got %d in %d packets, %d of them unsealed", old, len(p), bytes, packets, plain)
			if bytes > times*len(p) {
				t.Errorf("the old endpoint %s: %d bytes went to an unconfirmed one for %d that came, want at most %d times as many", old, bytes, len(p), times)
			}
			if packets == 0 {
				t.Errorf("the old endpoint %s: nothing asks the new one", old)
			}
			if plain > 0 {
				t.Errorf("the old endpoint %s: %d packets to the new one are not sealed", old, plain)
			}
		}
	}, n, evil)
}

// gathered waits, and counts the EPC_REQs and bytes that came to outsiders.
func gathered(all []*outsider, wait time.Duration) (requests, bytes int) {
	time.Sleep(wait)
	for _, o := range all {
		for len(o.came) > 0 {
			a := <-o.came
			if !a.authenticated {
				continue // a beacon is for everybody
			}
			bytes += a.bytes
			if a.kind == wire.EPCReq {
				requests++
			}
		}
	}
	return requests, bytes
}
