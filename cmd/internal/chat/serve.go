package chat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// Status describes the networks.
func (t *Chat) Status(ctx context.Context) (control.Info2Status, error) {
	t.look(ctx)
	status := control.Info2Status{Schema: 1, Networks: []control.Info2Network{}, Bridged: t.bridged, History: historyMax}
	for _, n := range t.networks {
		one := control.Info2Network{Encrypted: n.name == control.NetworkAdapter, Counters: map[string]uint64{}}
		s, err := n.Servent.Status(ctx)
		switch {
		case errors.Is(err, info2.ErrStopped):
			s = info2.Status{Network: string(n.name), Port: n.port, Inbound: info2.InboundOff,
				Links: []info2.LinkStatus{}, Neighbours: []info2.NeighbourStatus{}}
			one.Failed = "it is stopping"
			if err := n.problem(); err != nil {
				one.Failed = err.Error()
			}
		case err != nil:
			return status, err
		}
		for counter, count := range s.Counters {
			one.Counters[counter.String()] = count
		}
		t.history.count(n.name, one.Counters)
		one.Status = s
		status.Networks = append(status.Networks, one)
	}
	return status, nil
}

// Hosts lists the hosts that are known.
func (t *Chat) Hosts(ctx context.Context) (control.Info2Hosts, error) {
	answer := control.Info2Hosts{Schema: 1, Hosts: []control.Info2Host{}}
	for _, n := range t.networks {
		list, err := n.Servent.Hosts(ctx)
		if err != nil && !errors.Is(err, info2.ErrStopped) {
			return answer, err
		}
		for _, h := range list {
			answer.Hosts = append(answer.Hosts, control.Info2Host{Network: n.name, HostStatus: h})
		}
	}
	return answer, nil
}

// Say says a text on one network. Without a name that is the adapter's if the settings
// switch it on, even if it failed: a text that was meant for peers never becomes clear
// text.
func (t *Chat) Say(ctx context.Context, r control.SayRequest) (control.Said, error) {
	if r.Network == "" && len(t.networks) > 0 {
		r.Network = t.networks[0].name
	}
	n, err := t.running(r.Network)
	if err != nil {
		return control.Said{}, err
	}
	say := n.Servent.Say
	if r.Anyway {
		say = n.Servent.SayAnyway
	}
	dialled := n.name == control.NetworkAdapter && t.look(ctx)
	mid, err := say(ctx, r.Text)
	for until := time.Now().Add(lookWait); dialled && errors.Is(err, info2.ErrNobody) && time.Now().Before(until); {
		if pause(ctx, lookAgain) != nil {
			break
		}
		mid, err = say(ctx, r.Text)
	}
	return control.Said{Network: n.name, MID: mid}, err
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Connect dials an address, and remembers it for the next start if it is not a peer's.
func (t *Chat) Connect(ctx context.Context, addr netip.Addr) (control.Connecting, error) {
	addr = addr.Unmap()
	name := control.NetworkAdapter
	if addr.Is4() {
		name = control.NetworkBare
	}
	n, err := t.running(name)
	if err != nil {
		return control.Connecting{}, err
	}
	err = n.Servent.Connect(ctx, addr)
	switch {
	case errors.Is(err, info2.ErrForbidden) && name == control.NetworkAdapter:
		err = &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("%s is not a peer that you added", addr), Try: "anode peers list, or an IPv4 address for the bare network"}
	case errors.Is(err, info2.ErrForbidden):
		err = &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("%s is this machine, or an address that cannot be dialled", addr)}
	case err == nil && name == control.NetworkBare:
		err = t.hosts.remember(addr)
	}
	return control.Connecting{Network: name}, err
}

// Log returns the last texts of both networks, oldest first, and with follow a channel
// of those that come after them. The last are the newest ones, except that each
// network has at least half of them if it has so many: strangers cannot push what
// friends said out of sight.
func (t *Chat) Log(_ context.Context, last int, follow bool) ([]control.Entry, <-chan control.Entry, func(), error) {
	return t.history.read(last, follow)
}

// running returns a network, or the reason why it does not run.
func (t *Chat) running(name control.Network) (*network, error) {
	n := t.find(name)
	switch {
	case n != nil:
		if err := n.problem(); err != nil {
			return nil, &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("Info2 on the %s network does not run: %v", name, err), Try: "stop the program that uses the port, and restart the daemon"}
		}
		return n, nil
	case name == control.NetworkBare:
		return nil, &control.Error{Code: control.CodeRefused, Message: "Info2 on the bare network is off", Try: "anode up --info2-bare (unencrypted)"}
	case name == control.NetworkAdapter || name == "":
		return nil, &control.Error{Code: control.CodeRefused, Message: "Info2 is off", Try: "info2.enabled = true in the configuration, and a daemon with an adapter"}
	}
	return nil, &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("no network named %q", name), Try: "adapter, or bare"}
}
