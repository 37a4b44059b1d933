//go:build !linux

package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
)

// Keeper sets an adapter's interface up once, and sets the routes to the zones. On this
// system it does not notice what other programs do to the interface, it has no routes for
// single peers, and no guard against packets that do not come from the overlay.
//
// Keep, Run and Close are called one after the other.
type Keeper struct {
	log  *slog.Logger
	name string
	wake chan struct{}

	has map[netip.Prefix]bool // routes; owned by Run

	mu     sync.Mutex
	wanted Wanted

	refused string // why there is no IPv4
}

// Keep sets up an interface.
func Keep(ifname string, s Settings, o Options) (*Keeper, error) {
	if removed, err := Cleanup(); err != nil {
		o.Log.Warn("what a killed daemon left behind could not be removed", "err", err)
	} else if len(removed) > 0 {
		o.Log.Info("removed what a killed daemon left behind", "what", removed)
	}
	if err := configure(ifname, s); err != nil {
		return nil, err
	}
	o.Log.Info("this system's adapter is set up once: changes by other programs are not undone, and packets of the LAN with addresses of the overlay are not filtered")
	k := &Keeper{log: o.Log, name: ifname, wake: make(chan struct{}, 1), has: map[netip.Prefix]bool{}, wanted: s.Wanted}
	if s.IP4.Alias.IsValid() {
		k.refused = "IPv4 aliases are not used: only Linux has them so far; IPv6 is not affected"
		o.Log.Info(k.refused)
		if o.IP4 != nil {
			o.IP4(k.refused)
		}
	}
	for _, p := range s.Zones {
		k.has[p] = true
	}
	return k, nil
}

// Cleanup removes what killed nodes left in the system's resolver.
func Cleanup() (removed []string, err error) { return cleanupNames() }

// Close does nothing: all goes with the interface.
func (k *Keeper) Close() error { return nil }

// Want says what must lead to the adapter from now on. It never waits, and any goroutine
// may call it.
func (k *Keeper) Want(w Wanted) {
	k.mu.Lock()
	k.wanted = w
	k.mu.Unlock()
	tell(k.wake)
}

// State returns how the interface was when it was set up.
func (k *Keeper) State() State { return State{Name: k.name, IP4: k.refused} }

// Counters returns none.
func (k *Keeper) Counters() map[string]uint64 { return nil }

// Run sets the zones' routes until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		k.mu.Lock()
		zones := slices.Clone(k.wanted.Zones)
		k.mu.Unlock()
		if err := k.setZones(zones); err != nil && ctx.Err() == nil {
			k.log.Error("the routes of the zones could not be set", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		}
	}
}

// setZones sets exactly the routes of the zones. It goes on after an error, and retries
// what failed at the next call.
func (k *Keeper) setZones(zones []netip.Prefix) error {
	var errs []error
	for p := range maps.Clone(k.has) {
		if slices.Contains(zones, p) {
			continue
		}
		if err := removeRoute(k.name, p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
			continue
		}
		delete(k.has, p)
	}
	for _, p := range zones {
		if k.has[p] {
			continue
		}
		if err := addRoute(k.name, p); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p, err))
			continue
		}
		k.has[p] = true
	}
	return errors.Join(errs...)
}
