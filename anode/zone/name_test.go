package zone

import (
	"errors"
	"strings"
	"testing"

	"anodenet/anode"
)

func TestParseName(t *testing.T) {
	for s, want := range map[string]anode.Zone{
		"192.0.2.1": 0xc0000201, "c0000201": 0xc0000201, "C0000201": 0xc0000201, "0": 0, "10": 0x10,
		"a--c0000201.net": 0xc0000201, "A--C0000201.NET.": 0xc0000201, "12345678": 0x12345678, "ffffffff": 0xffffffff,
		"10.0.0.1": 0x0a000001, " 10.0.0.1\n": 0x0a000001,
	} {
		got, err := ParseName(s)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", ".", "192.0.2", "192.0.2.256", "192.0.2.1:80", "::1", "::ffff:192.0.2.1", "c00002011", "x", "a--c00002.net",
		"a--c000020g.net", "c0000201.net", "a--c0000201.com", "a--c0000201.net.example", "http://192.0.2.1/z", "-1", "+1",
	} {
		if z, err := ParseName(s); !errors.Is(err, ErrName) {
			t.Errorf("%q: got %v, %v", s, z, err)
		}
	}
}

// An address that no other machine can reach is a mistake.
func TestParseNameNoHost(t *testing.T) {
	for _, s := range []string{"0.0.0.0", "0.0.0.1", "127.0.0.1", "127.255.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"} {
		if z, err := ParseName(s); !errors.Is(err, ErrNoHost) {
			t.Errorf("%q: got %v, %v", s, z, err)
		}
	}
}

func TestCaveat(t *testing.T) {
	for z, want := range map[anode.Zone]string{
		0: "", 0x01010101: "",
		0x0a000001: "10.0.0.1 is a private address", 0xc0a80101: "192.168.1.1 is a private address",
		0x64400001: "100.64.0.1 is a private address", 0xa9fe0101: "169.254.1.1 is a private address",
		0xc0000201: "192.0.2.1 is reserved for manuals", 0xc6120001: "198.18.0.1 is reserved for",
		0xffffffff: "only be at http://a--ffffffff.net/z", 0x7f000001: "only be at http://a--7f000001.net/z", 1: "only be at http://a--00000001.net/z",
	} {
		if got := Caveat(z); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%v: got %q", z, got)
		}
	}
}

func TestLabel(t *testing.T) {
	equal(t, Label(0xc0000201), "192.0.2.1")
	equal(t, Label(0xe0000001), "e0000001")
	equal(t, Label(0), "0")
	equal(t, Label(1), "00000001")
}
