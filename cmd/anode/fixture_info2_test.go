package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// fixtureTalk is a text network with the peers of the fixture: north is linked, and
// south is dialled for each text.
type fixtureTalk struct {
	mu        sync.Mutex
	entries   []control.Entry
	followers map[chan control.Entry]bool
}

var hostile = "red \x1b[31malert\x1b[0m \u202eevil\u202c \u009b2J"

func newFixtureTalk() *fixtureTalk {
	at := func(ago time.Duration) time.Time { return fixtureTime.Add(-ago) }
	mid := func(text string) (m info2.MID) { copy(m[:], text); return m }
	return &fixtureTalk{
		followers: map[chan control.Entry]bool{},
		entries: []control.Entry{
			{Time: at(26 * time.Hour), Network: control.NetworkAdapter, MID: mid("100001"), From: northAddress.ULA().Addr(), Name: "north", Text: "good morning"},
			{Time: at(time.Minute), Network: control.NetworkAdapter, MID: mid("100002"), Own: true, Text: "hello 👋"},
			{Time: at(time.Second), Network: control.NetworkBare, MID: mid("100003"), From: netip.MustParseAddr("10.0.0.9"), Text: hostile},
		},
	}
}

func (f *fixtureTalk) Status(context.Context) (control.Info2Status, error) {
	return fixtureInfo2(), nil
}

func fixtureInfo2() control.Info2Status {
	return control.Info2Status{
		Schema: 1, History: 2000,
		Networks: []control.Info2Network{
			{
				Status: info2.Status{
					Network: "adapter", Port: 26000, Inbound: info2.InboundWorks, InboundAt: fixtureTime.Add(-time.Hour),
					Links: []info2.LinkStatus{
						{Addr: northAddress.ULA().Addr(), Name: "north", Direction: "out", State: "open", Since: fixtureTime.Add(-time.Hour), First: 7, Duplicates: 2, Usefulness: 0.75},
						{Addr: hubAddress.ULA().Addr(), Direction: "out", State: "dialing", Since: fixtureTime.Add(-time.Second)},
					},
					Neighbours: []info2.NeighbourStatus{{Addr: southAddress.ULA().Addr(), Name: "south", Until: fixtureTime.Add(time.Minute)}},
					Hosts:      info2.HostCounts{Friends: 3},
				},
				Counters:  map[string]uint64{"own_messages": 1, "messages_new": 9, "messages_out": 12},
				Encrypted: true,
			},
			{
				Status: info2.Status{Network: "bare", Port: 26000, Inbound: info2.InboundOff, Links: []info2.LinkStatus{}, Neighbours: []info2.NeighbourStatus{}},
				Failed: "the port is taken", Counters: map[string]uint64{},
			},
		},
	}
}

func (f *fixtureTalk) Hosts(context.Context) (control.Info2Hosts, error) {
	return control.Info2Hosts{Schema: 1, Hosts: []control.Info2Host{
		{Network: control.NetworkAdapter, HostStatus: info2.HostStatus{Addr: northAddress.ULA().Addr(), Name: "north", Standing: "friend", Verified: fixtureTime.Add(-time.Hour)}},
		{Network: control.NetworkAdapter, HostStatus: info2.HostStatus{Addr: hubAddress.ULA().Addr(), Standing: "friend", Failures: 2, Next: fixtureTime.Add(5 * time.Minute)}},
	}}, nil
}

func (f *fixtureTalk) Say(_ context.Context, r control.SayRequest) (control.Said, error) {
	what := info2.LooksSecret(r.Text)
	switch {
	case r.Network == control.NetworkBare:
		return control.Said{}, &control.Error{Code: control.CodeRefused, Message: "Info2 on the bare network is off", Try: "anode up --info2-bare (unencrypted)"}
	case r.Text == "nobody":
		return control.Said{}, info2.ErrNobody
	case what != "" && !r.Anyway:
		return control.Said{}, &info2.SecretError{What: what}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	said := control.Said{Network: control.NetworkAdapter}
	copy(said.MID[:], fmt.Sprint(100001+len(f.entries)))
	f.publish(control.Entry{Time: fixtureTime, Network: said.Network, MID: said.MID, Own: true, Text: info2.Clean(r.Text)})
	// Somebody answers.
	f.publish(control.Entry{Time: time.Now(), Network: said.Network, MID: said.MID, From: northAddress.ULA().Addr(), Name: "north", Text: "indeed: " + r.Text})
	return said, nil
}

func (f *fixtureTalk) publish(e control.Entry) {
	f.entries = append(f.entries, e)
	for c := range f.followers {
		c <- e
	}
}

func (f *fixtureTalk) Connect(_ context.Context, addr netip.Addr) (control.Connecting, error) {
	if addr.Is4() {
		return control.Connecting{}, &control.Error{Code: control.CodeRefused, Message: "Info2 on the bare network is off", Try: "anode up --info2-bare (unencrypted)"}
	}
	return control.Connecting{Network: control.NetworkAdapter}, nil
}

func (f *fixtureTalk) Log(_ context.Context, last int, follow bool) ([]control.Entry, <-chan control.Entry, func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	past := append([]control.Entry{}, f.entries[max(0, len(f.entries)-last):]...)
	if !follow {
		return past, nil, func() {}, nil
	}
	next := make(chan control.Entry, 100)
	f.followers[next] = true
	return past, next, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.followers, next)
	}, nil
}
