package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
)

// An appender is a parsed message.
type appender interface{ Append(dst []byte) []byte }

type epcMsg uint32

func (m epcMsg) Append(dst []byte) []byte { return AppendEPC(dst, uint32(m)) }

type probeMsg struct{ ProbeMsg }

func (m probeMsg) Append(dst []byte) []byte { return m.AppendProbe(dst) }

type probeAck struct{ ProbeMsg }

func (m probeAck) Append(dst []byte) []byte { return m.AppendAck(dst) }

type rawMsg []byte

func (m rawMsg) Append(dst []byte) []byte { return append(dst, m...) }

func as[M appender](parse func([]byte) (M, error)) func([]byte) (appender, error) {
	return func(b []byte) (appender, error) { return parse(b) }
}

// parsers has a parser for each type whose message this package knows.
var parsers = map[Type]func([]byte) (appender, error){
	Error:    as(ParseError),
	Ping:     as(ParseEcho),
	Pong:     as(ParseEcho),
	EPCReq:   func(b []byte) (appender, error) { n, err := ParseEPC(b); return epcMsg(n), err },
	EPC:      func(b []byte) (appender, error) { n, err := ParseEPC(b); return epcMsg(n), err },
	EPI:      as(ParseEPI),
	NATT:     as(ParseNATT),
	NetIDReq: as(ParseNetIDReq),
	NetID:    as(ParseNetID),
	Dgram:    as(ParseDgram),
	SOpen:    as(ParseOpen),
	SClose:   as(ParseClose),
	SData:    as(ParseData),
	SAck:     as(ParseAck),
	SDAck:    as(ParseDAck),
	Whois:    as(ParseWhois),
	IAm:      as(ParseIAm),
	Standing: as(ParseStanding),
	Linger:   as(ParseLinger),
	Clash:    as(ParseClash),
	Probe:    func(b []byte) (appender, error) { m, err := ParseProbe(b); return probeMsg{m}, err },
	ProbeAck: func(b []byte) (appender, error) { m, err := ParseProbeAck(b); return probeAck{m}, err },
	IP6:      as(ParseIP6),
	IP6P:     as(ParseIP6),
	IP:       func(b []byte) (appender, error) { _, err := ParseIP(b); return rawMsg(b), err },
	Frag:     as(ParseFrag),
	Tell:     as(ParseTell),
	Told:     as(ParseTold),
}

// modes has the NAT traversal modes' options.
var modes = map[NATTMode]func([]byte) (appender, error){
	NATTPunch:   as(ParsePunch),
	NATTPredict: as(ParsePredict),
	NATTSpray:   as(ParseSpray),
}

// roundTrip parses a message, writes it and parses it again. What is written is what
// was read, except IPv4-mapped addresses, which become plain ones. What is refused is
// refused with a bare sentinel, which is returned.
func roundTrip(t testing.TB, parse func([]byte) (appender, error), msg []byte) error {
	t.Helper()
	m, err := parse(msg)
	if err != nil {
		for _, known := range []error{ErrShort, ErrLong, ErrAddress, ErrEndpoint, ErrField} {
			if err == known {
				return err
			}
		}
		t.Fatalf("%x: error %v is none of the bare sentinels", msg, err)
	}
	out := m.Append(nil)
	if !bytes.Equal(out, msg) && !bytes.Contains(msg, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}) {
		t.Fatalf("%T: read %x, wrote %x", m, msg, out)
	}
	again, err := parse(out)
	if err != nil {
		t.Fatalf("%T: %x, which was written: %v", m, out, err)
	}
	if !reflect.DeepEqual(again, m) {
		t.Fatalf("%T: %+v became %+v", m, m, again)
	}
	return nil
}

var (
	udp4 = UDP(netip.MustParseAddrPort("192.0.2.1:8737"))
	udp6 = UDP(netip.MustParseAddrPort("[2001:db8::1]:8737"))
)

// golden is what testdata/wire.txt has of every type.
var golden = []struct {
	typ  Type
	name string
	msg  appender
}{
	{Error, "ERROR, not reachable", ErrorMsg{ErrorUnreachable, []byte{}}},
	{Error, "ERROR, with arguments", ErrorMsg{0x1234, []byte("ab")}},
	{Ping, "PING, of ICMPv6", EchoMsg{0x0102, 0x0304, []byte("hi")}},
	{Pong, "PONG, without data", EchoMsg{0x0102, 0x0304, []byte{}}},
	{EPCReq, "EPC_REQ", epcMsg(0xdeadbeef)},
	{EPC, "EPC", epcMsg(1)},
	{EPI, "EPI, the source", EPIMsg{Endpoint{}, NATTMsg{NATTNone, []byte{}}}},
	{EPI, "EPI, UDP and a mode", EPIMsg{udp4, NATTMsg{NATTPunch, []byte{0xaa, 0xbb}}}},
	{NATT, "NAT_T, a mode and its options", NATTMsg{NATTSpray, []byte{0, 0, 0, 7}}},
	{NetIDReq, "NETID_REQ, the source", NetIDMsg{1, Endpoint{}}},
	{NetIDReq, "NETID_REQ, UDP over IPv6", NetIDMsg{1, udp6}},
	{NetID, "NETID, UDP over IPv4", NetIDMsg{1, udp4}},
	{NetID, "NETID, Ethernet", NetIDMsg{1, Endpoint{Kind: Ethernet, MAC: [6]byte{2, 0, 0, 0, 0, 1}}}},
	{NetID, "NETID, HTTP", NetIDMsg{1, Endpoint{Kind: HTTP, URI: "http://a/"}}},
	{Dgram, "DGRAM, data", DgramMsg{1000, 53, []byte("data")}},
	{Dgram, "DGRAM, empty", DgramMsg{1000, 53, []byte{}}},
	{SOpen, "S_OPEN, from a port", OpenMsg{Link{80, 0x1234}, 64, 0x0a0b0c0d, FlagSourcePort}},
	{SClose, "S_CLOSE, timed out", CloseMsg{Link{0x1234, 80}, 0, CloseTimeout, 0x01020304, 0x01020306}},
	{SClose, "S_CLOSE, one direction", CloseMsg{Link{0x1234, 80}, FlagHalfClose, CloseNormal, 0x01020304, 0x01020306}},
	{SData, "S_DATA, data", DataMsg{Link{0x1234, 80}, 0x01020305, []byte("xyz")}},
	{SData, "S_DATA, empty", DataMsg{Link{0x1234, 80}, 0x01020305, []byte{}}},
	{SAck, "S_ACK, one packet", AckMsg{Link{80, 0x1234}, 64, Acks{}.AppendAck(0x01020305, 1)}},
	{SAck, "S_ACK, two ranges", AckMsg{Link{80, 0x1234}, 64, Acks{}.AppendAck(0x01020305, 1).AppendAck(0x01020309, 255)}},
	{SDAck, "S_DACK, empty", DAckMsg{Link{80, 0x1234}, 64, Acks{}.AppendAck(0x01020305, 1), 0x0a0b0c0e, []byte{}}},
	{SDAck, "S_DACK, data", DAckMsg{Link{80, 0x1234}, 64, Acks{}.AppendAck(0x01020305, 1), 0x0a0b0c0e, []byte("xyz")}},
	{Whois, "WHOIS, by ULA", WhoisMsg{9, WhoisULA, testAddress.ULA(), testID}},
	{Whois, "WHOIS, by short ID", WhoisMsg{9, WhoisID, anode.ULA{}, testID}},
	{IAm, "IAM, found", IAmMsg{9, testAddress}},
	{IAm, "IAM, not found", IAmMsg{9, anode.Address{}}},
	{Standing, "STANDING, not added", StandingNotAdded},
	{Standing, "STANDING, added", StandingAdded},
	{Clash, "CLASH", Instance{0, 1, 2, 3, 4, 5, 6, 7}},
	{Probe, "PROBE, of 52 bytes", probeMsg{ProbeMsg{5, 52}}},
	{ProbeAck, "PROBE_ACK, of 52 bytes", probeAck{ProbeMsg{5, 52}}},
	{Linger, "LINGER, for 100 s", LingerMsg{Request: 5, Delay: 100 * time.Second}},
	{Linger, "LINGER, from elsewhere", LingerMsg{Request: 5, Elsewhere: true}},
	{IP6, "IP6, TCP", IP6Msg{0x6ab12345, 6, 64, []byte("payload")}},
	{IP6P, "IP6P, UDP without a payload", IP6Msg{0x60000000, 17, 255, []byte{}}},
	{IP, "IP, IPv4", rawMsg(mustHex("4500001800000000401100000a0000010a00000261626364"))},
	{IP, "IP, IPv6", rawMsg(mustHex("6000000000023b40fd000000000000000000000000000001fd0000000000000000000000000000026162"))},
	{IP, "IP, IPv6 without a payload", rawMsg(mustHex("6000000000003b40fd000000000000000000000000000001fd000000000000000000000000000002"))},
	{IP, "IP, IPv4 without a payload", rawMsg(mustHex("4500001400000000401100000a0000010a000002"))},
	{Frag, "FRAG, the last part", FragMsg{7, 2398, 2400, []byte{1, 2}}},
	{Frag, "FRAG, another part", FragMsg{7, 1200, 2400, []byte{1, 2}}},
	{Tell, "TELL, ASK with a name and a note", TellMsg{tellID, TellAsk, Fields{{FieldName, []byte("west")}, {FieldText, []byte("hi")}}.Append(nil)}},
	{Tell, "TELL, ACCEPT with nothing", TellMsg{tellID, TellAccept, []byte{}}},
	{Told, "TOLD, too much", ToldMsg{tellID, TellTooMuch}},
}

var goldenModes = []struct {
	mode NATTMode
	name string
	msg  appender
}{
	{NATTPunch, "punch, no endpoints", Punch{1, 250 * time.Millisecond, nil}},
	{NATTPunch, "punch, two endpoints", Punch{1, 250 * time.Millisecond, []Endpoint{udp4, udp6}}},
	{NATTPredict, "predict, steps of -2", Predict{1, udp4, -2, 16}},
	{NATTSpray, "spray, 256 sockets", Spray{1, udp4, 256}},
}

func TestGolden(t *testing.T) {
	seen, file := map[Type]bool{}, wireFile(t)
	for _, g := range golden {
		seen[g.typ] = true
		if name, _, _ := strings.Cut(g.name, ","); name != g.typ.String() {
			t.Errorf("%s is no %v", g.name, g.typ)
		}
		checkGolden(t, g.name, parsers[g.typ], file[g.name], g.msg)
		delete(file, g.name)
	}
	for typ := range parsers {
		if !seen[typ] {
			t.Errorf("no golden %v", typ)
		}
	}
	for _, g := range goldenModes {
		checkGolden(t, g.name, modes[g.mode], file[g.name], g.msg)
		delete(file, g.name)
	}
	for name := range file { // the rest is for others
		switch kind, _, _ := strings.Cut(name, ","); kind {
		case "header", "sealed", "HELLO", "WELCOME", "COOKIE", "STALE":
		default:
			t.Errorf("%s is in the file, and not looked at", name)
		}
	}
}

func checkGolden(t *testing.T, name string, parse func([]byte) (appender, error), b []byte, want appender) {
	t.Helper()
	m, err := parse(b)
	if err != nil {
		t.Errorf("%s: %x: %v", name, b, err)
		return
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("%s: got %+v, want %+v", name, m, want)
	}
	if got := want.Append([]byte{0x55}); !bytes.Equal(got, append([]byte{0x55}, b...)) {
		t.Errorf("%s: wrote %x, want 55%x", name, got, b)
	}
}

// Whatever is cut off a message, or added to one of a fixed length, is missed.
func TestLengths(t *testing.T) {
	open := map[Type]bool{Error: true, Ping: true, Pong: true, EPI: true, NATT: true, Dgram: true,
		SData: true, SAck: true, SDAck: true, IP6: true, IP6P: true, Frag: true, Tell: true}
	file := wireFile(t)
	for _, g := range golden {
		b := file[g.name]
		_, err := parsers[g.typ](append(b[:len(b):len(b)], 0))
		switch {
		case g.typ == IAm && len(b) == 4:
			if err != ErrShort {
				t.Errorf("%v with a byte more: %v", g.typ, err)
			}
		case !open[g.typ] && err != ErrLong && err != ErrShort:
			t.Errorf("%v with a byte more: %v", g.typ, err)
		}
		if open[g.typ] || len(b) == 0 || (g.typ == IAm && len(b) == 5) {
			continue
		}
		for n := range len(b) {
			if g.typ == IAm && n == 4 {
				continue // "not found"
			}
			if _, err := parsers[g.typ](b[:n]); err == nil {
				t.Errorf("%v cut to %d of %d bytes passes", g.typ, n, len(b))
			}
		}
	}
	for typ, parse := range parsers {
		if _, err := parse(nil); err != ErrShort {
			t.Errorf("%v of no bytes: %v", typ, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		typ  Type
		hex  string
		want error
	}{
		{EPI, "01 00 00", ErrField},
		{EPI, "00 07 00", ErrEndpoint},
		{EPI, "00 00", ErrShort},
		{EPI, "00 02 c00002", ErrShort},
		{NetIDReq, "00000001 00 00", ErrLong},
		{NetIDReq, "00000001 06 00", ErrEndpoint},
		{NetID, "00000001 00", ErrEndpoint},
		{SClose, "1234 0050 02 03 01020304 01020306", ErrField},
		{Standing, "02", ErrField},
		{Clash, "00010203040506", ErrShort},
		{SAck, "0050 1234 0040", ErrShort},
		{SAck, "0050 1234 0040 01020305 01 0102", ErrLong},
		{SDAck, "0050 1234 0040 00 0a0b0c0e", ErrField},
		{SDAck, "0050 1234 0040 02 01020305 01 0a0b0c0e", ErrShort},
		{Whois, "00000009 00 ddc048282db2d338", ErrField},
		{Whois, "00000009 03 ddc048282db2d338", ErrField},
		{Whois, "00000009 01 fe0102030448ef07ddc048282db2d338", ErrField},
		{IAm, "00000009 0201020304000003dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180", ErrAddress},
		{IAm, "00000009 0101020304000004dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180", ErrAddress},
		{Probe, "00000005 0034 0001", ErrField},
		{Probe, "00000005 0033 0000", ErrLong},
		{Probe, "00000005 0035 0000", ErrShort},
		{Probe, "00000005 0000", ErrLong},
		{Linger, "00000005 0002bf21", ErrField},
		{Linger, "00000005 0002bf", ErrShort},
		{Linger, "00000005 00000000 00", ErrLong},
		{Linger, "00000005 00000000" + strings.Repeat("00", ElsewhereSize-8), ErrField},
		{Linger, "00000005 ffffffff" + strings.Repeat("00", ElsewhereSize-9) + "01", ErrField},
		{Linger, "00000005 ffffffff", ErrField},
		{IP6, "4ab12345 06 40", ErrField},
		{IP, "45000018 00000000 40110000 0a000001 0a000002", ErrShort},
		{IP, "44000014 00000000 40110000 0a000001 0a000002", ErrField},
		{IP, "46000014 00000000 40110000 0a000001 0a000002", ErrField},
		{IP, "10", ErrField},
		{IP, "45", ErrShort},
		{IP, "60000000 0002 3b 40 fd000000000000000000000000000001 fd0000000000000000000000000000", ErrShort},
		{IP, "45000018 00000000 40110000 0a000001 0a000002 61626364 00", ErrLong},
		{SData, "1234 0050 010203", ErrShort},
		{Frag, "00000007 0000 0002", ErrShort},
		{Frag, "00000007 0000 0000 01", ErrField},
		{Frag, "00000007 0002 0002 01", ErrField},
		{Frag, "00000007 ffff ffff 01", ErrField},
		{Tell, "0102030405060708", ErrShort},
		{Tell, "0102030405060708 01" + strings.Repeat("00", MaxTell+1), ErrField},
		{Told, "0102030405060708", ErrShort},
		{Told, "0102030405060708 00 00", ErrLong},
	} {
		if _, err := parsers[c.typ](unhex(t, c.hex)); err != c.want {
			t.Errorf("%v %s: got %v, want %v", c.typ, c.hex, err, c.want)
		}
	}
}

// The options of every mode are of one length: none of their beginnings passes, and no more.
func TestNATTLengths(t *testing.T) {
	file := wireFile(t)
	for _, g := range goldenModes {
		b := file[g.name]
		for n := range len(b) {
			if _, err := modes[g.mode](b[:n]); err != ErrShort {
				t.Errorf("%v cut to %d of %d bytes: %v", g.mode, n, len(b), err)
			}
		}
		if _, err := modes[g.mode](append(b, 0)); err != ErrLong {
			t.Errorf("%v with a byte more: %v", g.mode, err)
		}
	}
}

func TestProbeFillsUp(t *testing.T) {
	for _, size := range []uint16{0, ProbeMin, 1200, 65535} {
		b := ProbeMsg{5, size}.AppendProbe(nil)
		equal(t, len(b)+SealedOverhead, int(max(size, ProbeMin)))
		m, err := ParseProbe(b)
		if err != nil || m != (ProbeMsg{5, max(size, ProbeMin)}) {
			t.Errorf("size %d: got %+v, %v", size, m, err)
		}
	}
}

func TestPunchLimits(t *testing.T) {
	o, err := ParsePunch(Punch{Delay: time.Hour, Endpoints: make([]Endpoint, 300)}.Append(nil))
	if err != nil || o.Delay != 65535*time.Millisecond || len(o.Endpoints) != 255 {
		t.Errorf("got %v, %d, %v", o.Delay, len(o.Endpoints), err)
	}
	o, err = ParsePunch(Punch{Delay: -time.Hour}.Append(nil))
	if err != nil || o.Delay != 0 {
		t.Errorf("got %v, %v", o.Delay, err)
	}
}

func TestDAckLimit(t *testing.T) {
	m, err := ParseDAck(DAckMsg{Acks: make(Acks, 300*ackSize), Payload: []byte("x")}.Append(nil))
	if err != nil || m.Acks.Len() != 255 || string(m.Payload) != "x" {
		t.Errorf("got %d, %q, %v", m.Acks.Len(), m.Payload, err)
	}
}

// An S_DACK in the draft's letter, which has no number before its payload, acknowledges.
func TestDAckAcks(t *testing.T) {
	b := mustHex("00501234" + "0040" + "02" + "0102030404" + "01020309ff" + "78")
	m, err := ParseDAckAcks(b)
	if err != nil || m.Link != (Link{80, 0x1234}) || m.Window != 64 || m.Acks.Len() != 2 {
		t.Fatalf("got %+v, %v", m, err)
	}
	if first, n := m.Acks.At(1); first != 0x01020309 || n != 255 {
		t.Errorf("got %x, %d", first, n)
	}
	if _, err := ParseDAck(b); err != ErrShort {
		t.Errorf("got %v", err)
	}
	for n := range 7 + 2*ackSize {
		if _, err := ParseDAckAcks(b[:n]); err != ErrShort {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	if _, err := ParseDAckAcks(mustHex("00501234" + "0040" + "00" + "0a0b0c0e")); err != ErrField {
		t.Errorf("got %v", err)
	}
}

// Both readers of an S_DACK agree about its acknowledgements.
func FuzzDAckAcks(f *testing.F) {
	f.Add(mustHex("00501234" + "0040" + "02" + "0102030404" + "01020309ff" + "0a0b0c0e" + "78"))
	f.Fuzz(func(t *testing.T, b []byte) {
		acks, err := ParseDAckAcks(b)
		whole, err2 := ParseDAck(b)
		if err2 == nil && (err != nil || !reflect.DeepEqual(acks, AckMsg{whole.Link, whole.Window, whole.Acks})) {
			t.Fatalf("%x: %+v, %v and %+v", b, acks, err, whole)
		}
		if err == nil && acks.Acks.Len() == 0 {
			t.Fatalf("%x: no acknowledgement", b)
		}
	})
}

func TestAcks(t *testing.T) {
	a := Acks{}.AppendAck(1, 4).AppendAck(9, 1)
	equal(t, a.Len(), 2)
	first, count := a.At(1)
	equal(t, first, 9)
	equal(t, count, 1)
}

func TestWhoisMatches(t *testing.T) {
	other := testAddress
	other[4]++
	for _, m := range []WhoisMsg{{Kind: WhoisULA, ULA: testAddress.ULA()}, {Kind: WhoisID, ID: testID}} {
		if !m.Matches(testAddress) || m.Matches(other) {
			t.Errorf("%+v", m)
		}
	}
}

// Every name is there once; unknown numbers are shown as such.
func TestStrings(t *testing.T) {
	equal(t, distinct(func(i uint8) string { return Type(i).String() }), 256)
	for _, n := range []int{distinct(func(i uint8) string { return ErrorCode(i).String() }),
		distinct(func(i uint8) string { return CloseReason(i).String() }),
		distinct(func(i uint8) string { return NATTMode(i).String() })} {
		equal(t, n, 256)
	}
	equal(t, distinct(func(i uint8) string { return FragResult(i).String() }), 10)
	equal(t, distinct(func(i uint8) string { return EndpointKind(i).String() }), 256-2) // IPv4 and IPv6 share two
	equal(t, SDAck.String(), "S_DACK")
	equal(t, Type(0x7f).String(), "0x7f")
	equal(t, ErrorCode(0x99).String(), "error 0x0099")
	equal(t, CloseReason(9).String(), "reason 9")
	equal(t, NATTMode(9).String(), "mode 9")
	equal(t, EndpointKind(9).String(), "0x09")
}

// distinct counts the names of all 256 values.
func distinct(name func(uint8) string) int {
	names := map[string]bool{}
	for i := range 256 {
		names[name(uint8(i))] = true
	}
	return len(names)
}

func FuzzMessage(f *testing.F) {
	file := wireFile(f)
	for _, g := range golden {
		f.Add(byte(g.typ), file[g.name])
	}
	f.Fuzz(func(t *testing.T, typ byte, msg []byte) {
		if parse := parsers[Type(typ)]; parse != nil {
			_ = roundTrip(t, parse, msg)
		}
	})
}

func FuzzNATT(f *testing.F) {
	file := wireFile(f)
	for _, g := range goldenModes {
		f.Add(byte(g.mode), file[g.name])
	}
	f.Fuzz(func(t *testing.T, mode byte, options []byte) {
		if parse := modes[NATTMode(mode)]; parse != nil {
			_ = roundTrip(t, parse, options)
		}
	})
}

// Refusing costs no memory, and neither do the messages of the data path.
func TestMessageAllocs(t *testing.T) {
	file := wireFile(t)
	for typ, parse := range map[Type]func([]byte) error{
		Dgram:    func(b []byte) error { _, err := ParseDgram(b); return err },
		IP6:      func(b []byte) error { _, err := ParseIP6(b); return err },
		Frag:     func(b []byte) error { _, err := ParseFrag(b); return err },
		SData:    func(b []byte) error { _, err := ParseData(b); return err },
		SAck:     func(b []byte) error { _, err := ParseAck(b); return err },
		EPI:      func(b []byte) error { _, err := ParseEPI(b); return err },
		NetIDReq: func(b []byte) error { _, err := ParseNetIDReq(b); return err },
		Linger:   func(b []byte) error { _, err := ParseLinger(b); return err },
		IAm:      func(b []byte) error { _, err := ParseIAm(b); return err },
		Whois:    func(b []byte) error { _, err := ParseWhois(b); return err },
	} {
		var msg []byte
		for _, g := range golden {
			if g.typ == typ && len(msg) == 0 {
				msg = file[g.name]
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			if err := parse(msg); err != nil {
				t.Fatal(err)
			}
			if err := parse(msg[:1]); !errors.Is(err, ErrShort) {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", typ, n)
		}
	}
}
