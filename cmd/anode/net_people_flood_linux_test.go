package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
)

// asker is a stranger that shakes hands, asks to be let in, and repeats it for as long as a program that was not
// answered does.
func asker(evil *host, from netip.Addr, n *host, port int) error {
	id, err := anode.NewIdentity(0)
	if err != nil {
		return err
	}
	conn, err := in(evil, func() (*net.UDPConn, error) {
		return net.DialUDP("udp4", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: net.IPv4(10, 0, 1, 1), Port: port})
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	key, err := seal.SharedKey(id, n.address)
	if err != nil {
		return err
	}
	o := &outsider{id: id, peerID: 1, node: n.address, mac: seal.NewMAC(key), began: time.Now().Add(-time.Hour), answers: everything, heard: map[wire.Type]int{}}
	o.set = seal.NewSet(&seal.Local{Identity: id, PeerID: 1}, n.address, 0)
	o.came = make(chan arrival, 16)
	o.sends = func(p []byte) { conn.Write(p) }
	o.set.Want(o.now())
	o.tick()
	said := 0
	body := wire.Fields{{Type: wire.FieldName, Value: []byte("bank")}, {Type: wire.FieldText, Value: make([]byte, 100)}}.Append(nil)
	x := id.Address().X()
	tell := wire.TellMsg{ID: wire.TellID(x[:8]), Kind: wire.TellAsk, Body: body}.Append(nil)
	buf := make([]byte, 2048)
	var next time.Time
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if k, err := conn.Read(buf); err == nil {
			o.take(append([]byte(nil), buf[:k]...))
		}
		o.tick()
		if o.set.Current(o.now()) != nil && time.Now().After(next) {
			o.sendSealed(wire.Tell, tell)
			next = time.Now().Add(time.Second << said)
			said++
		}
	}
	return nil
}

// TestNetPeopleAsks: thousands of strangers ask a daemon to be let in, from thousands of addresses, while it
// carries traffic between peers. The list stays short, its memory too, somebody who is honest is listed
// within a minute, and a gigabit a second comes through as beside as many strangers to a port that nobody reads.
func TestNetPeopleAsks(t *testing.T) {
	if !long() {
		t.Skip("takes two minutes; LONG=1 asks for it")
	}
	const strangers, rate = 10_000, 170
	n, b, evil, honest := newHost(t, "n"), newHost(t, "b"), newMachine(t, "evil"), newHost(t, "honest")
	join(1, n, b, evil, honest)
	onlyIPv4(n, b)
	n.ip("route add 100.64.0.0/10 via 10.0.1.3")
	evil.ip("route add local 100.64.0.0/10 dev lo")
	n.add(b)
	b.add(n)
	n.up()
	b.up()
	honest.up(without...)
	b.meets(n)
	settled(n, b)
	deaf, err := in(n, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: 9999}) })
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	if err := deaf.SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	// Ten regions, and all their networks.
	flood := func(port int, count int) (wait func()) {
		var all sync.WaitGroup
		all.Go(func() {
			tick := time.NewTicker(time.Second / time.Duration(rate))
			defer tick.Stop()
			for i := range count {
				<-tick.C
				from := netip.AddrFrom4([4]byte{100, byte(64 + i%10), byte(i / 10), byte(1 + i/2560)})
				all.Go(func() {
					if err := asker(evil, from, n, port); err != nil {
						t.Error(err)
					}
				})
			}
		})
		return all.Wait
	}
	server := n.start("iperf3", "-s", "--forceflush", "-B", n.ula.String())
	within(t, dialWait, "iperf3", func() bool { return len(server.output()) > 0 })
	speed := func(seconds int) float64 {
		var result struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		b.decode(b.run("iperf3", "-J", "-b1G", fmt.Sprintf("-t%d", seconds), "-c", n.ula.String()), &result)
		return result.End.Received.Rate / 1e6
	}
	speed(1)
	seconds := min(strangers/rate, 30)
	wait := flood(9999, seconds*rate)
	quiet := speed(seconds)
	wait()
	before := n.resident()
	wait = flood(8737, strangers)
	time.Sleep(time.Second)
	asked := time.Now()
	honest.anode("peers", "ask", n.address.String(), "--note", "from the party")
	loud := speed(seconds)
	most := 0
	listed := func() bool {
		var list struct {
			Requests []struct{ Address string }
		}
		n.decode(n.anode("peers", "requests", "--json"), &list)
		most = max(most, len(list.Requests))
		for _, r := range list.Requests {
			if r.Address == honest.address.String() {
				return true
			}
		}
		return false
	}
	within(t, time.Minute-time.Since(asked), "the honest request", listed)
	took := time.Since(asked)
	wait()
	if !listed() {
		t.Error("the honest request was pushed out")
	}
	grown := n.resident() - before
	c := n.status().Counters
	t.Logf("%d strangers, %d a second: %.0f Mbit/s, %.0f beside as many to a deaf port; listed within %v, %d on the list; %d kB more; %d handshakes",
		strangers, rate, loud, quiet, took, most, grown, c["handshakes"])
	if loud < 0.9*quiet {
		t.Errorf("%.0f %% of the throughput", 100*loud/quiet)
	}
	if most > 65 || most < 2 {
		t.Errorf("%d are listed", most)
	}
	if c["handshakes"] < uint64(strangers/10) {
		t.Errorf("%d handshakes of %d strangers: that proves nothing", c["handshakes"], strangers)
	}
	if grown > 16<<10 { // of which the heap that is to be collected is most
		t.Errorf("%d kB more are resident", grown)
	}
}
