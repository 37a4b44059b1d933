package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/platform"
	"anodenet/tun"
)

// gsoMaxSize is the most bytes of a super-packet from the system. With what sealing adds
// to each segment, it still fits one train.
const gsoMaxSize = 61000

// singlesQueue is how many packets may wait for us if the system sends no super-packets.
// Its usual 500 are what one TCP flow sends in a millisecond.
const singlesQueue = 2000

// adapter is the TUN device and its network interface.
type adapter struct {
	*tun.Device
	zones []anode.Zone // that have routes
}

// openAdapter makes the interface and sets it up, with a route for its own zone.
func openAdapter(c config.Tun, self anode.Address, log *slog.Logger) (*adapter, error) {
	d, err := tun.Open(tun.Config{
		Name:    c.Name,
		MTU:     c.MTU,
		Queues:  queueCount(c.Queues),
		Self:    self.ULA(),
		Offload: tun.Offload(c.Offload.String()),
		Log:     log,
	})
	if err != nil {
		return nil, err
	}
	a := &adapter{Device: d, zones: []anode.Zone{self.Zone()}}
	settings := platform.Settings{ULA: self.ULA().Addr(), MTU: c.MTU, GSOMaxSize: gsoMaxSize}
	if !d.SuperPackets() {
		settings.TxQueueLen = singlesQueue
	}
	for _, z := range a.zones {
		settings.Routes = append(settings.Routes, z.Prefix())
	}
	if err := platform.Configure(d.Name(), settings); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return a, nil
}

// queueCount returns how many queues the adapter gets. Even more queues than cores reduce
// latency: flows on different queues do not wait for each other.
func queueCount(configured int) int {
	switch {
	case configured > 0:
		return configured
	case runtime.GOOS != "linux":
		return 1
	}
	return min(max(runtime.NumCPU(), 4), config.MaxQueues)
}

// queues returns the device's queues in the form that the engine takes.
func (a *adapter) queues() []overlay.Queue {
	var list []overlay.Queue
	for _, q := range a.Queues() {
		list = append(list, q)
	}
	return list
}

// setZones sets exactly the routes of the zones. It goes on after an error, and retries
// what failed at the next call. Only one goroutine at a time may call it.
func (a *adapter) setZones(zones []anode.Zone) error {
	var errs []error
	have := slices.DeleteFunc(slices.Clone(a.zones), func(z anode.Zone) bool {
		if slices.Contains(zones, z) {
			return false
		}
		err := platform.RemoveRoute(a.Name(), z.Prefix())
		errs = append(errs, wrap(err, "zone %s", z))
		return err == nil
	})
	for _, z := range zones {
		if slices.Contains(have, z) {
			continue
		}
		err := platform.AddRoute(a.Name(), z.Prefix())
		errs = append(errs, wrap(err, "zone %s", z))
		if err == nil {
			have = append(have, z)
		}
	}
	a.zones = have
	return errors.Join(errs...)
}

// wrap adds to an error what it is about; nil stays nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
