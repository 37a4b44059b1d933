package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"anodenet/overlay"
)

// checkTransports looks at what carries packets beside UDP.
func checkTransports(_ context.Context, p *patient) []finding {
	if p.status == nil {
		return checkCredentials(p)
	}
	return append(judgeTransports(*p.status), checkCredentials(p)...)
}

// judgeTransports judges the transports of a daemon that runs.
func judgeTransports(s overlay.Status) (list []finding) {
	const topic = "transports"
	for _, f := range s.Transports.Failed {
		list = append(list, judgeFailure(f))
	}
	for _, text := range proxyTroubles(s) {
		says, try, _ := strings.Cut(text, "; try: ")
		list = append(list, finding{topic, bad, says, cmp.Or(try, "look at proxy and proxy_credentials in the configuration; anode why PEER shows each endpoint"), "proxy_refused"})
	}
	if len(list) == 0 {
		says := "no TCP port is listened on, so peers whose network lets no UDP through cannot reach this machine directly (listen.tcp)"
		if len(s.Transports.TCP) > 0 {
			says = "peers whose network lets no UDP through are heard on TCP port " + portList(s.Transports.TCP)
		}
		list = append(list, finding{topic, fine, says, "", "transports"})
	}
	return list
}

func portList(ports []uint16) string {
	words := make([]string, len(ports))
	for i, n := range ports {
		words[i] = fmt.Sprint(n)
	}
	return strings.Join(words, ", ")
}

// judgeFailure is about a port or interface that the daemon could not use.
func judgeFailure(f overlay.TransportFailure) finding {
	const topic = "transports"
	if port, ok := strings.CutPrefix(f.What, "tcp:"); ok {
		try := fmt.Sprintf("to see what uses it: sudo ss -ltnp sport = :%s; stop that, or set other ports in listen.tcp, and restart the daemon", port)
		if strings.Contains(f.Error, "permission") {
			try = "CAP_NET_BIND_SERVICE for the daemon (in its systemd unit, add it to AmbientCapabilities= and CapabilityBoundingSet=); or a port from 1024 in listen.tcp"
		}
		return finding{topic, warn, fmt.Sprintf("TCP port %s is not listened on (%s), so peers whose network lets no UDP through do not find this machine there", port, f.Error), try, "tcp_port_failed"}
	}
	if name, ok := strings.CutPrefix(f.What, "ethernet:"); ok {
		return finding{topic, warn, fmt.Sprintf("no peers are found by Ethernet on %s: %s", name, f.Error),
			"ip link, which shows the interfaces: it is used as soon as it is up; or correct link.ethernet and restart the daemon", "ethernet_absent"}
	}
	says, try, _ := strings.Cut(f.Error, "; try: ")
	return finding{topic, bad, says, cmp.Or(try, "link.ethernet = [] in the configuration, if it is not needed"), "ethernet_failed"}
}

// proxyTroubles lists what proxies answered, each once.
func proxyTroubles(s overlay.Status) (list []string) {
	for _, p := range s.Peers {
		for _, w := range p.Ways {
			if (strings.HasPrefix(w.Trouble, "proxy: ") || strings.HasPrefix(w.Trouble, "connection: the proxy ")) && !slices.Contains(list, w.Trouble) {
				list = append(list, w.Trouble)
			}
		}
	}
	return list
}

// checkCredentials reads what the configuration names for the proxy.
func checkCredentials(p *patient) []finding {
	_, _, err := p.config.Credentials.Load()
	if err == nil || errors.Is(err, fs.ErrPermission) && os.Geteuid() > 0 {
		return nil
	}
	f := explain(err)
	return []finding{{"transports", bad, "proxy_credentials: " + f.message, cmp.Or(f.try, "correct proxy_credentials in the configuration"), "proxy_credentials_bad"}}
}
