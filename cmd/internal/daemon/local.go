package daemon

import (
	"context"
	"errors"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
)

// openLocal opens what joins programs of this machine and peers, so that a port that is taken
// is an error at once.
func (d *daemon) openLocal() error {
	d.local = proxy.New(d.peerNetwork(), proxy.Directory{Entries: d.node.Entries, Suffix: d.names.Suffix}, control.Listen, d.log)
	if err := d.local.Set(d.cfg.Local.Specs()); err != nil {
		return errors.Join(err, d.abandon())
	}
	if d.options.Doors != nil {
		d.options.Doors(d.local.Doors())
	}
	return nil
}

// peerNetwork is how peers are reached: by the adapter, or else by the node alone.
func (d *daemon) peerNetwork() proxy.Network {
	if d.adapter != nil {
		return proxy.System{ULA: d.identity.Address().ULA()}
	}
	return d.node
}

// abandon closes what was opened, at a start that fails.
func (d *daemon) abandon() error {
	d.local.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := d.node.Run(ctx) // which closes the sockets and the device
	if d.adapter != nil {
		err = errors.Join(err, d.adapter.release())
	}
	return err
}
