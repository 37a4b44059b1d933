package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// A gateway that has restarted, or has another external address, says so several times to
// all hosts of the LAN, on this port (RFC 6886 3.2.1, RFC 6887 14.1): as the answer to the
// request that probe sends. Anybody could say it in the gateway's name. So an announcement
// only has mappings renewed, at a rate of its own.
const announcePort = 5350

// announced bounds how often announcements have mappings renewed.
func announced() *rate.Limiter { return rate.NewLimiter(rate.Every(time.Minute), 2) }

// hear listens to announcements of the route's gateway until ctx ends. Without it, a restart
// is noticed when the mapping is renewed.
func hear(ctx context.Context, r Route, heard func()) error {
	all := &net.UDPAddr{IP: net.IPv4allsys, Port: announcePort}
	c, err := net.ListenMulticastUDP("udp4", &net.Interface{Index: r.Index, Name: r.Interface}, all)
	if err != nil {
		return err
	}
	defer c.Close()
	return hearOn(ctx, c, netip.AddrPortFrom(r.Gateway, standard.pcp), heard)
}

// hearOn calls heard for announcements from a gateway's server.
func hearOn(ctx context.Context, c *net.UDPConn, from netip.AddrPort, heard func()) error {
	defer ending(ctx, c)()
	limit := announced()
	b := make([]byte, pcpMost+1)
	for {
		n, sender, err := c.ReadFromUDPAddrPort(b)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if sender = netip.AddrPortFrom(sender.Addr().Unmap(), sender.Port()); sender == from && isAnnouncement(b[:n]) && limit.Allow() {
			heard()
		}
	}
}

// isAnnouncement reports whether a packet is one of NAT-PMP or PCP.
func isAnnouncement(b []byte) bool {
	if m, err := parsePMP(b, pmpAddress); err == nil && m.code == 0 {
		return true
	}
	m, err := parsePCP(b, pcpAnnounce)
	return err == nil && m.code == 0
}
