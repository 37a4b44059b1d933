package daemon

import (
	"context"
	"net/netip"
	"slices"

	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/overlay/portmap"
)

// discoveryOf returns how the node shows itself on the real LAN.
func discoveryOf(c config.Discovery) (overlay.Discovery, error) {
	quiet, err := portmap.ParsePlaces(c.Quiet)
	if err != nil {
		return overlay.Discovery{}, err
	}
	d := overlay.Discovery{Off: c.Announce == config.AnnounceOff, Friends: c.Announce == config.AnnounceFriends}
	if len(c.Interfaces)+len(c.Quiet) == 0 {
		return d, nil
	}
	d.Silent = func(i link.Interface) bool {
		return len(c.Interfaces) > 0 && !slices.Contains(c.Interfaces, i.Name) || slices.Contains(quiet.Interfaces, i.Name) || hasAny(i, quiet.Prefixes)
	}
	return d, nil
}

// hasAny reports whether we have an address in one of the networks on a link.
func hasAny(i link.Interface, networks []netip.Prefix) bool {
	return slices.ContainsFunc(i.Prefixes, func(own netip.Prefix) bool {
		return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(own.Addr()) })
	})
}

// takeDiscovery takes up how the node shows itself.
func (d *daemon) takeDiscovery(ctx context.Context, c config.Config) error {
	next, err := discoveryOf(c.Discovery)
	if err != nil {
		return err
	}
	return d.node.SetDiscovery(ctx, next)
}
