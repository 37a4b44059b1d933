package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Control data as it comes and goes on 64-bit little-endian machines.
var controlVectors = []struct {
	name string
	hex  string
	e    Endpoint
	size int
	ok   bool
}{
	{"none", "", Endpoint{}, 0, true},
	{"IPv4", "1c00000000000000 00000000 08000000  03000000 0a000001 0aff00ff 00000000", Endpoint{Local: netip.MustParseAddr("10.0.0.1"), If: 3}, 0, true},
	{"IPv6", "2400000000000000 29000000 32000000  fd000000000000000000000000000001 02000000 00000000", Endpoint{Local: netip.MustParseAddr("fd00::1"), If: 2}, 0, true},
	{"multicast", "2400000000000000 29000000 32000000  ff020000000000000000000000000001 02000000 00000000", Endpoint{If: 2}, 0, true},
	{"mapped, with GRO", "1c00000000000000 00000000 08000000  03000000 0a000001 0a000001 00000000" +
		"2400000000000000 29000000 32000000  00000000000000000000ffff0a000001 09000000 00000000" +
		"1400000000000000 11000000 68000000  aa050000 00000000", Endpoint{Local: netip.MustParseAddr("10.0.0.1"), If: 3}, 1450, true},
	{"GRO, not padded", "1400000000000000 11000000 68000000  aa050000", Endpoint{}, 1450, true},
	{"foreign", "1100000000000000 01000000 1d000000  ff00000000000000 1400000000000000 11000000 68000000 01000000 00000000", Endpoint{}, 1, true},
	{"shorter than itself", "0f00000000000000 11000000 68000000  aa050000 00000000", Endpoint{}, 0, false},
	{"longer than all", "2000000000000000 11000000 68000000  aa050000 00000000", Endpoint{}, 0, false},
	{"huge", "ffffffffffffffff 11000000 68000000  aa050000 00000000", Endpoint{}, 0, false},
	{"short GRO", "1200000000000000 11000000 68000000  aa05000000000000", Endpoint{}, 0, false},
	{"negative GRO", "1400000000000000 11000000 68000000  ffffffff00000000", Endpoint{}, 0, false},
	{"short IPv4", "1800000000000000 00000000 08000000  030000000a000001", Endpoint{}, 0, false},
	{"short IPv6", "2000000000000000 29000000 32000000  fd000000000000000000000000000001", Endpoint{}, 0, false},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseControl(t *testing.T) {
	if !vectorsFit() {
		t.Skip("the vectors are those of 64-bit little-endian machines")
	}
	for _, v := range controlVectors {
		var e Endpoint
		size, ok := parseControl(unhex(t, v.hex), &e)
		if ok != v.ok || ok && (size != v.size || e != v.e) {
			t.Errorf("%s: %v, %d, %v; want %v, %d, %v", v.name, e, size, ok, v.e, v.size, v.ok)
		}
	}
}

func TestAppendControl(t *testing.T) {
	if !vectorsFit() {
		t.Skip("the vectors are those of 64-bit little-endian machines")
	}
	four, six := on(netip.MustParseAddr("10.0.0.2"), 1, 3), on(netip.MustParseAddr("fd00::2"), 1, 3)
	four.Local, six.Local = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{appendSegment(nil, 1450), "1200000000000000 11000000 67000000  aa05000000000000"},
		{appendPktinfo(nil, four), "1c00000000000000 00000000 08000000  03000000 0a000001 00000000 00000000"},
		{appendPktinfo(nil, six), "2400000000000000 29000000 32000000  fd000000000000000000000000000001 03000000 00000000"},
		{appendPktinfo(nil, on(six.Addr.Addr(), 1, 3)), "2400000000000000 29000000 32000000  00000000000000000000000000000000 03000000 00000000"},
		{appendPktinfo(nil, on(six.Addr.Addr(), 1, 0)), ""},
	} {
		if want := unhex(t, c.want); !bytes.Equal(c.got, want) {
			t.Errorf("got %x, want %x", c.got, want)
		}
	}
}

func vectorsFit() bool { return wordSize == 8 && appendHeader(nil, 0, 0, 0)[0] == headerSize }

// FuzzControl: nothing but what is in the data comes out, and what is written can be read.
func FuzzControl(f *testing.F) {
	for _, v := range controlVectors {
		f.Add(unhex(f, v.hex), uint16(v.size), v.e.If, v.e.Local.AsSlice())
	}
	f.Fuzz(func(t *testing.T, b []byte, segment uint16, index int, local []byte) {
		var e Endpoint
		before := bytes.Clone(b)
		size, ok := parseControl(b, &e)
		if !bytes.Equal(b, before) {
			t.Fatal("it writes")
		}
		if ok && (size < 0 || e.Local.IsMulticast() && e.Local.Is6() || e.Local.Is4In6()) {
			t.Fatalf("%v, %d", e, size)
		}

		a, ok := netip.AddrFromSlice(local)
		if !ok || a.Is4In6() || a.IsMulticast() || a.Is6() && a.Zone() != "" {
			return
		}
		in := Endpoint{Addr: netip.AddrPortFrom(a, 1), Local: a, If: int(int32(index) & 0x7fffffff)}
		out := appendPktinfo(appendSegment(nil, int(segment)), in)
		if len(out) > sendControl || len(out)%wordSize != 0 {
			t.Fatalf("%d bytes: %x", len(out), out)
		}
		got := Endpoint{Addr: in.Addr}
		size, ok = parseControl(out, &got)
		if !ok || size != 0 || got != in { // UDP_SEGMENT is not for reading
			t.Fatalf("%v, %d, %v; want %v", got, size, ok, in)
		}
	})
}

func TestSockaddr(t *testing.T) {
	for _, c := range []struct {
		e    Endpoint
		four bool
		want string // of the address read back
	}{
		{on(netip.MustParseAddr("10.1.2.3"), 0x1234, 7), false, "10.1.2.3:4660"},
		{on(netip.MustParseAddr("10.1.2.3"), 0x1234, 7), true, "10.1.2.3:4660"},
		{on(netip.MustParseAddr("::ffff:10.1.2.3"), 1, 0), true, "10.1.2.3:1"},
		{on(netip.MustParseAddr("fe80::5"), 1, 7), false, "[fe80::5]:1"},
	} {
		var s sockaddr
		n := s.put(&c.e, c.four)
		a, ok := s.addr(n)
		if !ok || a.String() != c.want {
			t.Errorf("%v: %v, %v", c.e, a, ok)
		}
		if _, ok := s.addr(n - 1); ok {
			t.Errorf("%v: short address read", c.e)
		}
	}
	var s sockaddr
	e := on(netip.MustParseAddr("fe80::5"), 1, 7)
	s.put(&e, false)
	if s[24]+s[27] != 7 {
		t.Errorf("no scope: %x", s)
	}
	e = on(netip.MustParseAddr("fd00::5"), 1, 7)
	s.put(&e, false)
	if s[24]+s[27] != 0 {
		t.Errorf("a scope: %x", s)
	}
	s[0], s[1] = 0, 0
	if _, ok := s.addr(unix.SizeofSockaddrInet6); ok {
		t.Error("an unknown family was read")
	}
}

// liar is a socket that loses, changes or does not cut what it reads.
type liar struct {
	prober
	change func(ts []Train, n int) (int, error)
}

func (l *liar) read(ts []Train) (int, error) {
	n, err := l.prober.read(ts)
	if err != nil {
		return n, err
	}
	return l.change(ts, n)
}

func TestSelfTest(t *testing.T) {
	s := new(System)
	for _, rung := range []string{RungGSO, RungBatch} {
		if err := s.selfTest(rung); err != nil {
			t.Errorf("%s: %v", rung, err)
		}
	}
	if s.climb() != RungGSO {
		t.Error("climbed lower than it can")
	}
	honest := func(_ []Train, n int) (int, error) { return n, nil }
	for name, c := range map[string]struct {
		change func([]Train, int) (int, error)
		want   error
	}{
		"honest": {honest, nil},
		"bytes": {func(ts []Train, n int) (int, error) {
			if b := ts[0].Buf; len(b) > 2000 {
				b[1999]++
			}
			return n, nil
		}, errOtherBytes},
		"not cut": {func(ts []Train, n int) (int, error) {
			if t := &ts[0]; len(t.Buf) > 2000 {
				t.Size = len(t.Buf)
			}
			return n, nil
		}, errOtherBytes},
		"nothing": {func([]Train, int) (int, error) { return 0, errors.New("timeout") }, errUntested},
	} {
		from, err := s.testSocket(RungGSO)
		if err != nil {
			t.Fatal(err)
		}
		dst, err := s.testSocket(RungGSO)
		if err != nil {
			t.Fatal(err)
		}
		if err := exchange(from, &liar{dst, c.change}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		from.Close()
		dst.Close()
	}
}

// TestTrainsRefused: trains that the kernel refuses, and takes as single packets, lower
// the rung, and nothing is lost on the way. The kernel takes no train of more than 128 packets.
func TestTrainsRefused(t *testing.T) {
	from, dst := listen(t, RungGSO), listen(t, RungGSO)
	in := newInbox(t, dst)
	w := from.NewWriter().(*batchWriter)
	buf := filled(200, 1)
	ts := []Train{{Buf: buf, Size: 1, Endpoint: to(v6, dst)}}
	for i := range maxFailures {
		if from.Rung() != RungGSO {
			t.Fatalf("down after %d", i)
		}
		errno, ok := w.once(buf, 1, &ts[0].Endpoint)
		if !ok || errno == 0 {
			t.Fatalf("a train of 200 was taken: %v", errno)
		}
		w.err, w.broken, w.sent, w.packets = nil, -1, 0, 0
		if !w.again(ts, part{0, 0, len(buf)}, errno) || w.err != nil || w.sent != 1 || w.packets != 200 {
			t.Fatalf("%v, %d sent, %d packets", w.err, w.sent, w.packets)
		}
		for k := range buf {
			in.want(buf[k : k+1])
		}
	}
	if from.Rung() != RungBatch || from.Counters()["tx_split"] != maxFailures {
		t.Errorf("rung %s, %v", from.Rung(), from.Counters())
	}
	write(t, w, ts...)
	for k := range buf {
		in.want(buf[k : k+1])
	}
}

// TestIPv4Alone: what a kernel without IPv6 leaves.
func TestIPv4Alone(t *testing.T) {
	for _, rung := range allRungs {
		s := new(System)
		from, err := s.open(netip.MustParseAddrPort("0.0.0.0:0"), rung, false)
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		dst, err := s.open(netip.MustParseAddrPort("0.0.0.0:0"), rung, false)
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		in, answers := newInbox(t, dst), newInbox(t, from)
		buf := filled(2100, 1)
		sent, err := from.NewWriter().Write([]Train{
			{Buf: buf, Size: 1000, Endpoint: to(v6, dst)},
			{Buf: buf, Size: 1000, Endpoint: to(v4, dst)},
			{Buf: buf[:5], Size: 5, Endpoint: to(netip.MustParseAddr("::ffff:127.0.0.1"), dst)},
		})
		if sent != 2 || !errors.Is(err, ErrEndpoint) {
			t.Errorf("%s: sent %d, %v", rung, sent, err)
		}
		for _, b := range [][]byte{buf[:1000], buf[1000:2000], buf[2000:], buf[:5]} {
			e := in.want(b)
			checkLocal(t, e, v4)
			write(t, dst.NewWriter(), Train{Buf: b, Size: len(b), Endpoint: e})
			answers.want(b)
		}
	}
}
