package book

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// The error of an endpoint says what is wrong with it, in words that the text itself
// explains.
func TestEndpointFaults(t *testing.T) {
	for text, want := range map[string]string{
		"here":                    "want udp:IP:PORT",
		"":                        "want udp:IP:PORT",
		"192.0.2.1:8737":          "want udp:IP:PORT",
		"192.0.2.1":               "want udp:IP:PORT",
		"2001:db8::1":             "want udp:IP:PORT",
		"[2001:db8::1]:8737":      "want udp:IP:PORT",
		"quic:192.0.2.1:8737":     "want udp:IP:PORT",
		"eth:02:00:00:00:00:01":   "set link.ethernet",
		"unspecified":             "only udp, tcp and http are available",
		"tcp:nonsense":            "want tcp:IP:PORT",
		"tcp:host.example:443":    "want an IP address",
		"tcp:192.0.2.1:0":         "the port must not be 0",
		"udp:192.0.2.1":           "the port is missing",
		"udp:[2001:db8::1]":       "the port is missing",
		"udp:2001:db8::1":         "in brackets",
		"udp:2001:db8::1:8737":    "in brackets",
		"udp:host.example:8737":   "want an IP address",
		"udp:192.0.2.256:8737":    "the IP address is not valid",
		"udp:192.0.2.1:0":         "the port must not be 0",
		"udp:192.0.2.1:65536":     "want 1 to 65535",
		"udp:192.0.2.1:x":         "want 1 to 65535",
		"udp:[fe80::1%eth0]:8737": "the name of an interface",
		"udp:0.0.0.0:8737":        "no single machine",
		"udp:[ff02::1]:8737":      "no single machine",
	} {
		_, err := ParseEndpoint(text)
		if !errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wire:") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// What an IP address must not be is the same in each kind of endpoint.
func TestEndpointAddresses(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.1":                "",
		"10.0.0.1":                 "",
		"127.0.0.1":                "", // the end of a tunnel
		"[::1]":                    "",
		"169.254.7.7":              "", // needs no interface
		"[2001:db8::1]":            "",
		"[fd00::1]":                "",
		"[::ffff:192.0.2.1]":       "",
		"0.0.0.0":                  "no single machine",
		"[::]":                     "no single machine",
		"[::ffff:0.0.0.0]":         "no single machine",
		"255.255.255.255":          "no single machine",
		"[::ffff:255.255.255.255]": "no single machine",
		"224.0.0.251":              "no single machine",
		"[::ffff:224.0.0.251]":     "no single machine",
		"[ff02::1]":                "no single machine",
		"[ff0e::1]":                "no single machine",
		"[fe80::1]":                "a link-local address",
		"[febf:ffff::1]":           "a link-local address",
		"[FE80:0:0:0:0:0:0:1]":     "a link-local address",
		"[fe80::1%eth0]":           "the name of an interface",
	} {
		for _, form := range []string{"udp:%s:8737", "tcp:%s:8737", "http://%s:8080/", "https://%s/"} {
			host := ip
			if strings.HasPrefix(form, "http") {
				host = strings.Replace(ip, "%", "%25", 1)
			}
			text := strings.Replace(form, "%s", host, 1)
			_, err := ParsePlace(text)
			if ok := err == nil; ok != (want == "") || !ok && (!errors.Is(err, ErrEndpoint) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s: %v, want %q", text, err, want)
			}
		}
	}
}

func TestAddEndpoints(t *testing.T) {
	a, _ := newKey()
	b, _ := newKey()
	stranger, _ := newKey()
	one, two, three := udp("192.0.2.1:1"), udp("192.0.2.1:2"), udp("192.0.2.1:3")
	book := open(t, NewMemory(Entry{Address: a, Added: true, Endpoints: []wire.Endpoint{one}}),
		Entry{Address: b, Endpoints: []wire.Endpoint{two}})
	if c, err := book.AddEndpoints(a, places(three, one)); err != nil || !slices.Equal(c.After.Endpoints, []wire.Endpoint{one, three}) {
		t.Errorf("%v, %v", c.After, err)
	}
	// Those of the configuration are not lost when the first is given.
	if _, err := book.AddEndpoints(b, places(three)); !errors.Is(err, ErrFixed) {
		t.Errorf("%v", err)
	}
	if _, err := book.Add(b, "", nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if c, err := book.AddEndpoints(b, places(three)); err != nil || !slices.Equal(c.After.Endpoints, []wire.Endpoint{two, three}) {
		t.Errorf("%v, %v", c.After, err)
	}
	if _, err := book.AddEndpoints(stranger, places(three)); !errors.Is(err, ErrUnknownPeer) {
		t.Errorf("%v", err)
	}
}
