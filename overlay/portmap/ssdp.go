package portmap

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// A search for UPnP devices (UPnP Device Architecture 1.1, 1.3) is a datagram in the shape of
// an HTTP request, to a multicast address and to the gateway itself: the answer to a
// multicast does not pass many a firewall of ours. The answer has the shape of an HTTP
// response, and says where the device's description is.
const (
	searchAgain = 500 * time.Millisecond // between searches, of which there are two
	maxAnswer   = 2048                   // bytes of an answer
)

// search is what is asked for: a gateway of either version.
var search = [...]string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
}

// finder searches for the gateway's device description.
type finder struct {
	route Route
	port  uint16
}

// multicast is where devices hear searches. The IPv6 one stays on the link.
func (f finder) multicast() netip.Addr {
	if f.route.Source.Is4() {
		return netip.AddrFrom4([4]byte{239, 255, 255, 250})
	}
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 0x0c}).WithZone(f.route.Interface)
}

// local is where searches leave from. To a link-local router that is our own link-local
// address, which the system chooses: the router would answer our global address from one
// of its global addresses, which we do not know.
func (f finder) local() netip.Addr {
	if f.route.Gateway.IsLinkLocalUnicast() && f.route.Source.Is6() {
		return netip.IPv6Unspecified()
	}
	return f.route.Source
}

// find returns the place of the description. Whoever else answers is ignored.
func (f finder) find(ctx context.Context) (*url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(f.local(), 0)))
	if err != nil {
		return nil, unsent(ctx, err)
	}
	defer c.Close()
	defer ending(ctx, c)()

	last := &failure{code: NoAnswer}
	for range 2 {
		if err := f.ask(c); err != nil {
			return nil, unsent(ctx, err)
		}
		if err := patient(ctx, c, time.Now().Add(searchAgain)); err != nil {
			return nil, err
		}
		if place, err := f.listen(ctx, c, last); !isTimeout(err) || ctx.Err() != nil {
			return place, err
		}
	}
	if err := patient(ctx, c, time.Time{}); err != nil {
		return nil, err
	}
	return f.listen(ctx, c, last)
}

// ask sends the searches. It fails if not even the one to the gateway leaves.
func (f finder) ask(c *net.UDPConn) (err error) {
	group := netip.AddrPortFrom(f.multicast(), f.port)
	aimed := f.aim(c) == nil
	for _, kind := range search {
		_, err = c.WriteToUDPAddrPort(appendSearch(nil, netip.AddrPortFrom(f.route.Gateway, f.port), kind), netip.AddrPortFrom(f.route.router(), f.port))
		if aimed {
			c.WriteToUDPAddrPort(appendSearch(nil, group, kind), group) // fails where there are no multicasts
		}
	}
	return err
}

// appendSearch appends a search for one kind of device.
func appendSearch(b []byte, to netip.AddrPort, kind string) []byte {
	host := netip.AddrPortFrom(to.Addr().WithZone(""), to.Port())
	return fmt.Appendf(b, "M-SEARCH * HTTP/1.1\r\nHOST: %s\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", host, kind)
}

// aim has multicasts leave by the interface of the route.
func (f finder) aim(c *net.UDPConn) error {
	i := &net.Interface{Index: f.route.Index}
	if i.Index == 0 {
		return net.ErrClosed
	}
	if f.route.Source.Is4() {
		return ipv4.NewPacketConn(c).SetMulticastInterface(i)
	}
	return ipv6.NewPacketConn(c).SetMulticastInterface(i)
}

// listen waits for the gateway's answer. If ctx ends for want of one, it returns last, which
// it sets to what is wrong with the answers that came; at a deadline of the socket it returns
// that error.
func (f finder) listen(ctx context.Context, c *net.UDPConn, last *failure) (*url.URL, error) {
	b := make([]byte, maxAnswer)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		switch {
		case ctx.Err() == context.DeadlineExceeded:
			return nil, last
		case isTimeout(err) && ctx.Err() == nil:
			return nil, err
		case err != nil:
			return nil, unsent(ctx, err)
		case from.Addr().Unmap().WithZone("") != f.route.Gateway:
			if last.detail == "" {
				last.detail = "only other devices answered"
			}
			continue
		}
		place, err := parseAnswer(b[:n])
		if err == nil {
			err = permitted(place, f.route.Gateway)
		}
		if err == nil {
			return place, nil
		}
		*last = failure{code: Failed, detail: err.Error()}
	}
}

// parseAnswer reads an answer to a search.
func parseAnswer(b []byte) (*url.URL, error) {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil, fmt.Errorf("malformed answer to a search")
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("ST"), "InternetGatewayDevice") {
		return nil, fmt.Errorf("an answer that is not about a gateway")
	}
	place, err := url.Parse(r.Header.Get("LOCATION"))
	if err != nil {
		return nil, fmt.Errorf("malformed place of the description")
	}
	return place, nil
}

// permitted returns an error unless the URL is on the gateway itself. Of IPv6, any literal
// address passes, since a router has several: the connection goes to the gateway anyway
// (newClient).
func permitted(u *url.URL, gateway netip.Addr) error {
	if u.Scheme != "http" || u.User != nil {
		return fmt.Errorf("not a plain HTTP address")
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return fmt.Errorf("a host without a literal address")
	}
	if a = a.Unmap().WithZone(""); a.Is4() != gateway.Is4() || a.Is4() && a != gateway {
		return fmt.Errorf("a host that is not the gateway: %s", a)
	}
	return nil
}
