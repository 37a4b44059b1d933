//go:build !linux

package tun

import (
	"fmt"
	"os"
	"runtime"

	"golang.zx2c4.com/wireguard/tun"
)

// open makes the interface by wireguard's package tun: one queue, no offloads.
func open(c Config) (opened, error) {
	if c.Queues > 1 {
		return opened{}, fmt.Errorf("%w: %d queues; %s has one", ErrOpen, c.Queues, runtime.GOOS)
	}
	if c.Offload == OffloadOn {
		return opened{}, fmt.Errorf("%w: %s has no offloads; try: tun.offload = \"auto\"", ErrOpen, runtime.GOOS)
	}
	name := c.Name
	if name == "" {
		name = defaultName
	}
	dev, err := tun.CreateTUN(name, c.MTU)
	if err != nil {
		hint := "run as root, or without an adapter"
		if !os.IsPermission(err) {
			hint = openHint
		}
		return opened{}, fmt.Errorf("%w: interface %q: %w; %s", ErrOpen, name, err, hint)
	}
	if name, err = dev.Name(); err != nil {
		_ = dev.Close()
		return opened{}, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	p := newPortable(dev)
	return opened{name: name, ports: []port{p}, errors: p, incoming: p, inject: p, close: p.close}, nil
}
