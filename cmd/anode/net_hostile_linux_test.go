package main_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/overlay"
)

// TestNetRelay: two peers that cannot reach each other talk through a third that has
// added both, and directly as soon as they can.
//
//	a ── eth1 ── r ── eth2 ── b
func TestNetRelay(t *testing.T) {
	a, r, b := newHost(t, "a"), newHost(t, "r"), newHost(t, "b")
	join(1, r, a)
	join(2, r, b)
	r.up("--peer", a.address.String(), "--peer", b.address.String())
	a.up("--peer", r.address.String()+"@udp:10.0.1.1:8737", "--peer", b.address.String())
	b.up("--peer", r.address.String()+"@udp:10.0.2.1:8737", "--peer", a.address.String())
	t.Logf("the first ping through the relay comes back after %v", a.meets(b))
	b.meets(a) // until b knows a way too, it can only answer

	relayed := func(h, other *host) {
		t.Helper()
		p := h.peer(other)
		if p.State != "up" || p.Path.Kind != "relay" || p.Path.Via == nil || *p.Path.Via != r.address {
			t.Errorf("%s reaches %s: %+v", h.name, other.name, p)
		}
	}
	relayed(a, b)
	relayed(b, a)
	if out := a.anode("ping", b.address.String(), "-c1"); !strings.Contains(out, "relay "+r.id.String()) {
		t.Error(out)
	}
	links := []*capture{r.capture("eth1"), r.capture("eth2")}
	words := []byte("What is relayed stays sealed.")
	b.echoUDP(7)
	if err := exchange(a.dialUDP(b, 7), words); err != nil {
		t.Error(err)
	}
	for _, l := range links {
		packets := l.stop()
		sealed := slices.ContainsFunc(packets, func(p []byte) bool { return len(p) > len(words)+44 })
		if !sealed || slices.ContainsFunc(packets, func(p []byte) bool { return strings.Contains(string(p), string(words)) }) {
			t.Errorf("the words are among %d packets, or nothing is", len(packets))
		}
	}
	everySize(t, a, b, 13)
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		t.Logf("%s to %s: %.2f Gbit/s", way[0].name, way[1].name, transfer(t, way[0], way[1], bulk(64<<20)))
	}
	relayed(a, b)
	if n := r.status().Counters["relayed_packets"]; n < 2*(64<<20)/61000 {
		t.Errorf("%d packets were relayed", n)
	}
	sound(t, a, r, b)

	join(3, a, b) // now they can
	took := within(t, 20*time.Second, "the direct way", func() bool {
		p := a.peer(b)
		return a.pings(b) && p.Path.Kind == overlay.PathLAN
	})
	t.Logf("joined, they talk directly after %v", took)
	b.ip("link del eth3")
	t.Logf("parted, pings come through the relay after %v", a.meets(b))
	b.meets(a)
	relayed(a, b)
}

// TestNetGarbage: what nobody should send to a node, by somebody on the same network who
// sees all of its packets and sends in its peers' names: nothing breaks, nothing grows, and
// who talks goes on talking.
func TestNetGarbage(t *testing.T) {
	count := 100_000
	if long() {
		count = 1_000_000
	}
	a, b, evil := newHost(t, "a"), newHost(t, "b"), newHost(t, "evil")
	join(1, a, b, evil)
	a.add(b)
	b.add(a)
	sight := evil.capture("eth1") // a switch floods what is broadcast, at least
	cable := b.capture("eth1")
	a.up()
	b.up()
	a.meets(b)
	transfer(t, a, b, 1<<20)
	real := append(cable.stop(), sight.stop()...)
	real = slices.DeleteFunc(real, func(p []byte) bool { return payload(p) == nil })
	if len(real) < 30 {
		t.Fatalf("%d packets were captured", len(real))
	}

	flood(t, evil, real, count/10, 1)
	transfer(t, a, b, 16<<20) // now everything has the size that it needs
	before, pid := b.resident(), b.node.cmd.Process.Pid
	var flooding sync.WaitGroup
	flooding.Go(func() { flood(t, evil, real, count, 2) })
	pings := a.start("ping", "-6", "-n", "-q", "-i0.01", "-c100", b.ula.String())
	t.Logf("a to b, meanwhile: %.2f Gbit/s", transfer(t, a, b, 32<<20))
	transfer(t, b, a, 32<<20)
	flooding.Wait()
	pings.wait(30 * time.Second)
	t.Logf("pings meanwhile: %s", lastLines(pings.output(), 2))

	after := b.resident()
	t.Logf("%d packets; %d kB resident before, %d after", count, before, after)
	if after > before+16<<10 || after > 60<<10 {
		t.Errorf("memory grew from %d to %d kB", before, after)
	}
	for _, h := range []*host{a, b} {
		select {
		case <-h.node.done:
			t.Fatalf("%s has ended:\n%s", h.name, h.node.output())
		default:
		}
		if out := h.node.output(); strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") {
			t.Errorf("%s: %s", h.name, out)
		}
	}
	if b.node.cmd.Process.Pid != pid {
		t.Error("b has another process")
	}
	counters := b.status().Counters
	dropped := uint64(0)
	for name, n := range counters {
		if strings.HasPrefix(name, "drop_") {
			dropped += n
		}
	}
	if dropped < uint64(count)/20 { // the rest found the socket full
		t.Errorf("of %d packets, the drops of %d were counted: %v", count, dropped, counters)
	}
	if n := len(b.status().Peers); n > 300 {
		t.Errorf("b has met %d peers", n)
	}
	// The beacon of b that was sent again has it take another peer ID, a while later. What is under way then
	// is lost.
	if out := a.run("ping", "-6", "-n", "-q", "-i0.01", "-c100", b.ula.String()); !strings.Contains(out, " 100 received") && !strings.Contains(out, " 99 received") {
		t.Error(out)
	}
	if p := a.peer(b); p.Path.Kind != overlay.PathLAN || strings.Contains(p.Path.Endpoint, "10.0.1.3") {
		t.Errorf("a thinks that b is at %+v", p.Path)
	}
	sound(t, a, b)
}

// payload finds the UDP payload of a captured Ethernet frame to or from port 8737.
func payload(frame []byte) []byte {
	const ethernet, ip4, ip6, udp = 14, 20, 40, 8
	if len(frame) < ethernet+ip4+udp {
		return nil
	}
	header := ip4
	if frame[12] == 0x86 {
		header = ip6
	}
	if len(frame) <= ethernet+header+udp {
		return nil
	}
	ports := frame[ethernet+header:]
	if binary.BigEndian.Uint16(ports) != 8737 && binary.BigEndian.Uint16(ports[2:]) != 8737 {
		return nil
	}
	return frame[ethernet+header+udp:]
}

// flood sends n packets to b's port, under the addresses of a, of evil and of machines
// that are not there: random ones, and real ones changed, cut, lengthened, repeated.
func flood(t *testing.T, evil *host, real [][]byte, n int, seed uint64) {
	t.Helper()
	s, err := in(evil, func() (int, error) {
		return unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	})
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(s)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	target := unix.SockaddrInet4{Addr: [4]byte{10, 0, 1, 2}}
	packet := make([]byte, 0, 1500)
	for range n {
		source := netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + r.IntN(60))})
		if r.IntN(2) == 0 {
			source = netip.AddrFrom4([4]byte{10, 0, 1, 1}) // a
		}
		packet = mutant(r, header(packet[:0], source, r), payload(real[r.IntN(len(real))]))
		binary.BigEndian.PutUint16(packet[24:], uint16(len(packet)-20)) // of UDP
		if err := unix.Sendto(s, packet, 0, &target); err != nil && err != unix.ENOBUFS {
			t.Errorf("sending %d bytes: %v", len(packet), err)
			return
		}
	}
}

// header appends IPv4 and UDP headers. The kernel fills in length and checksum of the
// one, and those of the other may be left out.
func header(b []byte, source netip.Addr, r *rand.Rand) []byte {
	b = append(b, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(append(b, source.AsSlice()...), 10, 0, 1, 2)
	port := uint16(8737)
	if r.IntN(4) == 0 {
		port = uint16(r.Uint32())
	}
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, 8737>>8, 8737&0xff, 0, 0, 0, 0)
}

// mutant appends a packet made of a real one.
func mutant(r *rand.Rand, b, real []byte) []byte {
	at := len(b)
	room := 1500 - at
	fill := func(n int) {
		for range n {
			b = append(b, byte(r.Uint32()))
		}
	}
	real = real[:min(len(real), room)]
	switch r.IntN(8) {
	case 0: // noise
		fill(r.IntN(room))
	case 1: // noise behind a good beginning
		b = append(b, real[:r.IntN(len(real)+1)]...)
		fill(r.IntN(room - (len(b) - at) + 1))
	case 2: // cut
		b = append(b, real[:r.IntN(len(real)+1)]...)
	case 3: // lengthened
		b = append(b, real...)
		fill(r.IntN(room - len(real) + 1))
	case 4: // repeated
		b = append(b, real...)
	default: // a few bits or bytes turned
		b = append(b, real...)
		for range 1 + r.IntN(4) {
			// Most of what matters stands in front.
			i := at + r.IntN(min(len(real), 1<<(3+r.IntN(8))))
			b[i] ^= byte(1 << r.IntN(8))
			if r.IntN(4) == 0 {
				b[i] = byte(r.Uint32())
			}
		}
	}
	return b
}

// lastLines gives the end of a program's output.
func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], ", ")
}
