package book

import (
	"errors"
	"strings"
	"testing"

	"anodenet/anode/wire"
)

// One place has one spelling, and what cannot be a place is refused.
func TestURLs(t *testing.T) {
	for text, want := range map[string]string{
		"http://home.example.org":                "http://home.example.org/",
		"http://home.example.org/":               "http://home.example.org/",
		"HTTP://Home.Example.org:80/Path":        "http://home.example.org/Path",
		"https://home.example.org:443":           "https://home.example.org/",
		"https://home.example.org:8443/a/b?x=1":  "https://home.example.org:8443/a/b?x=1",
		"https://home.example.org?x=1":           "https://home.example.org/?x=1",
		"http://home.example.org:443/":           "http://home.example.org:443/",
		"http://192.0.2.1/":                      "http://192.0.2.1/",
		"http://[2001:DB8::1]":                   "http://[2001:db8::1]/",
		"http://[2001:db8::1]:80/":               "http://[2001:db8::1]/",
		"http://nas/":                            "http://nas/",
		"http://nas.:8080/a%20b":                 "http://nas.:8080/a%20b",
		"http://home.example.org/" + long(1000):  "http://home.example.org/" + long(1000),
		"http://home.example.org/" + long(1001):  "error: too long",
		"http://":                                "error: the host is missing",
		"http:///path":                           "error: the host is missing",
		"http://:8080/":                          "error: the host is missing",
		"http:home.example.org":                  "error: want a URL, such as http://home.example.org/",
		"https:/home.example.org":                "error: want a URL, such as",
		"http":                                   "error: want a URL",
		"ftp://home.example.org/":                "error: only http:// and https:// are available",
		"ws://home.example.org/":                 "error: only http:// and https:// are available",
		"socks5://192.0.2.1:1080":                "error: only http:// and https:// are available",
		"home.example.org/path":                  "error: want http:// or https:// in front of a URL",
		"home.example.org:8080/path":             "error: want http:// or https:// in front of a URL",
		"http://home.example.org:/":              "error: the port is missing",
		"http://home.example.org:0/":             "error: the port must not be 0",
		"http://home.example.org:65536/":         "error: want 1 to 65535",
		"http://home.example.org:x/":             "error: want 1 to 65535",
		"http://2001:db8::1/":                    "error: in brackets",
		"http://2001:db8::1:80/":                 "error: in brackets",
		"http://[2001:db8::1/":                   "error: in brackets",
		"http://[fe80::1%25eth0]/":               "error: the name of an interface",
		"http://0.0.0.0/":                        "error: no single machine",
		"http://[ff02::1]/":                      "error: no single machine",
		"http://[::ffff:0.0.0.0]/":               "error: no single machine",
		"http://192.0.2.256/":                    "error: the IP address is not valid",
		"http://10.1/":                           "error: the IP address is not valid",
		"http://my_home.example.org/":            "error: only letters, digits and -",
		"http://home..example.org/":              "error: an empty part",
		"http://b\u00fccher.example/":            "error: as DNS has them (xn--...)",
		"http://home.example.org/\u00fc":         "error: %XX in the path",
		"http://home.example.org/a b":            "error: write %20",
		"http://home.example.org/#top":           "error: a URL with #",
		"http://home.example.org/%zz":            "error: two hex digits",
		"http://home.example.org\\path":          "error: with /, not",
		"http://me:swordfish@home.example.org/":  "error: no password; those of a proxy",
		"http://me:swordfish@home.example.org:x": "error: no password",
		"http://me:swordfish@[2001:db8::1]/":     "error: no password",
		"http://me:sword@fish@home.example.org/": "error: no password",
		"https://me:swordfish/1@h.example/":      "error: no password",
		"http://home.example.org/a@b":            "http://home.example.org/a@b",
	} {
		p, err := ParsePlace(text)
		fault, bad := strings.CutPrefix(want, "error: ")
		switch {
		case !bad && (err != nil || p.String() != want || p.Endpoint.Kind != wire.HTTP):
			t.Errorf("%q: %v, %v, want %s", text, p, err, want)
		case bad && (!errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "swordfish")):
			t.Errorf("%q: %v, %v, want %s", text, p, err, want)
		}
	}
}

// An error does not repeat more of a text than can be read.
func TestLongTextsAreShortened(t *testing.T) {
	for _, text := range []string{"http://home.example.org/" + long(2000), "tcp:" + long(2000), long(2000) + ".example.org:1"} {
		if _, err := ParsePlace(text); err == nil || len(err.Error()) > 3*maxShown {
			t.Errorf("%v", err)
		}
	}
}

// Endpoints behind an address are cut at each @ that is not within a URL.
func TestParsePlaces(t *testing.T) {
	for text, want := range map[string]string{
		"udp:192.0.2.1:1":                               "udp:192.0.2.1:1",
		"udp:192.0.2.1:1@tcp:a.example:2":               "udp:192.0.2.1:1 tcp:a.example:2",
		"a.example@b.example:2":                         "udp:a.example:8737 udp:b.example:2",
		"http://a.example/x@y":                          "http://a.example/x@y",
		"http://a.example/x@y@TCP:192.0.2.1:2":          "http://a.example/x@y tcp:192.0.2.1:2",
		"http://a.example/?x@udp:192.0.2.1:1":           "http://a.example/?x udp:192.0.2.1:1",
		"http://a.example@https://b.example/x@y":        "http://a.example/ https://b.example/x@y",
		"tcp:192.0.2.1:2@http://me:swordfish@a.example": "error: no password",
		"http://me@a.example/":                          "error: no password",
		"tcp:me:swordfish@a.example:443":                "error: want 1 to 65535",
		"":                                              "error: want udp:IP:PORT",
		"udp:192.0.2.1:1@":                              "error: want udp:IP:PORT",
	} {
		list, err := ParsePlaces(text)
		var got []string
		for _, p := range list {
			got = append(got, p.String())
		}
		fault, bad := strings.CutPrefix(want, "error: ")
		switch {
		case !bad && (err != nil || strings.Join(got, " ") != want):
			t.Errorf("%q: %v, %v", text, got, err)
		case bad && (!errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "swordfish@")):
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func long(n int) string { return strings.Repeat("a", n) }

// A URL is looked at in every way in, since others than people make endpoints.
func TestURLsAreCheckedEverywhere(t *testing.T) {
	bad := wire.Endpoint{Kind: wire.HTTP, URI: "http://me:swordfish@192.0.2.1/"}
	good := wire.Endpoint{Kind: wire.HTTP, URI: "https://home.example.org/path"}
	b := open(t, &Memory{})
	if _, err := b.Add(north, "", []wire.Endpoint{bad}, when); !errors.Is(err, ErrEndpoint) {
		t.Errorf("added: %v", err)
	}
	if _, err := b.Add(north, "", []wire.Endpoint{good}, when); err != nil {
		t.Error(err)
	}
	if _, err := b.AddEndpoints(north, places(bad)); !errors.Is(err, ErrEndpoint) {
		t.Errorf("one more: %v", err)
	}
	_, report, err := Open(self, NewMemory(Entry{Address: south, Added: true, Endpoints: []wire.Endpoint{bad, good}}), nil)
	if err != nil || len(report) != 1 || !errors.Is(report[0], ErrEndpoint) {
		t.Errorf("in the store: %v, %v", report, err)
	}
	if _, report := b.SetFixed([]Entry{{Address: south, Endpoints: []wire.Endpoint{bad}}}); len(report) != 1 {
		t.Errorf("in the configuration: %v", report)
	}
	var p Place
	if err := p.UnmarshalText([]byte(bad.URI)); !errors.Is(err, ErrEndpoint) {
		t.Errorf("as JSON: %v", err)
	}
}
