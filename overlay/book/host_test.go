package book

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"anodenet/anode/wire"
)

// places returns endpoints as people give them.
func places(list ...wire.Endpoint) []Place { return Entry{Endpoints: list}.Places() }

func TestParsePlace(t *testing.T) {
	label := strings.Repeat("a", 63)
	longest := label + "." + label + "." + label + "." + label[:61]
	for text, want := range map[string]string{
		"udp:192.0.2.1:8737":          "udp:192.0.2.1:8737",
		"udp:[2001:db8::1]:1":         "udp:[2001:db8::1]:1",
		"udp 192.0.2.1:8737":          "udp:192.0.2.1:8737",
		"udp:home.example.org:8738":   "udp:home.example.org:8738",
		"home.example.org:8738":       "udp:home.example.org:8738",
		"home.example.org":            "udp:home.example.org:8737",
		"udp:home.example.org":        "udp:home.example.org:8737",
		"Home.Example.ORG":            "udp:home.example.org:8737",
		"home.example.org.":           "udp:home.example.org.:8737",
		"udp:nas:8737":                "udp:nas:8737",
		"nas:1":                       "udp:nas:1",
		"udp:nas":                     "error: want udp:IP:PORT",
		"nas.local:65535":             "udp:nas.local:65535",
		"www.163.com":                 "udp:www.163.com:8737",
		"1.2.3.4.example.org":         "udp:1.2.3.4.example.org:8737",
		"3com.example:08737":          "udp:3com.example:8737",
		"xn--bcher-kva.example":       "udp:xn--bcher-kva.example:8737",
		longest:                       "udp:" + longest + ":8737",
		"udp:" + longest + ".:8737":   "udp:" + longest + ".:8737",
		"a--b.x-1.example":            "udp:a--b.x-1.example:8737",
		"udp:udp:1":                   "udp:udp:1",
		"udp:tcp:1":                   "udp:tcp:1",
		"example.udp":                 "udp:example.udp:8737",
		"0xfeed.example":              "udp:0xfeed.example:8737",
		"host-192-0-2-1.example.org:": "error: want udp:IP:PORT",

		// Addresses that were mistyped are no names.
		"10.0.0.300":            "error: the IP address is not valid",
		"1.2.3":                 "error: the IP address is not valid",
		"1.2.3:8737":            "error: the IP address is not valid",
		"udp:1.2.3:8737":        "error: the IP address is not valid",
		"udp:10.0.0.300:8737":   "error: the IP address is not valid",
		"10.0.0.300:8737":       "error: the IP address is not valid",
		"10.0.0.1.":             "error: the IP address is not valid",
		"10.0.0.l":              "error: the IP address is not valid",
		"10.0.0.1o:8737":        "error: the IP address is not valid",
		"10.0.0.0x1":            "error: the IP address is not valid",
		"udp:0x7f000001:8737":   "error: the IP address is not valid",
		"1.2.3.4.5":             "error: the IP address is not valid",
		"192.0.2.1":             "error: want udp:IP:PORT",
		"192.0.2.1:8737":        "error: want udp:IP:PORT",
		"[2001:db8::1]:8737":    "error: want udp:IP:PORT",
		"2001:db8::1":           "error: want udp:IP:PORT",
		"udp:2001:db8::1":       "error: in brackets",
		"udp:192.0.2.1":         "error: the port is missing",
		"udp:192.0.2.1:0":       "error: the port must not be 0",
		"udp:[fe80::1%eth0]:1":  "error: the name of an interface",
		"udp:[ff02::1]:8737":    "error: no single machine",
		"192.168.1.2.example.1": "error: the IP address is not valid",

		"":                           "error: want udp:IP:PORT",
		"here":                       "error: want udp:IP:PORT",
		"unspecified":                "error: only udp, tcp and http are available",
		"udp:":                       "error: want udp:IP:PORT",
		"udp:8737":                   "error: want udp:IP:PORT",
		"udp::8737":                  "error: the host is missing",
		":8737":                      "error: want udp:IP:PORT",
		"udp:home.example.org:":      "error: the port is missing",
		"home.example.org:1:2":       "error: want udp:IP:PORT",
		"tcp:home.example.org:443":   "tcp:home.example.org:443",
		"tcp:Home.example.org":       "tcp:home.example.org:8737",
		"tcp:nas:443":                "tcp:nas:443",
		"tcp:192.0.2.1:443":          "tcp:192.0.2.1:443",
		"tcp:[2001:db8::1]:8737":     "tcp:[2001:db8::1]:8737",
		"tcp:udp:1":                  "tcp:udp:1",
		"tcp:8737":                   "error: want tcp:IP:PORT",
		"tcp:nas":                    "error: want tcp:IP:PORT",
		"tcp:192.0.2.1":              "error: the port is missing, such as tcp:192.0.2.1:8737",
		"tcp:192.0.2.1:0":            "error: the port must not be 0",
		"tcp:192.0.2.256:443":        "error: the IP address is not valid",
		"tcp:2001:db8::1":            "error: such as tcp:[2001:db8::1]:8737",
		"tcp:[ff02::1]:443":          "error: no single machine",
		"tcp:home.example.org:65536": "error: want 1 to 65535",
		"udp://192.0.2.1:8737":       "error: without //",
		"tcp://home.example.org:443": "error: without //",
		"TCP:192.0.2.1:443":          "tcp:192.0.2.1:443",
		"Udp:Home.example.org":       "udp:home.example.org:8737",
		"tcp:me:swordfish@h.example": "error: no user name and no password",
		"tcp:home example.org:443":   "error: has no blanks",
		" tcp:192.0.2.1:443":         "error: blanks around it",
		"tcp:192.0.2.1:1,tcp:x.y:2":  "error: one by one",
		"\"tcp:192.0.2.1:443\"":      "error: no quotes",
		"udp:255.255.255.255:8737":   "error: no single machine",
		"tcp:home.example.org/x":     "error: want http:// or https:// in front of a URL",
		"eth:02:00:00:00:00:01":      "error: needs no endpoint; set link.ethernet",
		"eth:eth0":                   "error: needs no endpoint; set link.ethernet",
		"eth0":                       "error: want udp:IP:PORT",
		"ethernet:eth0":              "error: needs no endpoint; set link.ethernet",
		"quic:home.example.org:8737": "error: want udp:IP:PORT",
		"home.example.org:0":         "error: the port must not be 0",
		"home.example.org:65536":     "error: want 1 to 65535",
		"home.example.org:+1":        "error: want 1 to 65535",
		"home.example.org:x":         "error: want 1 to 65535",
		"home..example.org":          "error: an empty part",
		".example.org":               "error: an empty part",
		"home.example.org..":         "error: an empty part",
		"-home.example.org":          "error: begins or ends with -",
		"home-.example.org":          "error: begins or ends with -",
		"my_home.example.org":        "error: only letters, digits and -",
		"home!.example.org":          "error: only letters, digits and -",
		"home.example.o rg":          "error: want udp:IP:PORT",
		"b\u00fccher.example":        "error: in ASCII",
		"home.example.2nd":           "error: must begin with a letter",
		label + "a.example":          "error: a part of the host name is too long",
		longest + "a":                "error: the host name is too long",
	} {
		p, err := ParsePlace(text)
		fault, bad := strings.CutPrefix(want, "error: ")
		switch {
		case !bad && (err != nil || p.String() != want):
			t.Errorf("%q: %v, %v, want %s", text, p, err, want)
		case bad && (!errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "wire:")):
			t.Errorf("%q: %v, %v, want %s", text, p, err, want)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	for _, text := range []string{"udp:192.0.2.1:8737", "home.example.org", "udp:nas:1", "10.0.0.300", "a.b.:65536", "udp:[::1]:1", "0x1.0x2", "tcp:nas.example:443", "HTTP://Nas:80?x", "https://[::1]:443/a%20b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePlace(text)
		if err != nil {
			if !errors.Is(err, ErrEndpoint) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if (p.Host == Host{}) == (p.Endpoint == wire.Endpoint{}) {
			t.Fatalf("%q: %+v", text, p)
		}
		back, err := ParsePlace(p.String())
		if err != nil || back != p {
			t.Errorf("%q: %v comes back as %v, %v", text, p, back, err)
		}
		// What a book takes from people, it takes from its Store as well.
		es, hosts := Split([]Place{p})
		if _, _, err := checkPlaces(es, hosts); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if h := p.Host; h.Name != "" && (len(h.Name) > maxHostName+1 || h.Port == 0 || strings.ContainsAny(h.Name, ":/@ \x00\n[]%_")) {
			t.Errorf("%q is the host %+v", text, h)
		}
	})
}

// Host names are kept beside the endpoints, and follow the same rules.
func TestHosts(t *testing.T) {
	var m Memory
	home, office := Host{Name: "home.example.org", Port: 8737}, Host{Name: "office.example.org", Port: 1}
	b := open(t, &m, Entry{Address: north, Hosts: []Host{office}})
	want := func(what string, e Entry, es []wire.Endpoint, hosts ...Host) {
		t.Helper()
		if !slices.Equal(e.Endpoints, es) || !slices.Equal(e.Hosts, hosts) {
			t.Errorf("%s: %v and %v", what, e.Endpoints, e.Hosts)
		}
	}
	must := func(c Change, err error) Entry {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c.After
	}
	want("of the configuration", b.Get(north), nil, office)
	if _, err := b.RemoveEndpoint(north, Place{Host: office}); !errors.Is(err, ErrFixed) {
		t.Errorf("removed from the configuration: %v", err)
	}
	want("added", must(b.AddEntry(Entry{Address: north, Hosts: []Host{home, home}}, when)), nil, home)
	want("and an address", must(b.AddEndpoints(north, []Place{{Endpoint: ep1}, {Host: office}})), []wire.Endpoint{ep1}, home, office)
	want("not given again", must(b.Add(north, "north", nil, when)), []wire.Endpoint{ep1}, home, office)
	want("from the store", open(t, &m).Get(north), []wire.Endpoint{ep1}, home, office)
	want("removed", must(b.RemoveEndpoint(north, Place{Host: home})), []wire.Endpoint{ep1}, office)
	if _, err := b.RemoveEndpoint(north, Place{Host: home}); !errors.Is(err, ErrNoEndpoint) || !strings.Contains(err.Error(), home.String()) {
		t.Errorf("removed twice: %v", err)
	}
	want("only an address", must(b.Add(north, "", []wire.Endpoint{ep2}, when)), []wire.Endpoint{ep2})
	want("none", must(b.RemoveEndpoint(north, Place{Endpoint: ep2})), nil, office)

	many := []Place{{Host: Host{Name: "a.example", Port: 1}}, {Host: Host{Name: "a.example", Port: 1, TCP: true}}, {Host: Host{Name: "a.example", Port: 3}}, {Host: Host{Name: "a.example", Port: 4}}}
	if _, err := b.AddEndpoints(north, many); !errors.Is(err, ErrEndpoint) { // and that of the configuration
		t.Errorf("five names: %v", err)
	}
	for _, h := range []Host{{"", 1, false}, {"home.example.org", 0, false}, {"Home.example.org", 1, true}, {"10.0.0.1", 1, false}} {
		if _, err := b.AddEntry(Entry{Address: south, Hosts: []Host{h}}, when); !errors.Is(err, ErrEndpoint) {
			t.Errorf("%+v: %v", h, err)
		}
	}
	_, report, err := Open(self, NewMemory(Entry{Address: south, Added: true, Hosts: []Host{home, {Name: "1.2", Port: 1}}}), nil)
	if err != nil || len(report) != 1 || !errors.Is(report[0], ErrEndpoint) {
		t.Errorf("a bad name in the store: %v, %v", report, err)
	}
}

// A peer of the configuration that has other host names has changed.
func TestHostsReload(t *testing.T) {
	home, office := Host{Name: "home.example.org", Port: 8737}, Host{Name: "office.example.org", Port: 1}
	b := open(t, &Memory{}, Entry{Address: north, Hosts: []Host{home}})
	if changes, report := b.SetFixed([]Entry{{Address: north, Hosts: []Host{home}}}); len(changes)+len(report) > 0 {
		t.Error(changes, report)
	}
	changes, report := b.SetFixed([]Entry{{Address: north, Hosts: []Host{office}}})
	if len(changes) != 1 || len(report) > 0 || !slices.Equal(changes[0].After.Hosts, []Host{office}) {
		t.Error(changes, report)
	}
}
