package config

import (
	"math"
	"strings"
	"testing"

	"anodenet/anode"
)

func TestRate(t *testing.T) {
	for text, want := range map[string]struct {
		bytes   uint64
		written string
	}{
		"0": {0, "0"}, "100Mbit": {12_500_000, `"100Mbit"`}, " 100 mbit/s ": {12_500_000, `"100Mbit"`}, "100Mbps": {}, "100Mb": {}, "100mb": {},
		"1Gbit": {125_000_000, `"1Gbit"`}, "12MB": {12_000_000, `"96Mbit"`}, "12 MB/s": {12_000_000, `"96Mbit"`},
		"1000": {1000, `"8kbit"`}, "1001B": {1001, `"1001B"`}, "1bit": {}, "5": {}, "999B": {}, "7999bit": {}, "8001bit": {1000, `"8kbit"`}, "1kB": {1000, `"8kbit"`},
		"18446744073709551615": {math.MaxUint64, `"18446744073709551615"`}, "18446744073709551615kB": {}, "": {}, "-1": {}, "1.5MB": {},
		"MB": {}, "1 2MB": {}, "1XB": {}, "1MBs": {},
	} {
		var r Rate
		v := rate{&r}
		if ok := v.parse(text); ok != (want.bytes > 0 || text == "0") || r.Bytes != want.bytes {
			t.Errorf("%q: got %d, %v", text, r.Bytes, ok)
			continue
		}
		if want.written != "" && v.format() != want.written {
			t.Errorf("%q is written %s, want %s", text, v.format(), want.written)
		}
		var again Rate
		if !(rate{&again}).parse(strings.Trim(v.format(), `"`)) || again != r {
			t.Errorf("%q is written %s, and read as %d", text, v.format(), again.Bytes)
		}
	}
}

func TestServe(t *testing.T) {
	for text, want := range map[string]string{
		"true": "true", "false": "false", "1": "true", "192.0.2.1:80": `"192.0.2.1:80"`, "[::]:8080": `"[::]:8080"`,
	} {
		var s Serve
		v := serving{&s}
		if !v.parse(text) || v.format() != want {
			t.Errorf("%q: got %s", text, v.format())
		}
		if s.On == (want == "false") {
			t.Errorf("%q: on %v", text, s.On)
		}
	}
	for _, text := range []string{"", ":80", "192.0.2.1", "192.0.2.1:0", "[fe80::1%eth0]:80", "host:80", "192.0.2.1:65536"} {
		if (serving{&Serve{}}).parse(text) {
			t.Errorf("%q is taken", text)
		}
	}
}

// The zone has a section, and is a key of its own in files that have no section.
func TestZoneForms(t *testing.T) {
	for _, text := range []string{
		"zone = \"192.0.2.1\"\n", "zone = \"c0000201\"\n", "[zone]\nid = \"192.0.2.1\"\n", "zone.id = \"a--c0000201.net\"\n",
		"zone = { id = \"192.0.2.1\", serve = true }\n",
	} {
		c, err := Parse([]byte(text))
		if err != nil || c.Zone.Zone != anode.Zone(0xc0000201) || !c.Site.Serve.On {
			t.Errorf("%q: %v, %v", text, c.Zone, err)
		}
	}
	l, err := Source{Set: []string{"zone.id=1f", "zone.file=/etc/anode/zone", "zone.serve=false"}}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if l.Zone.Zone != 0x1f || l.Site != (Site{Path: "/etc/anode/zone"}) || l.Origin("zone").Name != "--set" {
		t.Errorf("got %+v from %v", l.Config, l.Origin("zone"))
	}
	if c, err := Parse([]byte(l.TOML())); err != nil || c.Zone != l.Zone || c.Site != l.Site {
		t.Errorf("%s\nis read as %+v, %v", l.TOML(), c, err)
	}
}
