package main

import (
	"testing"
	"time"

	"anodenet/cmd/internal/dns"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay/link"
	"anodenet/tun/gateway"
)

// Each counter of streams and datagrams is described in words.
func TestProgramCountersHaveWords(t *testing.T) {
	for _, name := range []string{"stream", "stream_malformed", "stream_unknown", "stream_strange", "stream_twice", "stream_no_room",
		"stream_refused", "stream_waiting", "stream_withdrawn", "stream_control", "socket_refused", "socket_full", "no_adapter", "port_limited"} {
		if counterMeaning("drop_"+name) == "" {
			t.Errorf("drop_%s is not described", name)
		}
	}
	if counterMeaning("port_closed") == "" {
		t.Error("port_closed is not described")
	}
}

// Each counter of the gateway is described in words.
func TestGatewayCountersHaveWords(t *testing.T) {
	g := gateway.New(gateway.Config{})
	defer g.Close()
	for name := range g.Counters() {
		if gatewayMeaning(name) == "" {
			t.Errorf("%s is not described", name)
		}
	}
}

// Each counter of proxies, and of forwarded and exposed ports, is described in words.
func TestLocalCountersHaveWords(t *testing.T) {
	all := map[string]uint64{}
	proxy.New(nil, proxy.Directory{}, nil, nil).Count(all)
	if len(all) == 0 {
		t.Error("there are none")
	}
	for name := range all {
		if counterMeaning(name) == "" {
			t.Errorf("%s is not described", name)
		}
	}
}

// Each counter of connections is described in words.
func TestMuxCountersHaveWords(t *testing.T) {
	m := link.NewMux(link.MuxConfig{Streams: new(link.System)})
	defer m.Close()
	all := m.Counters()
	if len(all) < 40 {
		t.Errorf("there are %d counters", len(all))
	}
	for name := range all {
		if connectionMeaning("mux_"+name) == "" {
			t.Errorf("mux_%s is not described", name)
		}
	}
}

// Each counter of the virtual LAN is described in words.
func TestLANCountersHaveWords(t *testing.T) {
	for _, name := range []string{"lan_tx_packets", "lan_tx_copies", "lan_rx_packets", "drop_lan_nobody", "drop_lan_outsider", "drop_lan_out_limit",
		"drop_lan_peer_limit", "drop_lan_in_limit", "drop_lan_echo", "drop_lan_groups", "drop_lan_waiting"} {
		if counterMeaning(name) == "" {
			t.Errorf("%s is not described", name)
		}
	}
}

// Each counter of the DNS server is described in words.
func TestNamesCountersHaveWords(t *testing.T) {
	all := map[string]uint64{}
	dns.NewServer(nil, func() time.Duration { return 0 }).Count(all)
	if len(all) < 11 {
		t.Errorf("there are %d counters", len(all))
	}
	for name := range all {
		if counterMeaning(name) == "" {
			t.Errorf("%s is not described", name)
		}
	}
}
