package path

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/overlay/mono"
)

// samples reads "m 1 192.0.2.1:1024": main socket or the second socket with a number, relay, seen;
// one each 100 ms. The main socket has port 8737, the others 5001 and on. Relay 1 has address
// 51.0.0.1, and 1b another port of it.
func samples(t *testing.T, text string) (list []Sample) {
	t.Helper()
	now := mono.At(time.Hour)
	for line := range strings.SplitSeq(text, ",") {
		f := strings.Fields(line)
		if len(f) == 1 && f[0] == "pause" {
			now = now.Add(time.Minute)
			continue
		}
		if len(f) != 3 {
			t.Fatalf("%q", line)
		}
		relay, port, isB := f[1], uint16(8737), false
		if relay, isB = strings.CutSuffix(relay, "b"); isB {
			port = 1
		}
		s := Sample{Local: 8737, Main: f[0] == "m", Seen: netip.MustParseAddrPort(f[2]), At: now}
		to := "51.0.0." + relay
		if s.Seen.Addr().Is6() {
			to = "2001:db8::" + relay
		}
		s.To = netip.AddrPortFrom(netip.MustParseAddr(to), port)
		if !s.Main {
			fmt.Sscan(f[0], &s.Local)
			s.Local += 5000
		}
		list = append(list, s)
		now = now.Add(100 * time.Millisecond)
	}
	return list
}

func TestClassify(t *testing.T) {
	own := func(a netip.Addr) bool { return a == netip.MustParseAddr("203.0.113.9") }
	for _, c := range []struct {
		name, samples string
		kind          MappingKind
		ports         PortKind
		step          int
		last          string
	}{
		{"nobody", "", Unknown, PortsUnknown, 0, "invalid AddrPort"},
		{"IPv6 alone", "m 1 [2001:db8::7]:8737", Unknown, PortsUnknown, 0, "invalid AddrPort"},
		{"no NAT", "m 1 203.0.113.9:8737", None, PortsUnknown, 0, "203.0.113.9:8737"},
		{"our address, another port", "m 1 203.0.113.9:8738", Unknown, PortsUnknown, 0, "203.0.113.9:8738"},
		{"one relay, preserved once", "m 1 192.0.2.1:8737", Unknown, PortsUnknown, 0, "192.0.2.1:8737"},
		{"one relay, preserved twice", "m 1 192.0.2.1:8737, 1 1 192.0.2.1:5001", Independent, Preserved, 0, "192.0.2.1:8737"},
		{"two relays", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1024", Independent, PortsUnknown, 0, "192.0.2.1:1024"},
		{"two relays, preserved", "m 1 192.0.2.1:8737, m 2 192.0.2.1:8737, 1 1 192.0.2.1:5001", Independent, Preserved, 0, "192.0.2.1:8737"},
		{"a twin has the port", "m 1 192.0.2.1:1024, 1 1 192.0.2.1:5001", Unknown, Preserved, 0, "192.0.2.1:1024"},
		{"a twin has the port, two relays", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1024, 1 1 192.0.2.1:5001", Independent, Preserved, 0, "192.0.2.1:1024"},
		{"a twin has the port, symmetric", "m 1 192.0.2.1:1024, m 2 192.0.2.1:60000, 1 1 192.0.2.1:5001", Dependent, Preserved, 0, "192.0.2.1:60000"},
		{"independent, random", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1024, 1 1 192.0.2.1:60000, 2 1 192.0.2.1:3, 3 1 192.0.2.1:777", Independent, Random, 0, "192.0.2.1:1024"},
		{"independent, sequential", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1024, 1 1 192.0.2.1:1925, 2 1 192.0.2.1:1926, 3 1 192.0.2.1:1927", Independent, Sequential, 1, "192.0.2.1:1024"},
		{"two ports of one relay tell nothing", "m 1 192.0.2.1:1024, m 1b 192.0.2.1:1024", Unknown, PortsUnknown, 0, "192.0.2.1:1024"},
		{"two ports of one relay differ", "m 1 192.0.2.1:1024, m 1b 192.0.2.1:1030", Dependent, PortsUnknown, 0, "192.0.2.1:1030"},
		{"symmetric, one step", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1025", Dependent, PortsUnknown, 0, "192.0.2.1:1025"},
		{"symmetric, sequential", "m 1 192.0.2.1:1025, m 2 192.0.2.1:1024, 1 1 192.0.2.1:1026, 2 1 192.0.2.1:1027, 3 1 192.0.2.1:1028", Dependent, Sequential, 1, "192.0.2.1:1028"},
		{"symmetric, down by two", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1022, 1 1 192.0.2.1:1020, 2 1 192.0.2.1:1018, 3 1 192.0.2.1:1016", Dependent, Sequential, -2, "192.0.2.1:1016"},
		{"symmetric, another program in between", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1025, 1 1 192.0.2.1:1028, 2 1 192.0.2.1:1031, 3 1 192.0.2.1:1032", Dependent, Sequential, 1, "192.0.2.1:1032"},
		{"symmetric, up and down", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1025, 1 1 192.0.2.1:1023, 2 1 192.0.2.1:1024, 3 1 192.0.2.1:1022", Dependent, Random, 0, "192.0.2.1:1025"},
		{"symmetric, random", "m 1 192.0.2.1:1024, m 2 192.0.2.1:31000", Dependent, PortsUnknown, 0, "192.0.2.1:31000"},
		{"one relay, sequential", "m 1 192.0.2.1:1024, 1 1 192.0.2.1:1025, 2 1 192.0.2.1:1026, 3 1 192.0.2.1:1027", Unknown, Sequential, 1, "192.0.2.1:1027"},
		{"one relay, random", "m 1 192.0.2.1:1024, 1 1 192.0.2.1:9, 2 1 192.0.2.1:99, 3 1 192.0.2.1:777", Unknown, Random, 0, "192.0.2.1:1024"},
		{"symmetric, bytes swapped", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1280, 1 1 192.0.2.1:1536, 2 1 192.0.2.1:1792, 3 1 192.0.2.1:2048", Dependent, Sequential, 256, "192.0.2.1:2048"},
		{"bytes swapped, others in between", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1280, 1 1 192.0.2.1:1536, 2 1 192.0.2.1:1792, 3 1 192.0.2.1:2560", Dependent, Sequential, 256, "192.0.2.1:2560"},
		{"bytes swapped, with a carry", "m 1 192.0.2.1:1024, m 2 192.0.2.1:1280, 1 1 192.0.2.1:65031, 2 1 192.0.2.1:65287, 3 1 192.0.2.1:8", Dependent, Sequential, 256, "192.0.2.1:8"},
		{"symmetric, a long step", "m 1 192.0.2.1:1024, m 2 192.0.2.1:2024, 1 1 192.0.2.1:3024, 2 1 192.0.2.1:4024, 3 1 192.0.2.1:5024", Dependent, Sequential, 1000, "192.0.2.1:5024"},
		{"a long step once", "m 1 192.0.2.1:1024, m 2 192.0.2.1:2024, 1 1 192.0.2.1:3024, 2 1 192.0.2.1:4024", Dependent, PortsUnknown, 0, "192.0.2.1:2024"},
		{"a long step, another program in between", "m 1 192.0.2.1:1024, m 2 192.0.2.1:2024, 1 1 192.0.2.1:3024, 2 1 192.0.2.1:5024, 3 1 192.0.2.1:6024", Dependent, Sequential, 1000, "192.0.2.1:6024"},
		{"two long steps", "m 1 192.0.2.1:1024, m 2 192.0.2.1:2024, 1 1 192.0.2.1:3024, 2 1 192.0.2.1:4024, 3 1 192.0.2.1:5025", Dependent, Random, 0, "192.0.2.1:2024"},
		{"a minute later is no step", "m 1 192.0.2.1:1024, 1 1 192.0.2.1:1025, pause, 2 1 192.0.2.1:1026, pause, 3 1 192.0.2.1:1027", Unknown, PortsUnknown, 0, "192.0.2.1:1024"},
		{"the last of three lies", "m 1 192.0.2.1:8737, m 2 192.0.2.1:8737, 1 1 192.0.2.1:5001, m 3 198.51.100.1:1", Independent, Preserved, 0, "192.0.2.1:8737"},
		{"the first of three lies", "m 3 198.51.100.1:1, m 1 192.0.2.1:8737, m 2 192.0.2.1:8737", Independent, PortsUnknown, 0, "192.0.2.1:8737"},
		{"the one in the middle lies", "m 1 192.0.2.1:8737, m 3 198.51.100.1:1, m 2 192.0.2.1:8737", Independent, PortsUnknown, 0, "192.0.2.1:8737"},
		{"in IPv6", "m 1 [::ffff:192.0.2.1]:8737, 1 1 192.0.2.1:5001", Independent, Preserved, 0, "192.0.2.1:8737"},
	} {
		list := []Sample(nil)
		if c.samples != "" {
			list = samples(t, c.samples)
		}
		if c.name == "in IPv6" { // as a dual-stack socket has it
			list[0].To = netip.MustParseAddrPort("[::ffff:51.0.0.1]:8737")
		}
		m := Classify(list, own)
		if m.Kind != c.kind || m.Ports != c.ports || m.Step != c.step || m.Last.String() != c.last {
			t.Errorf("%s: %v, ports %v, step %d, last %v; want %v, %v, %d, %s", c.name, m.Kind, m.Ports, m.Step, m.Last, c.kind, c.ports, c.step, c.last)
		}
	}
}

// What many say, and in which order it is passed, has no effect but that on the answer.
func TestClassifyAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var list []Sample
		for range r.IntN(12) {
			list = append(list, Sample{Local: uint16(r.IntN(3)), Main: r.IntN(2) == 0, At: mono.Time(r.IntN(9)),
				To:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{51, 0, 0, byte(r.IntN(3))}), uint16(r.IntN(2))),
				Seen: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(2))}), uint16(r.IntN(60)))})
		}
		m := Classify(list, func(netip.Addr) bool { return r.IntN(2) == 0 })
		if m.Last.IsValid() != (len(list) > 0) || (m.Ports == Sequential) != (m.Step != 0) {
			t.Fatalf("%+v of %+v", m, list)
		}
		_ = fmt.Sprint(m.Kind, m.Ports)
	}
}
