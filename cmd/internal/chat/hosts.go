package chat

import (
	"encoding/json"
	"net/netip"
	"slices"
)

const (
	hostsKey = "info2.bare.hosts"
	hostsMax = 64
)

// hostBook keeps the useful hosts of the bare network from run to run, the latest first.
type hostBook struct{ store Store }

func (b hostBook) load() (hosts []netip.Addr, err error) {
	value, err := b.store.Meta(hostsKey)
	if err != nil || value == nil {
		return nil, err
	}
	return hosts, json.Unmarshal(value, &hosts)
}

// remember puts hosts first among those that are kept.
func (b hostBook) remember(first ...netip.Addr) error {
	old, err := b.load()
	if err != nil {
		return err
	}
	hosts := slices.Clone(first)
	for _, a := range old {
		if !slices.Contains(hosts, a) {
			hosts = append(hosts, a)
		}
	}
	value, err := json.Marshal(hosts[:min(len(hosts), hostsMax)])
	if err != nil {
		return err
	}
	return b.store.PutMeta(hostsKey, value)
}
