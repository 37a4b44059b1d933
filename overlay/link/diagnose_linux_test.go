package link

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nft sets the ruleset of the namespace.
func (n *namespace) nft(rules string) {
	n.t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			n.t.Fatal(err)
		}
		n.t.Skip(err)
	}
	var out []byte
	var err error
	n.do(func() {
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader("flush ruleset\n" + strings.ReplaceAll(rules, "}", "\n}\n"))
		out, err = c.CombinedOutput()
	})
	if err != nil {
		n.t.Fatalf("nft: %v: %s", err, out)
	}
}

// TestDiagnose has what keeps a datagram from an endpoint, with both families.
func TestDiagnose(t *testing.T) {
	a, b := cable(t)
	a.ip("link set lo up") // by which our own system reports a neighbour that is not there
	s := &System{}
	b.listen(s, Port)
	drop := `table inet f { chain out { type filter hook output priority 0; udp dport 8737 drop; } }`
	for _, c := range []struct {
		name   string
		at     string
		ar, br string // rulesets of a and b
		want   Symptom
	}{
		{"a socket that does not answer", "10.77.0.2:8737", "", "", Silence},
		{"a port that nobody has, IPv4", "10.77.0.2:9999", "", "", PortClosed},
		{"a port that nobody has, IPv6", "[fd77::2]:9999", "", "", PortClosed},
		{"a port that nobody has, link-local", "[fe80::2]:9999", "", "", PortClosed},
		{"a neighbour that is not there, IPv4", "10.77.0.77:8737", "", "", NoHost},
		{"a neighbour that is not there, IPv6", "[fd77::77]:8737", "", "", NoHost},
		{"a firewall that rejects, IPv4", "10.77.0.2:8737", "", reject("icmpx admin-prohibited"), Rejected},
		{"a firewall that rejects, IPv6", "[fd77::2]:8737", "", reject("icmpx admin-prohibited"), Rejected},
		{"a firewall that plays an absent host", "10.77.0.2:8737", "", reject("icmp host-unreachable"), NoHost},
		{"a firewall that plays a closed port", "[fd77::2]:8737", "", reject("icmpx port-unreachable"), PortClosed},
		{"a firewall here, IPv4", "10.77.0.2:8737", drop, "", SendRefused},
		{"a firewall here, IPv6", "[fd77::2]:8737", drop, "", SendRefused},
		{"no route, IPv4", "192.0.2.1:8737", "", "", NoRoute},
		{"no route, IPv6", "[2001:db8::1]:8737", "", "", NoRoute},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.nft(c.ar)
			b.nft(c.br)
			ep := Endpoint{Addr: netip.MustParseAddrPort(c.at)}
			if ep.Addr.Addr().IsLinkLocalUnicast() {
				ep.If = a.index()
			}
			var got Symptom
			a.do(func() { got = s.Diagnose(t.Context(), ep) })
			if got != c.want {
				t.Errorf("symptom %d, want %d", got, c.want)
			}
		})
	}
}

func reject(with string) string {
	family := "inet"
	if strings.HasPrefix(with, "icmp ") {
		family = "ip"
	}
	return "table " + family + " f { chain in { type filter hook input priority 0; udp dport 8737 reject with " + strings.Replace(with, "icmp ", "icmp type ", 1) + "; } }"
}

// A diagnosis ends with its context.
func TestDiagnoseEnds(t *testing.T) {
	s := &System{}
	conn, err := s.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ep := Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), conn.LocalPort())}
	ended, end := context.WithCancel(t.Context())
	end()
	if x := s.Diagnose(ended, ep); x != Silence {
		t.Errorf("symptom %d", x)
	}
	soon, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if x := s.Diagnose(soon, ep); x != Silence || soon.Err() == nil {
		t.Errorf("symptom %d, %v", x, soon.Err())
	}
}

func FuzzParseICMP(f *testing.F) {
	f.Add([]byte{111, 0, 0, 0, 2, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{13, 0, 0, 0, 3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9})
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, ok := parseICMP(b)
		switch {
		case !ok && x != Silence, ok && x == Silence, x == SendRefused, x == NoRoute:
			t.Errorf("%x: symptom %d, %v", b, x, ok)
		case ok && b[4] == unix.SO_EE_ORIGIN_LOCAL && unix.Errno(binary.NativeEndian.Uint32(b)) != unix.EHOSTUNREACH:
			t.Errorf("%x: an error of our own system", b)
		}
	})
}
