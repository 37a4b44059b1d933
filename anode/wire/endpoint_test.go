package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestEndpointText(t *testing.T) {
	for text, want := range map[string]struct{ hex, shown string }{
		"unspecified":                  {"00", "unspecified"},
		"eth:02:00:00:00:00:01":        {"01 020000000001", "eth:02:00:00:00:00:01"},
		"eth 02-00-00-00-00-01":        {"01 020000000001", "eth:02:00:00:00:00:01"},
		"udp:192.0.2.1:8737":           {"02 c0000201 2221", "udp:192.0.2.1:8737"},
		"udp 192.0.2.1:8737":           {"02 c0000201 2221", "udp:192.0.2.1:8737"},
		"tcp:192.0.2.1:443":            {"03 c0000201 01bb", "tcp:192.0.2.1:443"},
		"udp:[2001:db8::1]:8737":       {"04 20010db8000000000000000000000001 2221", "udp:[2001:db8::1]:8737"},
		"tcp:[2001:db8::1]:1":          {"05 20010db8000000000000000000000001 0001", "tcp:[2001:db8::1]:1"},
		"udp:[::ffff:192.0.2.1]:8737":  {"02 c0000201 2221", "udp:192.0.2.1:8737"},
		"http://example.net/anode":     {"06 687474703a2f2f6578616d706c652e6e65742f616e6f6465 00", "http://example.net/anode"},
		"https://[2001:db8::1]:8443/x": {"06 68747470733a2f2f5b323030313a6462383a3a315d3a383434332f78 00", "https://[2001:db8::1]:8443/x"},
	} {
		e, err := EndpointFromText(text)
		if err != nil {
			t.Error(err)
			continue
		}
		equal(t, e.String(), want.shown)
		b := unhex(t, want.hex)
		equalHex(t, e.Append(nil), b)
		back, rest, err := ParseEndpoint(b)
		if err != nil || len(rest) != 0 || back != e {
			t.Errorf("%s: read back %+v, %x, %v", text, back, rest, err)
		}
		var j Endpoint
		if text, err := json.Marshal(e); err != nil || json.Unmarshal(text, &j) != nil || j != e {
			t.Errorf("%s: by JSON %+v, %v", text, j, err)
		}
	}
}

func TestEndpointTextRefuses(t *testing.T) {
	for _, s := range []string{
		"", "udp", "udp:", "udp:192.0.2.1", "udp:192.0.2.1:0", "udp:192.0.2.1:65536", "udp:2001:db8::1:8737",
		"udp:[fe80::1%eth0]:8737", "udp:example.net:8737", "udp: 192.0.2.1:1", "192.0.2.1:8737", "sctp:192.0.2.1:1",
		"eth:02:00:00:00:00", "eth:02:00:00:00:00:00:00:01", "eth:", "http://", "http:///z", "http://a b/", "http://a/ b", "http://a/b ", "http://a/\x7f", "http://a/\x00",
		"http://a/\x1b[2J", "http://ä/", "ftp://a/", "http:", "http://" + strings.Repeat("a", maxURI),
	} {
		if e, err := EndpointFromText(s); !errors.Is(err, ErrEndpoint) || e != (Endpoint{}) {
			t.Errorf("%q: got %+v, %v", s, e, err)
		}
	}
}

func TestParseEndpointRefuses(t *testing.T) {
	for hex, want := range map[string]error{
		"":                      ErrShort,
		"01 0200000000":         ErrShort,
		"02 c0000201 22":        ErrShort,
		"04 20010db8":           ErrShort,
		"06":                    ErrShort,
		"06 687474703a2f2f612f": ErrShort,
		"06 00":                 ErrEndpoint,
		"06 61 00":              ErrEndpoint,
		"06 687474703a2f2f 00":  ErrEndpoint,
		"07 00":                 ErrEndpoint,
		"ff":                    ErrEndpoint,
	} {
		if e, rest, err := ParseEndpoint(unhex(t, hex)); err != want || e != (Endpoint{}) && e.Kind != HTTP || rest != nil {
			t.Errorf("%s: got %+v, %x, %v, want %v", hex, e, rest, err, want)
		}
	}
	long := append([]byte("\x06http://"), bytes.Repeat([]byte("a"), maxURI)...)
	if _, _, err := ParseEndpoint(append(long, 0)); err != ErrEndpoint {
		t.Errorf("a URI beyond the limit: %v", err)
	}
	if _, _, err := ParseEndpoint(long); err != ErrEndpoint {
		t.Errorf("a URI beyond the limit, without its end: %v", err)
	}
}

// The longest URI, of the first and last characters that may be in one.
func TestEndpointLongestURI(t *testing.T) {
	e := Endpoint{Kind: HTTP, URI: "http://a/" + strings.Repeat("!~", maxURI)[:maxURI-len("http://a/")]}
	back, rest, err := ParseEndpoint(e.Append(nil))
	if err != nil || len(rest) != 0 || back != e {
		t.Errorf("got %+v, %x, %v", back, rest, err)
	}
	e.URI += "~"
	if _, err := EndpointFromText(e.URI); !errors.Is(err, ErrEndpoint) {
		t.Errorf("a character more: %v", err)
	}
	if _, _, err := ParseEndpoint(e.Append(nil)); err != ErrEndpoint {
		t.Errorf("a character more: %v", err)
	}
}

// IPv4-mapped addresses become plain ones, so that one place has one endpoint.
func TestEndpointUnmaps(t *testing.T) {
	e, _, err := ParseEndpoint(unhex(t, "05 00000000000000000000ffff7f000001 2221"))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, e, TCP(netip.MustParseAddrPort("127.0.0.1:8737")))
	equal(t, e.Kind, TCP4)
	equalHex(t, e.Append(nil), unhex(t, "03 7f000001 2221"))
}

// What is put together by hand and wrong is written as something that can be read.
func TestEndpointAppendsAnything(t *testing.T) {
	for _, e := range []Endpoint{
		{Kind: UDP4}, {Kind: TCP6},
		{Kind: UDP4, Addr: udp6.Addr}, {Kind: UDP6, Addr: udp4.Addr},
		{Kind: UDP6, Addr: netip.MustParseAddrPort("[fe80::1%eth0]:1")},
		{Kind: 99},
	} {
		if _, rest, err := ParseEndpoint(e.Append(nil)); err != nil || len(rest) != 0 {
			t.Errorf("%+v: %x, %v", e, rest, err)
		}
	}
	equalHex(t, Endpoint{Kind: HTTP, URI: "http://a/\x00b"}.Append(nil), []byte("\x06http://a/\x00"))
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"00", "01020000000001", "02c00002012221", "05 00000000000000000000ffff7f000001 2221", "06687474703a2f2f612f00ff"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := ParseEndpoint(b)
		if err != nil {
			if err != ErrShort && err != ErrEndpoint {
				t.Fatal(err)
			}
			return
		}
		out := e.Append(nil)
		back, none, err := ParseEndpoint(out)
		if err != nil || len(none) != 0 || back != e {
			t.Fatalf("%+v: read back %+v, %x, %v", e, back, none, err)
		}
		if b[0] != byte(UDP6) && b[0] != byte(TCP6) || e.Addr.Addr().Is6() {
			equalHex(t, append(out, rest...), b)
		}
		if e.Addr.Port() != 0 || e.Kind == Ethernet || e.Kind == HTTP || e.Kind == Unspecified {
			again, err := EndpointFromText(e.String())
			if err != nil || again != e {
				t.Fatalf("%+v: by text %+v, %v", e, again, err)
			}
		}
	})
}

func FuzzEndpointFromText(f *testing.F) {
	for _, s := range []string{"udp:192.0.2.1:8737", "tcp:[2001:db8::1]:1", "eth:02-00-00-00-00-01", "http://a/", "unspecified"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := EndpointFromText(s)
		if err != nil {
			return
		}
		back, rest, err := ParseEndpoint(e.Append(nil))
		if err != nil || len(rest) != 0 || back != e {
			t.Fatalf("%q: %+v, read back %+v, %x, %v", s, e, back, rest, err)
		}
		if again, err := EndpointFromText(e.String()); err != nil || again != e {
			t.Fatalf("%q: %+v, by text %+v, %v", s, e, again, err)
		}
	})
}
