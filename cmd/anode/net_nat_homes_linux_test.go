package main_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/overlay"
)

// TestNetNATHomes: two homes without any server of theirs. Both name a public STUN server, and each
// pastes what "id --reach" prints at the other one.
func TestNetNATHomes(t *testing.T) {
	for _, c := range []struct {
		name   string
		a, b   string
		meet   bool
		chance string // of a, as it says
	}{
		{"ports kept", "home", "home", true, "fair"},
		{"one opens a port", "pcp", "home", true, "good"},
		{"symmetric", "random", "random", false, "poor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			l.a, l.b = newHost(t, "a"), newHost(t, "b")
			l.put(l.a, behind(c.a), 1, nil)
			l.put(l.b, behind(c.b), 2, nil)
			server := newMachine(t, "stun")
			l.put(server, centre, firstRelay, nil)
			l.rules()
			for _, port := range []int{3478, 3479} {
				go answerSTUN(server.bind(port))
			}
			for _, h := range []*host{l.a, l.b} {
				h.launch(append(debugging, "--set", "stun=udp:9.0.3.2:3478,udp:9.0.3.2:3479")...)
			}
			l.a.knows(c.chance)
			l.b.knows("")
			l.a.paste(l.b)
			l.b.paste(l.a)
			if c.meet {
				t.Logf("they met after %v", l.a.meets(l.b))
				if got := l.way(l.a, l.b); got != direct {
					t.Errorf("the path is %s", got)
				}
				return
			}
			note := l.a.reachNote()
			if !strings.Contains(note, "probably not work") || !strings.Contains(note, "forward a UDP port") || !strings.Contains(note, "third one") {
				t.Errorf("id --reach says: %s", note)
			}
			out, code := l.a.tryAnode("why", l.b.name)
			text := strings.Join(strings.Fields(out), " ")
			if code != 5 || !strings.Contains(text, "symmetric NAT") || !strings.Contains(text, "a third one that both can reach") {
				t.Errorf("why ends with %d and says: %s", code, out)
			}
			if got, _ := l.reason(); got != overlay.ReasonNoAnswer {
				t.Errorf("the code is %q", got)
			}
		})
	}
}

// knows waits until the host knows its endpoints, and how good the chances are; empty: whatever.
func (h *host) knows(chance string) {
	h.t.Helper()
	within(h.t, 20*time.Second, h.name+"'s endpoints to be known", func() bool {
		var x struct{ Chance string }
		out, code := h.tryAnode("id", "--reach", "--json")
		if code != 0 {
			return false
		}
		h.decode(out, &x)
		return chance == "" || x.Chance == chance
	})
}

// paste adds another host by the line that it prints.
func (h *host) paste(other *host) {
	h.t.Helper()
	var x struct{ Reach string }
	other.decode(other.anode("id", "--reach", "--json"), &x)
	h.anode("peers", "add", x.Reach, other.name)
}

// reachNote is what id --reach prints beside the line.
func (h *host) reachNote() string {
	h.t.Helper()
	out, _ := h.tryAnode("id", "--reach")
	return strings.Join(strings.Fields(out), " ")
}

// answerSTUN is a STUN server: it answers Binding requests (RFC 8489) with XOR-MAPPED-ADDRESS.
func answerSTUN(c *net.UDPConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		if n < 20 || binary.BigEndian.Uint16(b) != 1 {
			continue
		}
		c.WriteToUDPAddrPort(bindingResponse(b[4:20], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())), from)
	}
}

// bindingResponse says where a request came from; its cookie and transaction ID are given.
func bindingResponse(id []byte, from netip.AddrPort) []byte {
	r := append([]byte{1, 1, 0, 12}, id...)
	r = append(r, 0, 0x20, 0, 8, 0, 1)
	r = binary.BigEndian.AppendUint16(r, from.Port()^binary.BigEndian.Uint16(id))
	ip := from.Addr().As4()
	for k := range ip {
		r = append(r, ip[k]^id[k])
	}
	return r
}
