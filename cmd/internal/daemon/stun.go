package daemon

import (
	"context"
	"net"
	"net/netip"
	"time"

	"anodenet/cmd/internal/config"
)

// The servers' names are looked up again and again: at first there may be no network, and later
// they may move.
const (
	stunFirst = 2 * time.Second // after a failure; doubles up to stunLast
	stunLast  = 5 * time.Minute
	stunAgain = time.Hour
	stunLimit = 10 * time.Second // of one look-up
)

// followSTUN tells the node the addresses of the STUN servers that the user named.
func (d *daemon) followSTUN(ctx context.Context) error {
	pause := stunFirst
	for ctx.Err() == nil {
		list, err := resolveSTUN(ctx, d.cfg.STUN)
		if len(list) > 0 {
			d.node.SetSTUN(ctx, list) // an error is the end of the node
		}
		wait := stunAgain
		if err != nil {
			d.log.Debug("STUN server", "err", err)
			wait, pause = pause, min(2*pause, stunLast)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

// resolveSTUN returns an address of each family of every server, and the last error.
func resolveSTUN(ctx context.Context, servers config.Servers) (list []netip.AddrPort, last error) {
	ctx, cancel := context.WithTimeout(ctx, stunLimit)
	defer cancel()
	for _, s := range servers {
		host, port := s.HostPort()
		addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			last = err
		}
		four, six := false, false
		for _, a := range addrs {
			a = a.Unmap()
			if a.Is4() && !four || a.Is6() && !six {
				list = append(list, netip.AddrPortFrom(a, port))
				four, six = four || a.Is4(), six || a.Is6()
			}
		}
	}
	return list, last
}
