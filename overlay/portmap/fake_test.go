package portmap

import (
	"context"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	us      = netip.MustParseAddr("127.0.0.1")
	router  = netip.MustParseAddr("127.0.0.2")
	outside = netip.MustParseAddr("198.51.100.7")
)

const ourPort = 8737

// gateway is a router with the protocols that a test wants.
type gateway struct {
	t     *testing.T
	at    netip.Addr
	ports ports

	mu       sync.Mutex
	external netip.Addr
	mappings map[uint16]entry // by external port
	requests []string         // what was asked, in order
	epoch    uint32
	code     int                   // of PCP and NAT-PMP: the answer to a request for a mapping
	actions  map[string]int        // UPnP error by action
	most     uint32                // seconds of a lease
	lose     int                   // so many datagrams
	spoil    func(b []byte) []byte // changes answers of PCP and NAT-PMP
}

// entry is a mapping of a gateway.
type entry struct {
	internal netip.AddrPort
	seconds  uint32
	nonce    pcpNonce
}

func newGateway(t *testing.T, at netip.Addr) *gateway {
	return &gateway{t: t, at: at, external: outside, mappings: make(map[uint16]entry), epoch: 1000, most: 7200, actions: make(map[string]int)}
}

// route leads to the gateway over loopback.
func (g *gateway) route() Route {
	from := us
	if g.at.Is6() {
		from = g.at
	}
	return Route{Gateway: g.at, Source: from, Interface: "lo"}
}

// packets opens a socket and answers each datagram by what answer returns.
func (g *gateway) packets(answer func(b []byte, from netip.AddrPort) []byte) uint16 {
	g.t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(g.at, 0)))
	if err != nil {
		g.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			g.mu.Lock()
			lost := g.lose > 0
			g.lose--
			var out []byte
			if !lost {
				out = answer(b[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
			}
			g.mu.Unlock()
			if out != nil {
				c.WriteToUDPAddrPort(out, from)
			}
		}
	})
	g.t.Cleanup(func() { c.Close(); running.Wait() })
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// withPCP has it speak PCP or NAT-PMP or both.
func (g *gateway) withPCP(pcp, pmp bool) *gateway {
	g.ports.pcp = g.packets(func(b []byte, from netip.AddrPort) []byte {
		var out []byte
		switch {
		case len(b) >= 2 && b[0] == 2 && pcp:
			out = g.pcp(b, from)
		case len(b) >= 2 && b[0] == 2: // RFC 6886 3.5
			out = binary.BigEndian.AppendUint32([]byte{0, 128 | b[1], 0, 1}, g.epoch)
		case len(b) >= 2 && pmp:
			out = g.pmp(b, from)
		case len(b) >= 2: // RFC 6887 9
			out = append([]byte{2, 128 | b[1], 0, 1}, make([]byte, 20)...)
		}
		if g.spoil != nil {
			out = g.spoil(out)
		}
		return out
	})
	return g
}

// pcp answers as a server of RFC 6887.
func (g *gateway) pcp(b []byte, from netip.AddrPort) []byte {
	out := append([]byte{2, 128 | b[1], 0, 0}, b[4:8]...)
	out = binary.BigEndian.AppendUint32(out, g.epoch)
	out = append(append(out, make([]byte, 12)...), b[24:]...)
	if b[1] == pcpAnnounce {
		g.requests = append(g.requests, "announce")
		return out
	}
	seconds := binary.BigEndian.Uint32(b[4:])
	g.requests = append(g.requests, fmt.Sprintf("pcp map %d", seconds))
	client := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	if client != from.Addr() {
		out[3] = 12
		return out
	}
	if g.code != 0 {
		out[3] = byte(g.code)
		binary.BigEndian.PutUint32(out[4:], 90*60)
		return out
	}
	m := entry{netip.AddrPortFrom(client, binary.BigEndian.Uint16(b[40:])), min(seconds, g.most), pcpNonce(b[24:36])}
	for port, other := range g.mappings {
		if other.internal == m.internal && other.nonce != m.nonce {
			out[3] = 2
			return out
		}
		if other.internal == m.internal {
			delete(g.mappings, port)
		}
	}
	if seconds == 0 {
		return out
	}
	port := g.free(binary.BigEndian.Uint16(b[42:]))
	g.mappings[port] = m
	binary.BigEndian.PutUint32(out[4:], m.seconds)
	binary.BigEndian.PutUint16(out[42:], port)
	external := g.external.As16()
	if client.Is6() {
		external = client.As16()
	}
	copy(out[44:], external[:])
	return out
}

// pmp answers as a server of RFC 6886.
func (g *gateway) pmp(b []byte, from netip.AddrPort) []byte {
	out := binary.BigEndian.AppendUint32([]byte{0, 128 | b[1], 0, 0}, g.epoch)
	if b[1] == pmpAddress {
		g.requests = append(g.requests, "address")
		a := g.external.As4()
		return append(out, a[:]...)
	}
	seconds := binary.BigEndian.Uint32(b[8:])
	g.requests = append(g.requests, fmt.Sprintf("pmp map %d", seconds))
	if g.code != 0 {
		out[3] = byte(g.code)
		return out
	}
	m := entry{internal: netip.AddrPortFrom(from.Addr(), binary.BigEndian.Uint16(b[4:])), seconds: min(seconds, g.most)}
	for port, other := range g.mappings {
		if other.internal == m.internal {
			delete(g.mappings, port)
		}
	}
	port := uint16(0)
	if seconds > 0 {
		port = g.free(binary.BigEndian.Uint16(b[6:]))
		g.mappings[port] = m
	}
	out = binary.BigEndian.AppendUint16(append(out, b[4:6]...), port)
	return binary.BigEndian.AppendUint32(out, m.seconds)
}

func (g *gateway) free(port uint16) uint16 {
	for ; port == 0 || g.mappings[port] != (entry{}); port++ {
	}
	return port
}

// withUPnP has it be an Internet Gateway Device. description, if it is not nil, answers the
// request for the description, and location is the place of that, "" for the right one.
func (g *gateway) withUPnP(description http.HandlerFunc, location string) *gateway {
	mux := http.NewServeMux()
	l, err := net.Listen("tcp", netip.AddrPortFrom(g.at, 0).String())
	if err != nil {
		g.t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	g.t.Cleanup(s.Close)
	if description == nil {
		description = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, deviceDescription) }
	}
	mux.HandleFunc("GET /root.xml", description)
	mux.HandleFunc("POST /control", g.soap)
	if location == "" {
		location = s.URL + "/root.xml"
	}
	g.ports.ssdp = g.packets(func(b []byte, _ netip.AddrPort) []byte {
		_, st, ok := strings.Cut(string(b), "\r\nST: ")
		if !ok || !strings.HasPrefix(string(b), "M-SEARCH * HTTP/1.1\r\n") {
			return nil
		}
		st, _, _ = strings.Cut(st, "\r\n")
		return []byte(answerTo(st, location))
	})
	return g
}

func answerTo(st, location string) string {
	return "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\nST: " + st + "\r\nUSN: uuid:1::" + st + "\r\nLOCATION: " + location + "\r\n\r\n"
}

const deviceDescription = `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>a router</friendlyName>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>/control</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPv6FirewallControl:1</serviceType><controlURL>/control</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>`

// soap answers as the services of the description.
func (g *gateway) soap(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var in struct {
		Body struct {
			Action struct {
				XMLName xml.Name
				Args    []struct {
					XMLName xml.Name
					Value   string `xml:",chardata"`
				} `xml:",any"`
			} `xml:",any"`
		} `xml:"Body"`
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
		g.t.Errorf("SOAP: %v", err)
	}
	action, args := in.Body.Action.XMLName.Local, make(map[string]string)
	for _, a := range in.Body.Action.Args {
		args[a.XMLName.Local] = a.Value
	}
	if want := fmt.Sprintf("%q", in.Body.Action.XMLName.Space+"#"+action); r.Header.Get("SOAPAction") != want {
		g.t.Errorf("action %s, header %s", want, r.Header.Get("SOAPAction"))
	}
	g.requests = append(g.requests, strings.TrimSpace(action+" "+args["NewExternalPort"]+" "+args["NewLeaseDuration"]))
	code := g.actions[action]
	var out string
	if code == 0 {
		out, code = g.act(action, args)
	}
	const envelope = `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>%s</s:Body></s:Envelope>`
	if code != 0 {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, envelope, fmt.Sprintf(`<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>x</errorDescription></UPnPError></detail></s:Fault>`, code))
		return
	}
	fmt.Fprintf(w, envelope, fmt.Sprintf(`<u:%sResponse xmlns:u=%q>%s</u:%sResponse>`, action, in.Body.Action.XMLName.Space, out, action))
}

func (g *gateway) act(action string, args map[string]string) (out string, code int) {
	var port, internal uint16
	var seconds uint32
	fmt.Sscan(args["NewExternalPort"], &port)
	fmt.Sscan(args["NewInternalPort"]+args["InternalPort"], &internal)
	fmt.Sscan(args["NewLeaseDuration"]+args["LeaseTime"], &seconds)
	old := g.mappings[port]
	switch action {
	case "GetExternalIPAddress":
		return "<NewExternalIPAddress>" + g.external.String() + "</NewExternalIPAddress>", 0
	case "GetSpecificPortMappingEntry":
		if old == (entry{}) {
			return "", noSuchEntry
		}
		return fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled>", old.internal.Port(), old.internal.Addr()), 0
	case "AddPortMapping":
		m := entry{internal: netip.AddrPortFrom(netip.MustParseAddr(args["NewInternalClient"]), internal), seconds: seconds}
		if old != (entry{}) && old.internal != m.internal && g.actions["overwrite"] == 0 {
			return "", conflict
		}
		if seconds != 0 && g.actions["permanent"] != 0 {
			return "", onlyPermanent
		}
		g.mappings[port] = m
	case "DeletePortMapping":
		if old == (entry{}) {
			return "", noSuchEntry
		}
		delete(g.mappings, port)
	case "AddPinhole":
		g.mappings[7] = entry{internal: netip.AddrPortFrom(netip.MustParseAddr(args["InternalClient"]), internal), seconds: seconds}
		return "<UniqueID>7</UniqueID>", 0
	case "DeletePinhole":
		if args["UniqueID"] != "7" {
			return "", 704
		}
		delete(g.mappings, 7)
	default:
		return "", 401
	}
	return "", 0
}

// set changes the gateway.
func (g *gateway) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// asked returns what was asked since the last call.
func (g *gateway) asked() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := g.requests
	g.requests = nil
	return list
}

// has returns the mapping of an external port.
func (g *gateway) has(port uint16) entry {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mappings[port]
}

func (g *gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.mappings)
}

// within bounds a test.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// soon bounds waiting for an answer that does not come.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
