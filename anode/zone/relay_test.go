package zone

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"anodenet/anode"
)

func TestParseRelay(t *testing.T) {
	for text, want := range map[string]struct{ written, endpoints string }{
		"192.0.2.1:4343:4344:" + address:                           {"192.0.2.1:4343:4344:" + address, "[udp:192.0.2.1:4343 tcp:192.0.2.1:4344]"},
		"192.0.2.1:8737::" + address:                               {"192.0.2.1:8737:0:" + address, "[udp:192.0.2.1:8737]"},
		"192.0.2.1::443:" + address:                                {"192.0.2.1:0:443:" + address, "[tcp:192.0.2.1:443]"},
		"2001:db8::1:8737:0:" + address:                            {"[2001:db8::1]:8737:0:" + address, "[udp:[2001:db8::1]:8737]"},
		"[2001:db8::1]:8737:0:" + address:                          {"[2001:db8::1]:8737:0:" + address, "[udp:[2001:db8::1]:8737]"},
		" 192.0.2.1 , [2001:db8::1] : 1 : 2 : " + address + " ":    {"192.0.2.1,[2001:db8::1]:1:2:" + address, "[udp:192.0.2.1:1 udp:[2001:db8::1]:1 tcp:192.0.2.1:2 tcp:[2001:db8::1]:2]"},
		"::ffff:192.0.2.1:1:2:" + address:                          {"192.0.2.1:1:2:" + address, "[udp:192.0.2.1:1 tcp:192.0.2.1:2]"},
		"192.0.2.1:1:0:bmnother," + strings.ToUpper(address) + ",": {"192.0.2.1:1:0:" + address, "[udp:192.0.2.1:1]"},
	} {
		r, err := ParseRelay(text)
		if err != nil {
			t.Error(err)
			continue
		}
		equal(t, r.String(), want.written)
		equal(t, fmt.Sprint(r.Endpoints()), want.endpoints)
	}
}

func TestParseRelayRefuses(t *testing.T) {
	for _, s := range []string{
		"", ":", "::", ":::", address, "192.0.2.1:" + address, "192.0.2.1:1:" + address, "192.0.2.1:1:2:",
		"192.0.2.1:1:2:" + address[1:], ":1:2:" + address, "192.0.2.1,:1:2:" + address, "example.net:1:2:" + address,
		"192.0.2.1:65536:2:" + address, "192.0.2.1:-1:2:" + address, "192.0.2.1:1:x:" + address,
		"fe80::1%eth0:1:2:" + address, "[]:1:2:" + address, "192.0.2.256:1:2:" + address,
	} {
		if r, err := ParseRelay(s); !errors.Is(err, ErrRelay) || !reflect.DeepEqual(r, Relay{}) {
			t.Errorf("%q: got %+v, %v", s, r, err)
		}
	}
}

// The relay is that of the sum modulo the number of entries; its index is hexadecimal.
func TestRelay(t *testing.T) {
	a, err := anode.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for i := range 17 {
		b = AppendEntry(b, fmt.Sprintf("zr.%X", i), fmt.Sprintf("192.0.2.%d:1:2:%s", i, address))
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, f.Relays(), 17)
	for sum, want := range map[uint32]string{
		0: "192.0.2.0", 1: "192.0.2.1", 16: "192.0.2.16", 17: "192.0.2.0", 5081: "192.0.2.15",
		a.Sum(): "192.0.2.9", a.ULA().Sum(): "192.0.2.9", // as the vector zr-index has it
	} {
		r, err := f.Relay(sum)
		if err != nil {
			t.Errorf("%d: %v", sum, err)
			continue
		}
		equal(t, r.IPs[0].String(), want)
	}
}

// One bad entry is the trouble of its own addresses only.
// Relays are looked up all the time. A file of the web, which may be a megabyte of addresses, is
// read once for that.
func TestRelayIsReadOnce(t *testing.T) {
	f := mustParse(t, good+"zr.0=192.0.2.1:1:0:"+strings.Repeat(address+",", 1000)+"\nzr.1="+strings.Repeat("x", 1000))
	if r, err := f.Relay(0); err != nil || len(r.Addresses) != 1000 {
		t.Errorf("%d addresses, %v", len(r.Addresses), err)
	}
	if _, err := f.Relay(1); !errors.Is(err, ErrRelay) || len(err.Error()) > 300 {
		t.Errorf("a malformed entry: %v", err)
	}
	if n := testing.AllocsPerRun(10, func() { f.Relay(0) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}

func TestRelayMissing(t *testing.T) {
	f := mustParse(t, "zr.0=x\nzr.1=192.0.2.1:1:2:"+address+"\nzr.5=192.0.2.5:1:2:"+address+"\nzr.x=1\n")
	equal(t, f.Relays(), 3)
	if _, err := f.Relay(3); !errors.Is(err, ErrRelay) {
		t.Error("malformed:", err)
	}
	if r, err := f.Relay(4); err != nil || r.IPs[0].String() != "192.0.2.1" {
		t.Error("good:", r, err)
	}
	if _, err := f.Relay(5); !errors.Is(err, ErrNoRelay) {
		t.Error("missing:", err)
	}
	if _, err := mustParse(t, "n=x").Relay(0); !errors.Is(err, ErrNoRelay) {
		t.Error("none at all:", err)
	}
}

func FuzzParseRelay(f *testing.F) {
	f.Add("192.0.2.1,[2001:db8::1]:8737:8738:" + address)
	f.Add("2001:db8::1:8737::" + address + "," + address)
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRelay(s)
		if err != nil {
			if !errors.Is(err, ErrRelay) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseRelay(r.String())
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%q: %v, then %v, %v", s, r, again, err)
		}
		for _, e := range r.Endpoints() {
			if e.Addr.Port() == 0 {
				t.Fatalf("%q: %v", s, e)
			}
		}
	})
}
