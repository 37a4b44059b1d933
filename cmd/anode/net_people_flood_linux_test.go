package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestNetPeopleAsks: thousands of strangers ask a daemon to be let in, from thousands of addresses, while it
// carries traffic between peers at full speed. The list stays short, its memory too, and somebody who is honest is
// listed within a minute.
//
// The strangers run on the cores that the daemons use. What they take of the throughput is seen beside as many who
// compute the same and send it to a port that nobody reads: all further loss is the daemon's.
func TestNetPeopleAsks(t *testing.T) {
	if !long() {
		t.Skip("takes three minutes; LONG=1 asks for it")
	}
	const strangers, rate, rounds, seconds = 10_000, 170, 3, 6
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
	s := newSwarm(evil)
	const each = (seconds + 1) * rate
	list, nobody := s.callers(n.address, 0, strangers, false), s.callers(n.address, 0, rounds*each, true)
	node, silent := netip.MustParseAddrPort("10.0.1.1:8737"), netip.MustParseAddrPort("10.0.1.1:9999")

	speed := func(seconds int) float64 {
		return b.iperf(n, fmt.Sprintf("-t%d", seconds)) / 1e6
	}
	beside := func(to netip.AddrPort, list []*caller) (mbit float64) {
		var calling sync.WaitGroup
		calling.Go(func() { s.run(to, rate, list) })
		time.Sleep(500 * time.Millisecond)
		mbit = speed(seconds)
		calling.Wait()
		return mbit
	}
	take := func(list *[]*caller, count int) (some []*caller) {
		count = min(count, len(*list))
		some, *list = (*list)[:count], (*list)[count:]
		return some
	}

	speed(2)
	s.run(node, rate, take(&list, 1)) // what is used the first time is no growth
	before := n.pages()
	idle := n.cpu()
	time.Sleep(3 * time.Second)
	idle = (n.cpu() - idle) / 3
	cpu, asked, began := n.cpu(), s.asked(), time.Now()
	s.run(node, rate, take(&list, 10*rate))
	spent := n.cpu() - cpu - time.Duration(time.Since(began).Seconds()*float64(idle))
	t.Logf("%d strangers, %d of them answered: %.2f s of CPU for each 1,000; memory grew by %v", 10*rate, s.asked()-asked, spent.Seconds()/float64(10*rate)*1000, n.pages().since(before))

	var alone, fair, loud []float64
	for range rounds {
		alone = append(alone, speed(seconds))
		fair = append(fair, beside(silent, take(&nobody, each)))
		loud = append(loud, beside(node, take(&list, each)))
		t.Logf("%.0f Mbit/s alone, %.0f beside strangers who meet nobody, %.0f beside those who ask", alone[len(alone)-1], fair[len(fair)-1], loud[len(loud)-1])
	}
	var calling sync.WaitGroup
	calling.Go(func() { s.run(node, rate, list) })
	time.Sleep(time.Second)
	since := time.Now()
	honest.anode("peers", "ask", n.address.String(), "--note", "from the party")
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
	within(t, time.Minute-time.Since(since), "the honest request", listed)
	took := time.Since(since)
	calling.Wait()
	if !listed() {
		t.Error("the honest request was pushed out")
	}
	c := n.status().Counters
	grown := n.pages().since(before)
	t.Logf("listed within %v, %d on the list; memory grew by %v; %d handshakes, %d answered", took, most, grown, c["handshakes"], s.asked())
	ofFair, ofAlone := medianOf(loud)/medianOf(fair), medianOf(loud)/medianOf(alone)
	t.Logf("%.0f %% of the throughput beside as many who meet nobody; %.0f %% of that alone", 100*ofFair, 100*ofAlone)
	if ofFair < 0.9 {
		t.Errorf("%.0f %% of the throughput beside as many who meet nobody", 100*ofFair)
	}
	if most > 65 || most < 2 {
		t.Errorf("%d are listed", most)
	}
	if c["handshakes"] < uint64(strangers/10) {
		t.Errorf("%d handshakes of %d strangers: that proves nothing", c["handshakes"], strangers)
	}
	if grown.anon+grown.file > 8<<10 { // of which the heap that is to be collected is most
		t.Errorf("memory grew by %v", grown)
	}
}

// pages are what a daemon has resident, in kB: of its own, and of files.
type pages struct{ anon, file int }

func (h *host) pages() pages {
	return pages{h.proc("status", "RssAnon"), h.proc("status", "RssFile")}
}

func (m pages) since(before pages) pages { return pages{m.anon - before.anon, m.file - before.file} }

func (m pages) String() string {
	return fmt.Sprintf("%d kB of its own and %d kB of files", m.anon, m.file)
}

// medianOf is the median.
func medianOf(list []float64) float64 {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}
