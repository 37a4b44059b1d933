package zone

import (
	"errors"
	"testing"

	"anodenet/anode"
)

func TestParseName(t *testing.T) {
	for s, want := range map[string]anode.Zone{
		"192.0.2.1": 0xc0000201, "c0000201": 0xc0000201, "C0000201": 0xc0000201, "0": 0, "10": 0x10,
		"a--c0000201.net": 0xc0000201, "A--C0000201.NET.": 0xc0000201, "12345678": 0x12345678, "0.0.0.0": 0,
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

func TestLabel(t *testing.T) {
	equal(t, Label(0xc0000201), "192.0.2.1")
	equal(t, Label(0xe0000001), "e0000001")
	equal(t, Label(0), "0")
	equal(t, Label(1), "00000001")
}
