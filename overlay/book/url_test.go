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
		"http://home.example.org/%zz":            "error: the URL is not valid",
		"http://me:swordfish@home.example.org/":  "error: a user name or password",
		"http://me:swordfish@home.example.org:x": "error: the URL is not valid",
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
