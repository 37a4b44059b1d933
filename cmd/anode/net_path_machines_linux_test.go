package main_test

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// TestNetMachines: two machines with one identity, one of them a copy of the other's disk
// or with a state of its own, both work, at once.
//
//	n ── 10.0.1.0/24 ── m1
//	      '── m2, the same address
func TestNetMachines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		copied []string // of the state directory
	}{
		{"a copy of the whole state", []string{"identity", "state.db"}},
		{"the same identity", []string{"identity"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, m1, m2 := newHost(t, "n"), newHost(t, "m1"), newMachine(t, "m2")
			join(1, n, m1, m2)
			n.add(m1)
			m1.add(n)
			m1.up(quiet...) // its peer ID is drawn
			m1.down(15)
			if err := os.Mkdir(m2.state(), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range c.copied {
				m2.run("cp", "-a", filepath.Join(m1.state(), file), m2.state())
			}
			m2.identify()
			if m2.address != m1.address {
				t.Fatalf("%s is no copy of %s", m2.address, m1.address)
			}
			if !slices.Contains(c.copied, "state.db") {
				m2.add(n)
			}
			n.up(quiet...)
			machines := []*host{m1, m2}
			for _, m := range machines {
				m.up(quiet...)
			}
			// What has to be settled between the two is, after a while.
			for start := time.Now(); time.Since(start) < 6*time.Second; time.Sleep(100 * time.Millisecond) {
				m1.pings(n)
				m2.pings(n)
			}

			cable := n.capture("eth1")
			var pings []*pinger
			var asks []*process
			for _, m := range machines {
				pings = append(pings, m.pinging(n, 50*time.Millisecond, 100))
				asks = append(asks, m.start(m.bin, "ping", "n", "-c20", "-i0.1", "-W1", "--socket", m.socket()))
			}
			for _, p := range pings {
				p.atLeast(t, 60) // 3 s
			}
			for i, m := range machines {
				pings[i].stop()
				sent, answered := pings[i].score(time.Time{}, time.Now())
				asks[i].wait(20 * time.Second)
				out := lastLines(asks[i].output(), 2)
				t.Logf("%s: %d of %d pings are answered; anode ping: %s", m.name, answered, sent, out)
				if answered != sent {
					t.Errorf("%s: %d of %d pings are answered", m.name, answered, sent)
				}
				if !strings.Contains(out, " 20 received") {
					t.Errorf("%s: anode ping: %s", m.name, out)
				}
			}
			ids := peerIDs(cable.stop(), m1)
			t.Logf("peer IDs by MAC: %v", ids)
			if got := slices.Collect(maps.Values(ids)); len(got) != 2 || got[0] == got[1] {
				t.Errorf("the machines' peer IDs are %v, want two that differ", ids)
			}
			for _, m := range machines {
				up, down := streaming(t, m, n, false, 1<<20), streaming(t, m, n, true, 1<<20)
				time.Sleep(1500 * time.Millisecond)
				for _, s := range []*stream{up, down} {
					s.healthy(t, s.began.Add(slot), time.Second)
					s.stop()
				}
			}
			if slices.Contains(c.copied, "state.db") && !noticed(m1) && !noticed(m2) {
				t.Errorf("neither machine's status says that there is a copy (%q)", copiesField)
			}
			sound(t, n, m1, m2)
		})
	}
}

// copiesField is where status --json tells of machines that had our peer ID.
const copiesField = "copies"

// noticed reports whether a daemon says that it has seen a copy of itself.
func noticed(h *host) bool {
	h.t.Helper()
	var status map[string]any
	h.decode(h.anode("status", "--json"), &status)
	switch v := status[copiesField].(type) {
	case float64:
		return v > 0
	case bool:
		return v
	case []any:
		return len(v) > 0
	}
	return false
}

// peerIDs returns the peer IDs in the headers of a node's packets, by the MAC of the machine that
// they came from, by IPv4 or IPv6; the last of each.
func peerIDs(frames [][]byte, of *host) map[string]uint8 {
	ids := map[string]uint8{}
	for _, f := range frames {
		p := payload(f)
		if p == nil {
			continue
		}
		from := net.HardwareAddr(f[6:12]).String()
		if wire.IsSealed(p) {
			if wire.SealedSender(p) == of.id {
				ids[from], _ = wire.SealedPeers(p)
			}
		} else if h, _, err := wire.Parse(p); err == nil && h.Sender.ShortID() == of.id {
			ids[from] = h.SenderPeer
		}
	}
	return ids
}

// quiet has a node send nothing of its own accord that a test did not ask for.
var quiet = slices.Clip([]string{"--set", "info2.enabled=false"})
