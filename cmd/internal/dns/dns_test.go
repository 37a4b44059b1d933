package dns

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
)

const suffix = "anode.internal"

// scene is a machine, its peers, and what they mean.
type scene struct {
	self, north, nameless, south, blocked, away, stranger anode.Address
	*Snapshot
}

func newAddress(t testing.TB, z anode.Zone) anode.Address {
	t.Helper()
	id, err := anode.NewIdentity(z)
	if err != nil {
		t.Fatal(err)
	}
	return id.Address()
}

func newScene(t testing.TB) *scene {
	s := &scene{self: newAddress(t, 0), north: newAddress(t, 0), nameless: newAddress(t, 0), south: newAddress(t, 0xdeadbeef), blocked: newAddress(t, 0), away: newAddress(t, 0x01020304), stranger: newAddress(t, 0)}
	s.Snapshot = New(Contents{
		Suffix: "Anode.Internal.", Serial: 7,
		Self:    s.self,
		Peers:   []Peer{{s.north, "north"}, {s.nameless, ""}, {s.south, "south_2"}},
		Blocked: []anode.Address{s.blocked}, Zones: []anode.Zone{0, 0xdeadbeef},
		Services: map[anode.Address][]Service{
			s.self:  {{Port: 22, Proto: "tcp", Type: "ssh"}},
			s.north: {{Port: 8080, Proto: "tcp", Type: "http", Name: "web", TXT: []string{"path=/", "v=2"}}, {Port: 8081, Proto: "tcp", Type: "http", Name: "wiki"}, {Port: 53, Proto: "udp", Type: "x-y"}, {Port: 1, Proto: "sctp", Type: "bad"}},
		},
		Alias: func(u anode.ULA) (netip.Addr, bool) {
			a, ok := map[anode.ULA]string{s.self.ULA(): "100.64.0.1", s.north.ULA(): "100.64.0.2"}[u]
			return netip.MustParseAddr(cmp.Or(a, "::")), ok
		},
		Stranger: func(u anode.ULA) (anode.Address, bool) {
			for _, a := range []anode.Address{s.stranger, s.blocked} {
				if a.ULA() == u {
					return a, true
				}
			}
			return anode.Address{}, false
		},
	})
	return s
}

// ask is a query; what its fields leave open is usual.
type ask struct {
	name    string
	kind    dnsmessage.Type
	class   dnsmessage.Class
	opcode  dnsmessage.OpCode
	edns    int // size; 0: none
	version int
	tcp     bool
}

func (a ask) message(t testing.TB) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 0x1234, RecursionDesired: true, CheckingDisabled: true, OpCode: a.opcode})
	b.StartQuestions()
	name, err := dnsmessage.NewName(a.name)
	if err != nil {
		t.Fatal(a.name, err)
	}
	if err := b.Question(dnsmessage.Question{Name: name, Type: a.kind, Class: cmp.Or(a.class, dnsmessage.ClassINET)}); err != nil {
		t.Fatal(a.name, err)
	}
	if a.edns > 0 {
		b.StartAdditionals()
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(a.edns, 0, true)
		h.TTL |= uint32(a.version) << 16
		b.OPTResource(h, dnsmessage.OPTResource{})
	}
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// answered is what people read of a reply: its code, flags, and records by section.
func answered(t testing.TB, reply []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("% x: %v", reply, err)
	}
	if !m.Response || m.RecursionAvailable {
		t.Errorf("%+v", m.Header)
	}
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	if !m.Authoritative {
		words = append(words, "not-authoritative")
	}
	if m.Truncated {
		words = append(words, "cut")
	}
	for _, r := range m.Answers {
		if r.Header.TTL != ttl {
			t.Errorf("a TTL of %d", r.Header.TTL)
		}
		words = append(words, recordText(r))
	}
	for _, r := range m.Authorities {
		if r.Header.TTL != negative || r.Body.(*dnsmessage.SOAResource).MinTTL != negative {
			t.Errorf("a TTL of %d", r.Header.TTL)
		}
		words = append(words, "authority:"+recordText(r))
	}
	for _, r := range m.Additionals {
		if r.Header.Type == dnsmessage.TypeOPT {
			words = append(words, fmt.Sprintf("opt:%d:%d:%t", r.Header.Class, r.Header.ExtendedRCode(m.RCode), r.Header.DNSSECAllowed()))
		} else {
			words = append(words, "beside:"+recordText(r))
		}
	}
	return strings.Join(words, " ")
}

func recordText(r dnsmessage.Resource) string {
	switch b := r.Body.(type) {
	case *dnsmessage.AAAAResource:
		return "AAAA=" + netip.AddrFrom16(b.AAAA).String()
	case *dnsmessage.AResource:
		return "A=" + netip.AddrFrom4(b.A).String()
	case *dnsmessage.TXTResource:
		return "TXT=" + strings.Join(b.TXT, ",")
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("SRV=%d:%s", b.Port, b.Target)
	case *dnsmessage.PTRResource:
		return "PTR=" + b.PTR.String()
	case *dnsmessage.NSResource:
		return "NS=" + b.NS.String()
	case *dnsmessage.SOAResource:
		return "SOA:" + r.Header.Name.String()
	}
	return r.GoString()
}

func reverseOf(u anode.ULA) string { return nibbles(u, 32) + "." }

// TestNames: each row of the table of names.
func TestNames(t *testing.T) {
	s := newScene(t)
	six := func(a anode.Address) string { return "Success AAAA=" + a.ULA().String() }
	text := func(a anode.Address) string { return "Success TXT=" + a.TXT() }
	const (
		none    = "Success authority:SOA:anode.internal."
		nothing = "NameError authority:SOA:anode.internal."
		refused = "Refused not-authoritative"
		aaaa    = dnsmessage.TypeAAAA
		a4      = dnsmessage.TypeA
		ptr     = dnsmessage.TypePTR
		txt     = dnsmessage.TypeTXT
		srv     = dnsmessage.TypeSRV
		any     = dnsmessage.TypeALL
		https   = dnsmessage.Type(65)
	)
	north, other := s.north.String(), s.stranger.String()
	beside := " beside:AAAA=" + s.north.ULA().String()
	web, wiki := "SRV=8080:north.anode.internal.", "SRV=8081:north.anode.internal."
	rev := s.north.ULA()
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"north", aaaa, six(s.north)}, {"NoRtH", aaaa, six(s.north)}, {"north", txt, text(s.north)},
		{"north", a4, none}, {"north", https, none}, {"north", dnsmessage.TypeMX, none}, {"north", dnsmessage.TypeHINFO, none}, {"north", srv, none},
		{"north", any, six(s.north)}, {"south_2", aaaa, six(s.south)},
		{"nort", aaaa, nothing}, {"nort", a4, nothing}, {"north.x", aaaa, nothing}, {"blocked", aaaa, nothing}, {"nameless", aaaa, nothing},
		{"git.north", aaaa, six(s.north)}, {"a.b.north", aaaa, six(s.north)}, {"a.b.north", a4, none}, {"north.north", aaaa, six(s.north)},
		{"self", aaaa, six(s.self)}, {"git.self", aaaa, six(s.self)}, {"self", txt, text(s.self)}, {"self", a4, none},
		{"v4.north", a4, "Success A=100.64.0.2"}, {"v4.north", aaaa, none}, {"x.v4.north", a4, "Success A=100.64.0.2"}, {"v4.self", a4, "Success A=100.64.0.1"},
		{"v4.south_2", a4, none}, {"v4.south_2", aaaa, none}, {"v4.north", any, "Success A=100.64.0.2"}, {"v4", a4, nothing},
		{names.Labels(s.north), aaaa, six(s.north)}, {names.Labels(s.stranger), aaaa, six(s.stranger)}, {names.Labels(s.stranger), txt, text(s.stranger)},
		{names.Labels(s.stranger), a4, none}, {names.Labels(s.away), aaaa, none}, {names.Labels(s.away), txt, text(s.away)}, {names.Labels(s.blocked), aaaa, nothing},
		{names.Labels(s.self), aaaa, six(s.self)},
		{strings.ToUpper(names.Labels(s.stranger)), aaaa, six(s.stranger)},
		{other[:20] + "." + other[20:21] + "." + other[21:], aaaa, six(s.stranger)},
		{other[:30] + "." + other[30:63], aaaa, nothing}, {other[:30] + "." + other[30:] + "a", aaaa, nothing}, {other[:30] + "." + other[30:63] + "1", aaaa, nothing},
		{"b" + other[1:30] + "." + other[30:], aaaa, nothing}, {"git." + names.Labels(s.stranger), aaaa, nothing},
		{s.north.ID().String() + ".id", aaaa, six(s.north)}, {s.nameless.ID().String() + ".id", aaaa, six(s.nameless)}, {s.self.ID().String() + ".id", txt, text(s.self)},
		{"git." + s.north.ID().String() + ".id", aaaa, six(s.north)}, {strings.ToUpper(s.north.ID().String()) + ".ID", aaaa, six(s.north)},
		{s.stranger.ID().String() + ".id", aaaa, nothing}, {"0000000000000000.id", aaaa, nothing}, {"north.id", aaaa, nothing}, {"id", aaaa, none},
		{"_http._tcp.north", srv, "Success " + web + " " + wiki + beside}, {"_http._tcp.north", txt, "Success TXT=path=/,v=2 TXT="},
		{"_http._tcp.north", ptr, "Success PTR=web._http._tcp.north.anode.internal. PTR=wiki._http._tcp.north.anode.internal."},
		{"_http._tcp.web.north", srv, "Success " + web + beside}, {"web._http._tcp.north", srv, "Success " + web + beside}, {"WIKI._Http._tcp.north", txt, "Success TXT="},
		{"_http._tcp.north", aaaa, none}, {"_ssh._tcp.north", srv, none}, {"_http._tcp.south_2", srv, none}, {"_tcp.north", srv, none}, {"web.north", aaaa, six(s.north)},
		{"_ssh._tcp.self", srv, "Success SRV=22:self.anode.internal. beside:AAAA=" + s.self.ULA().String()},
		{"_x-y._udp.north", any, "Success SRV=53:north.anode.internal." + beside},
		{"_services._dns-sd._udp", ptr, "Success PTR=_http._tcp.anode.internal. PTR=_x-y._udp.anode.internal."},
		{"_services._dns-sd._udp.north", ptr, "Success PTR=_http._tcp.north.anode.internal. PTR=_x-y._udp.north.anode.internal."},
		{"_http._tcp", ptr, "Success PTR=web._http._tcp.north.anode.internal. PTR=wiki._http._tcp.north.anode.internal."},
		{"_ssh._tcp", ptr, nothing}, {"_tcp", ptr, none}, {"_dns-sd._udp", ptr, none}, {"_http._udp", ptr, nothing},
		{"", dnsmessage.TypeSOA, "Success SOA:anode.internal."}, {"", dnsmessage.TypeNS, "Success NS=self.anode.internal."}, {"", aaaa, none}, {"", any, "Success SOA:anode.internal."},
		{"north", dnsmessage.TypeAXFR, refused}, {"north", typeIXFR, refused},
		{"b\xc3\xbccher", aaaa, nothing}, {"xn--bcher-kva", aaaa, nothing}, {"\xe2\x84\xaa", aaaa, nothing}, {strings.Repeat("n", 63), aaaa, nothing}, {strings.Repeat("n", 63) + ".north", aaaa, six(s.north)},
		{strings.Repeat("1.", 111) + "12.north", aaaa, six(s.north)}, {" north", aaaa, nothing},
		{reverseOf(rev), ptr, "Success PTR=north.anode.internal."}, {strings.ToUpper(reverseOf(rev)), ptr, "Success PTR=north.anode.internal."},
		{reverseOf(rev), any, "Success PTR=north.anode.internal."}, {reverseOf(rev), aaaa, "Success authority:SOA:" + ReverseZone(0) + "."},
		{reverseOf(s.south.ULA()), ptr, "Success PTR=south_2.anode.internal."}, {reverseOf(s.self.ULA()), ptr, "Success PTR=self.anode.internal."},
		{reverseOf(s.nameless.ULA()), ptr, "Success PTR=" + names.Labels(s.nameless) + ".anode.internal."},
		{reverseOf(s.stranger.ULA()), ptr, "Success PTR=" + names.Labels(s.stranger) + ".anode.internal."},
		{reverseOf(s.blocked.ULA()), ptr, "NameError authority:SOA:" + ReverseZone(0) + "."}, {"0." + reverseOf(rev), ptr, "NameError authority:SOA:" + ReverseZone(0) + "."},
		{nibbles(rev, 20) + ".", ptr, "Success authority:SOA:" + ReverseZone(0) + "."}, {"x." + nibbles(rev, 20) + ".", ptr, "NameError authority:SOA:" + ReverseZone(0) + "."},
		{nibbles(rev, 10) + ".", dnsmessage.TypeSOA, "Success SOA:" + ReverseZone(0) + "."}, {nibbles(rev, 10) + ".", dnsmessage.TypeNS, "Success NS=self.anode.internal."},
		{nibbles(rev, 9) + ".", dnsmessage.TypeSOA, refused}, {reverseOf(s.away.ULA()), ptr, refused},
		{"example.com.", aaaa, refused}, {".", aaaa, refused}, {"internal.", aaaa, refused}, {"xanode.internal.", aaaa, refused}, {"1.0.0.127.in-addr.arpa.", ptr, refused},
		{north[:32] + "." + north[32:], ptr, none},
	} {
		name := c.name
		switch {
		case name == "":
			name = suffix + "."
		case !strings.HasSuffix(name, "."):
			name += "." + suffix + "."
		}
		q := ask{name: name, kind: c.kind, edns: 4096}
		reply := Answer(s.Snapshot, q.message(t), false)
		got := answered(t, reply)
		want := c.want + " opt:1232:0:true"
		switch {
		case strings.HasPrefix(want, "Refused"):
			want = c.want + " opt:1232:5:true"
		case strings.HasPrefix(want, "NameError"):
			want = c.want + " opt:1232:3:true"
		}
		if got != want {
			t.Errorf("%s %v:\n got %s\nwant %s", name, c.kind, got, want)
		}
		if !bytes.Equal(reply[12:12+len(name)], q.message(t)[12:12+len(name)]) {
			t.Errorf("%s: the question came back changed", name)
		}
	}
}

// TestEverySplit: an address can be split into labels anywhere.
func TestEverySplit(t *testing.T) {
	s := newScene(t)
	text := s.stranger.String()
	for i := 1; i < len(text); i++ {
		q := ask{name: text[:i] + "." + text[i:] + "." + suffix + ".", kind: dnsmessage.TypeAAAA}
		if got, want := answered(t, Answer(s.Snapshot, q.message(t), false)), "Success AAAA="+s.stranger.ULA().String(); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
	single := strings.Join(strings.Split(text, ""), ".")
	if got := answered(t, Answer(s.Snapshot, ask{name: single + "." + suffix + ".", kind: dnsmessage.TypeAAAA}.message(t), false)); !strings.Contains(got, s.stranger.ULA().String()) {
		t.Error(got)
	}
}

// TestProtocol: each row of the table of cases.
func TestProtocol(t *testing.T) {
	s := newScene(t)
	const name = "north." + suffix + "."
	good := ask{name: name, kind: dnsmessage.TypeAAAA}
	two := slices.Clone(good.message(t))
	two[5] = 2
	none := slices.Clone(good.message(t)[:12])
	none[5] = 0
	twoOPT := ask{name: name, kind: dnsmessage.TypeAAAA, edns: 600}.message(t)
	twoOPT = append(twoOPT, twoOPT[len(twoOPT)-11:]...)
	twoOPT[11] = 2
	named := ask{name: name, kind: dnsmessage.TypeAAAA, edns: 600}.message(t)
	named = slices.Concat(named[:len(named)-11], []byte{0xc0, 12}, named[len(named)-10:])
	loop := append(slices.Clone(good.message(t)[:12]), 0xc0, 12, 0, 28, 0, 1)
	response := slices.Clone(good.message(t))
	response[2] |= 0x80
	crowd := slices.Clone(good.message(t))
	crowd[10], crowd[11] = 0xff, 0xff
	for _, c := range []struct {
		what  string
		query []byte
		want  string // empty: none
	}{
		{"plain", good.message(t), "Success AAAA=" + s.north.ULA().String()},
		{"CHAOS", ask{name: name, kind: dnsmessage.TypeTXT, class: dnsmessage.ClassCHAOS}.message(t), "Refused not-authoritative"},
		{"any class", ask{name: name, kind: dnsmessage.TypeTXT, class: dnsmessage.ClassANY}.message(t), "Refused not-authoritative"},
		{"status", ask{name: name, kind: dnsmessage.TypeAAAA, opcode: 2}.message(t), "NotImplemented not-authoritative"},
		{"update", ask{name: name, kind: dnsmessage.TypeAAAA, opcode: 5, edns: 512}.message(t), "NotImplemented not-authoritative"},
		{"two questions", two, "FormatError not-authoritative"},
		{"no question", none, "FormatError not-authoritative"},
		{"half a question", good.message(t)[:20], "FormatError not-authoritative"},
		{"a loop", loop, "FormatError not-authoritative"},
		{"many records", crowd, "FormatError not-authoritative"},
		{"two OPTs", twoOPT, "FormatError not-authoritative opt:1232:1:true"},
		{"OPT with a name", named, "FormatError not-authoritative"},
		{"EDNS 1", ask{name: name, kind: dnsmessage.TypeAAAA, edns: 600, version: 1}.message(t), "Success not-authoritative opt:1232:16:false"},
		{"a response", response, ""},
		{"half a header", good.message(t)[:11], ""},
		{"nothing", nil, ""},
	} {
		reply := Answer(s.Snapshot, c.query, false)
		if c.want == "" {
			if reply != nil {
				t.Errorf("%s: answered: % x", c.what, reply)
			}
			continue
		}
		if reply == nil {
			t.Errorf("%s: no answer", c.what)
			continue
		}
		if got := answered(t, reply); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.what, got, c.want)
		}
		if binary.BigEndian.Uint16(reply) != 0x1234 {
			t.Errorf("%s: another ID", c.what)
		}
	}
}

// TestSizes: what does not fit UDP is cut, and TCP has all of it.
func TestSizes(t *testing.T) {
	self, north := newAddress(t, 0), newAddress(t, 0)
	c := Contents{Suffix: suffix, Self: self, Peers: []Peer{{Address: north, Name: "north"}}, Services: map[anode.Address][]Service{}}
	for i := range MaxServices + 4 {
		c.Services[north] = append(c.Services[north], Service{Port: uint16(i + 1), Proto: "tcp", Type: "http", Name: strings.Repeat("n", 40) + string(rune('a'+i)), TXT: []string{strings.Repeat("x", 200)}})
	}
	s := New(c)
	for _, test := range []struct {
		ask   ask
		limit int
		count int // of answers
	}{
		{ask{name: "_http._tcp.north." + suffix + ".", kind: dnsmessage.TypeTXT}, 512, 0},
		{ask{name: "_http._tcp.north." + suffix + ".", kind: dnsmessage.TypeTXT, edns: 100}, 512, 0},
		{ask{name: "_http._tcp.north." + suffix + ".", kind: dnsmessage.TypeTXT, edns: 65535}, 1232, 0},
		{ask{name: "_http._tcp.north." + suffix + ".", kind: dnsmessage.TypeSRV, edns: 65535}, 1232, MaxServices},
		{ask{name: "_http._tcp.north." + suffix + ".", kind: dnsmessage.TypeTXT, tcp: true}, 65535, MaxServices},
		{ask{name: "_http._tcp." + suffix + ".", kind: dnsmessage.TypePTR, tcp: true}, 65535, MaxServices},
	} {
		reply := Answer(s, test.ask.message(t), test.ask.tcp)
		var m dnsmessage.Message
		if err := m.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if len(reply) > test.limit || len(m.Answers) != test.count || m.Truncated != (test.count == 0) || m.RCode != 0 {
			t.Errorf("%+v: %d bytes, %d answers, cut %t, want at most %d bytes, %d answers", test.ask, len(reply), len(m.Answers), m.Truncated, test.limit, test.count)
		}
	}
	many := Contents{Suffix: strings.Repeat("a", 63) + "." + strings.Repeat("b", 30), Self: self, Services: map[anode.Address][]Service{}}
	for i := range 64 {
		p := newAddress(t, 0)
		many.Peers = append(many.Peers, Peer{Address: p, Name: fmt.Sprintf("%s%02d", strings.Repeat("p", 60), i)})
		for k := range MaxServices {
			many.Services[p] = append(many.Services[p], Service{Port: 1, Proto: "tcp", Type: "http", Name: fmt.Sprintf("%s%02d", strings.Repeat("s", 20), k)})
		}
	}
	reply := Answer(New(many), ask{name: "_http._tcp." + many.Suffix + ".", kind: dnsmessage.TypePTR}.message(t), true)
	if got := answered(t, reply); strings.Contains(got, "cut") || strings.Count(got, "PTR=") != maxBrowsed {
		t.Errorf("%d names of services in %d bytes", strings.Count(got, "PTR="), len(reply))
	}
}

// FuzzAnswer: every reply is sound, as long as it may be, and to a question.
func FuzzAnswer(f *testing.F) {
	s := newScene(f)
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeALL, dnsmessage.TypePTR, dnsmessage.TypeSRV} {
		for _, name := range []string{"north.", "_http._tcp.north.", names.Labels(s.stranger) + ".", "_services._dns-sd._udp.", ""} {
			for _, size := range []int{0, 4096} {
				f.Add(ask{name: name + suffix + ".", kind: kind, edns: size}.message(f), false)
			}
		}
		f.Add(ask{name: reverseOf(s.north.ULA()), kind: kind}.message(f), true)
	}
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}, false)
	f.Fuzz(func(t *testing.T, query []byte, tcp bool) { checkAnswer(t, s.Snapshot, query, tcp) })
}

// FuzzServices: whatever a friend says that it offers, every answer about it is sound.
func FuzzServices(f *testing.F) {
	a, self := newAddress(f, 0), newAddress(f, 0)
	f.Add("web", "http", "tcp", "path=/", uint16(80), 1)
	f.Add("a.b", "x\x00y", "udp", strings.Repeat("x", 300), uint16(0), 10000)
	f.Add(strings.Repeat("n", 63), strings.Repeat("t", 15), "tcp", strings.Repeat("x", 255), uint16(1), 16)
	f.Add("", "http", "tcp", "\xff", uint16(1), 2)
	f.Fuzz(func(t *testing.T, name, kind, proto, text string, port uint16, count int) {
		c := Contents{Suffix: suffix, Self: self, Peers: []Peer{{Address: a, Name: "north"}}, Services: map[anode.Address][]Service{}}
		for i := range min(max(count, 0), 10000) {
			c.Services[a] = append(c.Services[a], Service{Port: port + uint16(i), Proto: proto, Type: kind, Name: name, TXT: []string{text}})
		}
		s := New(c)
		fronts := []string{"", "_services._dns-sd._udp.", "_services._dns-sd._udp.north.", "north."}
		for _, k := range []string{"_http._tcp.", "_" + kind + "._" + proto + "."} {
			fronts = append(fronts, k, k+"north.", name+"."+k+"north.", k+name+".north.")
		}
		for _, front := range fronts {
			full, err := dnsmessage.NewName(front + suffix + ".")
			for _, q := range []dnsmessage.Type{dnsmessage.TypeSRV, dnsmessage.TypeTXT, dnsmessage.TypePTR, dnsmessage.TypeAAAA, dnsmessage.TypeALL} {
				m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{Name: full, Type: q, Class: dnsmessage.ClassINET}}}
				if b, packed := m.Pack(); err == nil && packed == nil {
					checkAnswer(t, s, b, false)
					checkAnswer(t, s, b, true)
				}
			}
		}
	})
}

// checkAnswer checks what holds of every reply.
func checkAnswer(t testing.TB, s *Snapshot, query []byte, tcp bool) {
	reply := Answer(s, query, tcp)
	if len(query) < 12 || query[2]&0x80 != 0 {
		if reply != nil {
			t.Fatalf("% x: answered: % x", query, reply)
		}
		return
	}
	if reply == nil {
		t.Fatalf("% x: no answer", query)
	}
	var m dnsmessage.Message
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("% x: % x: %v", query, reply, err)
	}
	limit := ednsSize
	if tcp {
		limit = tcpSize
	} else if !slices.ContainsFunc(m.Additionals, func(r dnsmessage.Resource) bool { return r.Header.Type == dnsmessage.TypeOPT }) {
		limit = plainSize
	}
	if len(reply) > limit || !m.Response || m.RecursionAvailable || m.ID != binary.BigEndian.Uint16(query) || len(m.Questions) > 1 {
		t.Fatalf("% x: %d bytes, %+v", query, len(reply), m.Header)
	}
	if m.RCode == dnsmessage.RCodeServerFailure {
		t.Fatalf("% x: %+v", query, m)
	}
	if m.Truncated && len(m.Answers)+len(m.Authorities) > 0 {
		t.Fatalf("% x: cut, with records", query)
	}
}

func BenchmarkAnswer(b *testing.B) {
	s := newScene(b)
	q := ask{name: "north." + suffix + ".", kind: dnsmessage.TypeAAAA, edns: 1232}.message(b)
	b.ReportAllocs()
	scratch := make([]byte, 0, ednsSize)
	for b.Loop() {
		if s.answer(q, false, scratch).message == nil {
			b.Fatal("no answer")
		}
	}
}
