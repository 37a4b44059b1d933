package main

import (
	"testing"

	"anodenet/overlay"
	"anodenet/overlay/link"
)

func TestJudgeTransports(t *testing.T) {
	with := func(tcp []uint16, failed ...overlay.TransportFailure) overlay.Status {
		return overlay.Status{Transports: overlay.TransportsStatus{TCP: tcp, Failed: failed}}
	}
	troubled := with([]uint16{8737})
	for _, text := range []string{"proxy: it refuses the connection (proxy:3128 answers 403 Forbidden for 192.0.2.1:8737)", "connection: connection refused", ""} {
		troubled.Peers = append(troubled.Peers, overlay.PeerStatus{Ways: []overlay.WayStatus{{Trouble: text}, {Trouble: text}}})
	}
	for name, c := range map[string]struct {
		status overlay.Status
		want   []string
	}{
		"all is well":       {with([]uint16{8737, 443}), []string{"fine transports"}},
		"none is wanted":    {with(nil), []string{"fine transports"}},
		"taken":             {with([]uint16{8737}, overlay.TransportFailure{What: "tcp:443", Error: "address already in use"}), []string{"warn tcp_port_failed"}},
		"not permitted":     {with(nil, overlay.TransportFailure{What: "tcp:80", Error: "permission denied"}), []string{"warn tcp_port_failed"}},
		"no CAP_NET_RAW":    {with(nil, overlay.TransportFailure{What: "ethernet", Error: link.ErrEthernetRights.Error()}), []string{"bad ethernet_failed"}},
		"no such interface": {with(nil, overlay.TransportFailure{What: "ethernet:eth7", Error: "there is no such interface"}), []string{"warn ethernet_absent"}},
		"the proxy refuses": {troubled, []string{"bad proxy_refused"}},
	} {
		got := judgeTransports(c.status)
		wantFindings(t, name, got, c.want...)
		for _, f := range got {
			if f.Verdict != fine && f.Try == "" {
				t.Errorf("%s: no advice: %+v", name, f)
			}
		}
	}
}
