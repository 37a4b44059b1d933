package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestJudgeNames(t *testing.T) {
	ula, other := netip.MustParseAddr("fd12::1"), netip.MustParseAddr("2001:db8::1")
	yes, no, silent := nameStep{addrs: []netip.Addr{ula}}, nameStep{}, nameStep{err: errors.New("time\x1bout")}
	absent := nameStep{absent: true}
	const report = "there is no D-Bus"
	for name, c := range map[string]struct {
		direct, stub, libc nameStep
		report             string
		want               string // code, verdict and a part of the text
	}{
		"fine":                  {yes, yes, yes, report, "names fine leads to this machine"},
		"fine without resolved": {yes, absent, yes, report, "names fine "},
		"fine by dnsmasq":       {yes, no, yes, report, "names fine "},
		"the daemon is silent":  {silent, yes, no, report, "names_server warn [fd12::1]:53 does not answer for self.anode.internal: time?out"},
		"the daemon is wrong":   {no, yes, yes, report, "names_server warn no such name"},
		"another machine":       {yes, yes, nameStep{addrs: []netip.Addr{other}}, report, "names_other bad 2001:db8::1"},
		"resolv.conf":           {yes, yes, no, report, "names_resolv_conf warn does not lead to it"},
		"no getent":             {yes, yes, absent, report, "names_resolv_conf warn "},
		"resolved does not ask": {yes, no, no, report, "names_not_asked warn does not ask it: it knows no such name"},
		"resolved hangs":        {yes, silent, silent, report, "names_not_asked warn time?out"},
		"no resolver":           {yes, absent, no, report, "names_no_resolver warn (there is no D-Bus)"},
		"nothing is known":      {yes, absent, no, "", "names_no_resolver warn nothing asks the daemon"},
	} {
		got := judgeNames(nameFacts{"self.anode.internal", ula, netip.MustParseAddrPort("[fd12::1]:53"), c.direct, c.stub, c.libc, c.report, "one\ntwo"})
		code, rest, _ := strings.Cut(c.want, " ")
		v, text, _ := strings.Cut(rest, " ")
		if len(got) != 1 || got[0].Check != "names" || got[0].Code != code || string(got[0].Verdict) != v || !strings.Contains(got[0].Says, text) || (got[0].Try == "") != (got[0].Verdict == fine) || strings.Contains(got[0].Try, "\n") {
			t.Errorf("%s: got %+v, want %s", name, got, c.want)
		}
	}
}

// TestAskDNS asks a server of the test's.
func TestAskDNS(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ula := netip.MustParseAddr("fd12::1")
	go func() {
		b := make([]byte, 600)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 || m.Questions[0].Type != dnsmessage.TypeAAAA {
				continue
			}
			m.Response = true
			switch m.Questions[0].Name.String() {
			case "self.anode.internal.":
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AAAAResource{AAAA: ula.As16()}}}
			case "refused.":
				m.RCode = dnsmessage.RCodeRefused
			default:
				m.RCode = dnsmessage.RCodeNameError
			}
			if b, err := m.Pack(); err == nil {
				c.WriteTo(b, from)
			}
		}
	}()
	for name, want := range map[string]string{"self.anode.internal": "fd12::1", "nobody.anode.internal": "", "refused": "it answers Refused"} {
		s := askDNS(t.Context(), c.LocalAddr().String(), name)
		got := ""
		if s.err != nil {
			got = s.err.Error()
		} else if len(s.addrs) > 0 {
			got = s.addrs[0].String()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if s := askDNS(t.Context(), c.LocalAddr().String(), strings.Repeat("x", 300)); s.err == nil {
		t.Error("a name that is too long was asked for")
	}
}

func FuzzReadAnswer(f *testing.F) {
	q, err := nameQuery("self.anode.internal")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q)
	f.Add(append([]byte{0, 1, 0x84, 0}, q[4:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		addrs, err := readAnswer(b)
		if err != nil && len(addrs) > 0 || slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !a.IsValid() }) {
			t.Errorf("%v, %v", addrs, err)
		}
	})
}

// TestNameWait: the check must end before doctor gives it up.
func TestNameWait(t *testing.T) {
	if nameWait > checkLimit-500*time.Millisecond {
		t.Error(nameWait)
	}
}
