package portmap

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/soap"
)

const (
	// maxBody is the most bytes of an HTTP answer, which also bounds what XML can unfold to:
	// entities that refer to others are not expanded.
	maxBody = 128 << 10
	// callTime bounds one HTTP exchange.
	callTime = 3 * time.Second
	// maxServices bounds how many services of a description are looked at.
	maxServices = 4
	// maxPorts bounds how many external ports are tried.
	maxPorts = 5
	// description is what a router's list of mappings shows.
	description = "anode"
)

// The services that map ports, the best first, and the one that opens firewalls.
var (
	mapServices  = []string{"urn:schemas-upnp-org:service:WANIPConnection:2", "urn:schemas-upnp-org:service:WANIPConnection:1", "urn:schemas-upnp-org:service:WANPPPConnection:1"}
	holeServices = []string{"urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"}
)

// newClient makes a client that connects to the gateway only, from our address. It follows
// no redirection, uses no proxy, and reads no more than maxBody of an answer.
func newClient(r Route) *http.Client {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: r.Source.AsSlice()}}
	return &http.Client{
		Timeout: callTime,
		Transport: short{&http.Transport{
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(address)
				if err != nil {
					return nil, err
				}
				return d.DialContext(ctx, "tcp", netip.AddrPortFrom(r.router(), to.Port()).String())
			},
			DisableKeepAlives:      true, // many routers close idle connections without a word
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// short cuts bodies off.
type short struct{ http.RoundTripper }

func (s short) RoundTrip(q *http.Request) (*http.Response, error) {
	r, err := s.RoundTripper.RoundTrip(q)
	if err == nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(r.Body, maxBody), r.Body}
	}
	return r, err
}

// service is one service of the gateway.
type service struct {
	kind   string // urn:...
	client soap.SOAPClient
}

// call performs an action. in and out are structs of strings; out may be nil. The error is
// a failure, or that of ctx.
func (s *service) call(ctx context.Context, action string, in, out any) error {
	err := s.client.PerformActionCtx(ctx, s.kind, action, in, out)
	var fault *soap.SOAPFaultError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &fault):
		return upnpFailure(fault.Detail.UPnPError.Errorcode)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &failure{code: Failed, detail: action + " was not answered as it should be"}
}

// describe fetches the device description and returns the wanted services in it.
func describe(ctx context.Context, client *http.Client, place *url.URL, gateway netip.Addr, kinds []string) ([]*service, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, place.String(), nil)
	if err != nil {
		return nil, &failure{code: Failed, detail: "malformed place of the description"}
	}
	r, err := client.Do(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &failure{code: Failed, detail: "the device description cannot be fetched"}
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return nil, &failure{code: Failed, detail: fmt.Sprintf("the device description cannot be fetched: status %d", r.StatusCode)}
	}
	list, err := parseDescription(b, place, gateway, kinds)
	for _, s := range list {
		s.client.HTTPClient = *client
	}
	return list, err
}

// parseDescription returns the services of the kinds, by the order of kinds.
func parseDescription(b []byte, place *url.URL, gateway netip.Addr, kinds []string) (list []*service, err error) {
	d := xml.NewDecoder(bytes.NewReader(bytes.ToValidUTF8(b, []byte("?"))))
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // what matters is ASCII
	var root goupnp.RootDevice
	if err := d.Decode(&root); err != nil {
		return nil, &failure{code: Failed, detail: "the device description is malformed"}
	}
	base := place
	if root.URLBaseStr != "" {
		if base, err = url.Parse(root.URLBaseStr); err != nil {
			return nil, &failure{code: Failed, detail: "the device description is malformed"}
		}
	}
	root.SetURLBase(base)
	for _, kind := range kinds {
		for _, s := range root.Device.FindService(kind) {
			if u := s.ControlURL.URL; len(list) < maxServices && s.ControlURL.Ok && permitted(&u, gateway) == nil {
				list = append(list, &service{kind: kind, client: soap.SOAPClient{EndpointURL: u}})
			}
		}
	}
	if len(list) == 0 {
		return nil, &failure{code: Unfit, detail: "the device has no service for it"}
	}
	return list, nil
}

// Error codes of UPnP (WANIPConnection 2.4, WANIPv6FirewallControl 2.4).
const (
	noSuchEntry   = 714
	conflict      = 718
	onlyPermanent = 725
	conflictOther = 729
)

// upnpCodes are the error codes that say more than that it does not work.
var upnpCodes = map[int]Code{
	606:           Refused,
	701:           NoPort,
	703:           Refused,
	conflict:      NoPort,
	728:           NoPort,
	conflictOther: NoPort,
}

// fault is a failure with its UPnP error code.
type fault struct {
	failure
	number int
}

func (f *fault) Unwrap() error { return &f.failure }

func upnpFailure(number int) error {
	code, known := upnpCodes[number]
	if !known {
		code = Unfit
	}
	return &fault{failure{code: code, detail: fmt.Sprintf("UPnP error %d", number)}, number}
}

func isFault(err error, numbers ...int) bool {
	var f *fault
	if !errors.As(err, &f) {
		return false
	}
	for _, n := range numbers {
		if f.number == n {
			return true
		}
	}
	return false
}

// newUPnP makes the protocol for the route's family.
func newUPnP(r Route, port, at uint16) protocol {
	g := igd{finder: finder{r, at}, route: r}
	if r.Source.Is4() {
		return &upnp{igd: g, port: port}
	}
	return &pinhole{igd: g, port: port}
}

// igd is the gateway as a UPnP device.
type igd struct {
	finder finder
	route  Route
}

// services finds the gateway and its services.
func (g igd) services(ctx context.Context, kinds []string) ([]*service, error) {
	place, err := g.finder.find(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, addTime)
	defer cancel()
	return describe(ctx, newClient(g.route), place, g.route.Gateway, kinds)
}

// upnp maps an IPv4 port.
type upnp struct {
	igd       igd
	port      uint16
	service   *service // of the last probe
	external  uint16   // of the last mapping; 0: none
	permanent bool     // the gateway knows no leases
}

func (u *upnp) kind() Kind { return UPnP }

// probe chooses the service whose external address is one of the internet. A router can
// have several, of which one is connected.
func (u *upnp) probe(ctx context.Context) error {
	list, err := u.igd.services(ctx, mapServices)
	if err != nil {
		return err
	}
	u.service = list[0]
	for _, s := range list {
		if a, err := address(ctx, s); err == nil && reachable(a) {
			u.service = s
			break
		}
	}
	return ctx.Err()
}

// address asks for the external address.
func address(ctx context.Context, s *service) (netip.Addr, error) {
	var out struct{ NewExternalIPAddress string }
	if err := s.call(ctx, "GetExternalIPAddress", nil, &out); err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(out.NewExternalIPAddress)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, &failure{code: NotReady, detail: "it has no external address"}
	}
	return a, nil
}

func (u *upnp) add(ctx context.Context, external uint16) (grant, error) {
	a, err := address(ctx, u.service) // first, so that a failure leaves no mapping behind
	if err != nil {
		return grant{}, err
	}
	err = u.addOne(ctx, external)
	for try := 1; try < maxPorts && isFault(err, conflict, conflictOther); try++ {
		err = u.addOne(ctx, another(u.igd.route.Source, u.port, try))
	}
	if err != nil {
		return grant{}, err
	}
	g := grant{external: netip.AddrPortFrom(a, u.external), lease: Lease}
	if u.permanent {
		g.lease = 0
	}
	return g, nil
}

// another returns one more external port to try: the same ones after a restart, so that a
// mapping that a killed process left is taken over.
func another(a netip.Addr, port uint16, try int) uint16 {
	const first, n = 49152, 16384 // the ports for private use (RFC 6335 6)
	h := fnv.New32a()
	fmt.Fprintf(h, "%s %d %d", a, port, try)
	return first + uint16(h.Sum32()%n)
}

// addOne makes or renews the mapping of one external port.
func (u *upnp) addOne(ctx context.Context, external uint16) error {
	if external != u.external {
		if owner, err := u.owner(ctx, external); err == nil && owner != u.own() {
			return upnpFailure(conflict) // some routers would take it from the other
		}
	}
	err := u.request(ctx, external)
	if isFault(err, onlyPermanent) {
		u.permanent = true
		err = u.request(ctx, external)
	}
	if isFault(err, conflict) {
		// Some routers refuse to renew.
		if owner, e := u.owner(ctx, external); e == nil && owner == u.own() && u.drop(ctx, external) == nil {
			err = u.request(ctx, external)
		}
	}
	if err == nil {
		u.external = external
	}
	return err
}

func (u *upnp) own() netip.AddrPort { return netip.AddrPortFrom(u.igd.route.Source, u.port) }

// owner returns where an external port leads.
func (u *upnp) owner(ctx context.Context, external uint16) (netip.AddrPort, error) {
	in := struct{ NewRemoteHost, NewExternalPort, NewProtocol string }{"", fmt.Sprint(external), "UDP"}
	var out struct{ NewInternalPort, NewInternalClient string }
	if err := u.service.call(ctx, "GetSpecificPortMappingEntry", &in, &out); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.ParseAddrPort(net.JoinHostPort(out.NewInternalClient, out.NewInternalPort))
}

func (u *upnp) request(ctx context.Context, external uint16) error {
	lease := Lease
	if u.permanent {
		lease = 0
	}
	in := struct {
		NewRemoteHost, NewExternalPort, NewProtocol, NewInternalPort, NewInternalClient, NewEnabled, NewPortMappingDescription, NewLeaseDuration string
	}{"", fmt.Sprint(external), "UDP", fmt.Sprint(u.port), u.igd.route.Source.String(), "1", description, fmt.Sprint(int(lease / time.Second))}
	return u.service.call(ctx, "AddPortMapping", &in, nil)
}

func (u *upnp) drop(ctx context.Context, external uint16) error {
	in := struct{ NewRemoteHost, NewExternalPort, NewProtocol string }{"", fmt.Sprint(external), "UDP"}
	return u.service.call(ctx, "DeletePortMapping", &in, nil)
}

func (u *upnp) remove(ctx context.Context) error {
	if err := u.drop(ctx, u.external); !isFault(err, noSuchEntry) {
		return err
	}
	return nil
}

// pinhole opens the firewall for an IPv6 address.
type pinhole struct {
	igd     igd
	port    uint16
	service *service // of the last probe
	id      string   // of the last pinhole
}

func (p *pinhole) kind() Kind { return UPnP }

func (p *pinhole) probe(ctx context.Context) error {
	list, err := p.igd.services(ctx, holeServices)
	if err != nil {
		return err
	}
	p.service = list[0]
	return nil
}

// add asks for the same pinhole again to renew it.
func (p *pinhole) add(ctx context.Context, _ uint16) (grant, error) {
	source := p.igd.route.Source
	in := struct{ RemoteHost, RemotePort, InternalClient, InternalPort, Protocol, LeaseTime string }{
		"", "0", source.String(), fmt.Sprint(p.port), fmt.Sprint(udpProtocol), fmt.Sprint(int(Lease / time.Second))}
	var out struct{ UniqueID string }
	if err := p.service.call(ctx, "AddPinhole", &in, &out); err != nil {
		return grant{}, err
	}
	p.id = out.UniqueID
	return grant{external: netip.AddrPortFrom(source, p.port), lease: Lease}, nil
}

func (p *pinhole) remove(ctx context.Context) error {
	in := struct{ UniqueID string }{p.id}
	return p.service.call(ctx, "DeletePinhole", &in, nil)
}
