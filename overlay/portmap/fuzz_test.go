package portmap

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/huin/goupnp/soap"
)

// FuzzPCP: what parses can be written as a request that parses to the same mapping.
func FuzzPCP(f *testing.F) {
	q := pcpRequest{netip.MustParseAddr("192.168.1.2"), pcpNonce{1, 2, 3}, 8737, netip.MustParseAddrPort("198.51.100.7:9000"), 1800}
	f.Add(asAnswer(q.appendTo(nil)))
	f.Add(asAnswer(appendPCPHeader(nil, pcpAnnounce, 0, q.client)))
	f.Add([]byte{0, 0x81, 0, 1, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, b []byte) {
		parsePCP(b, pcpAnnounce)
		r, err := parsePCP(b, pcpMap)
		var bad *failure
		if err != nil && !errors.Is(err, errOther) && !errors.As(err, &bad) {
			t.Fatal(err)
		}
		if err != nil || !r.external.IsValid() {
			return
		}
		q := pcpRequest{r.external.Addr(), r.nonce, r.internal, r.external, r.seconds}
		again, err := parsePCP(asAnswer(q.appendTo(nil)), pcpMap)
		again.epoch, again.code = r.epoch, r.code
		if err != nil || again != r {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

// asAnswer makes an answer of a request.
func asAnswer(b []byte) []byte {
	b[1] |= pcpAnswer
	clear(b[8:24])
	return b
}

// FuzzNATPMP: likewise.
func FuzzNATPMP(f *testing.F) {
	f.Add([]byte{0, 128, 0, 0, 0, 0, 0, 42, 198, 51, 100, 7})
	f.Add([]byte{0, 129, 0, 0, 0, 0, 0, 42, 0x22, 0x21, 0x23, 0x28, 0, 0, 7, 8})
	f.Add([]byte{2, 129, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parsePMP(b, pmpAddress); err == nil && r.code == 0 && !r.address.Is4() {
			t.Fatalf("%+v", r)
		}
		r, err := parsePMP(b, pmpMapUDP)
		if err != nil || r.code != 0 {
			return
		}
		out := append([]byte{0, 129, 0, 0, b[4], b[5], b[6], b[7]}, appendPMPMap(nil, r.internal, r.external, r.seconds)[4:]...)
		if !bytes.Equal(out, b) {
			t.Fatalf("%x became %x", b, out)
		}
	})
}

// FuzzSearch: whatever an answer says, what passes is the gateway's.
func FuzzSearch(f *testing.F) {
	f.Add([]byte(answerTo(search[0], "http://127.0.0.2:5000/root.xml")))
	f.Add([]byte(answerTo(search[1], "http://[fe80::1%25eth0]:5000/root.xml")))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		place, err := parseAnswer(b)
		if err != nil || permitted(place, router) != nil {
			return
		}
		if a, err := netip.ParseAddr(place.Hostname()); err != nil || a.Unmap().WithZone("") != router || place.Scheme != "http" {
			t.Fatalf("%s passes", place)
		}
	})
}

// FuzzDescription: whatever a description says, its services are the gateway's, and few.
func FuzzDescription(f *testing.F) {
	place, err := url.Parse("http://127.0.0.2:5000/root.xml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(deviceDescription))
	f.Add([]byte(strings.Replace(deviceDescription, "<device>", "<URLBase>http://127.0.0.3/</URLBase><device>", 1)))
	f.Add([]byte(`<?xml version="1.0" encoding="iso-8859-1"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>` + "\xe4"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseDescription(b, place, router, append(holeServices, mapServices...))
		if (err == nil) != (len(list) > 0) || len(list) > maxServices {
			t.Fatalf("%d services, %v", len(list), err)
		}
		for _, s := range list {
			if u := s.client.EndpointURL; u.Hostname() != router.String() || u.Scheme != "http" {
				t.Fatalf("%s is no place of the gateway", &u)
			}
		}
	})
}

// canned is a transport that answers the same to all.
type canned struct {
	status int
	body   []byte
}

func (c canned) RoundTrip(q *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, q.Body)
	return &http.Response{StatusCode: c.status, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: int64(len(c.body)), Header: http.Header{}, Request: q}, nil
}

// FuzzSOAP: an answer is an IPv4 address or a failure.
func FuzzSOAP(f *testing.F) {
	const start, end = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>`, `</s:Body></s:Envelope>`
	f.Add(200, []byte(xml.Header+start+`<u:GetExternalIPAddressResponse xmlns:u="x"><NewExternalIPAddress>198.51.100.7</NewExternalIPAddress></u:GetExternalIPAddressResponse>`+end))
	f.Add(500, []byte(start+`<s:Fault><detail><UPnPError><errorCode>606</errorCode></UPnPError></detail></s:Fault>`+end))
	f.Fuzz(func(t *testing.T, status int, b []byte) {
		s := &service{kind: mapServices[1], client: soap.SOAPClient{HTTPClient: http.Client{Transport: short{canned{status, b}}}}}
		s.client.EndpointURL = url.URL{Scheme: "http", Host: "127.0.0.2"}
		a, err := address(context.Background(), s)
		if bad := (*failure)(nil); err != nil && !errors.As(err, &bad) || err == nil && !a.Is4() {
			t.Fatalf("%s, %v", a, err)
		}
	})
}
