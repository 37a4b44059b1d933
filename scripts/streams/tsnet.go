//go:build ignore

// Command tsnet is both ends of a TCP connection between two nodes of tailscale's tsnet, and the
// control and DERP server that they need. It is built in a module of its own, with copy.go, by
// scripts/bench-streams:
//
//	control IP             control server on port 8080, DERP on 8443, STUN on 3478
//	serve IP FOLDER FILE   writes the node's address to a file when it is ready
//	send IP FOLDER PEER    once packets to the peer go directly
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/netns"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

const port = "9"

func main() {
	log.SetFlags(log.Lmicroseconds)
	// The namespaces have no default route, to which sockets would be bound.
	netns.SetEnabled(false)
	err := start(map[string]func(context.Context, job) error{"control": control, "serve": serve, "send": send})
	if err != nil {
		fmt.Fprintln(os.Stderr, "tsnet:", err)
		os.Exit(1)
	}
}

func control(ctx context.Context, j job) error {
	at := j.arg(0)
	derp := derpserver.New(key.NewNode(), logger.Discard)
	defer derp.Close()
	l, err := net.Listen("tcp", net.JoinHostPort(at, "8443"))
	if err != nil {
		return err
	}
	relay := httptest.NewUnstartedServer(derpserver.Handler(derp))
	relay.Listener.Close()
	relay.Listener = l
	relay.StartTLS()
	defer relay.Close()

	stun := stunserver.New(ctx)
	if err := stun.Listen(net.JoinHostPort(at, "3478")); err != nil {
		return err
	}
	go stun.Serve()

	s := &testcontrol.Server{DERPMap: derpMap(at), MagicDNSDomain: "bench.ts.net", Logf: logger.Discard}
	l, err = net.Listen("tcp", net.JoinHostPort(at, "8080"))
	if err != nil {
		return err
	}
	s.HTTPTestServer = httptest.NewUnstartedServer(s)
	s.HTTPTestServer.Listener.Close()
	s.HTTPTestServer.Listener = l
	s.HTTPTestServer.Start()
	defer s.HTTPTestServer.CloseClientConnections()
	<-ctx.Done()
	return nil
}

func derpMap(at string) *tailcfg.DERPMap {
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: {RegionID: 1, RegionCode: "bench", Nodes: []*tailcfg.DERPNode{{
		Name: "1", RegionID: 1, HostName: at, IPv4: at, IPv6: "none", STUNPort: 3478, DERPPort: 8443, InsecureForTests: true, STUNTestIP: at,
	}}}}}
}

func up(ctx context.Context, at, folder string) (*tsnet.Server, netip.Addr, error) {
	s := &tsnet.Server{Dir: folder, ControlURL: "http://" + net.JoinHostPort(at, "8080"), Hostname: "bench", UserLogf: logger.Discard}
	if os.Getenv("TSNET_LOG") != "" {
		s.Logf = log.Printf
	}
	status, err := s.Up(ctx)
	if err != nil {
		return nil, netip.Addr{}, errors.Join(err, s.Close())
	}
	return s, status.TailscaleIPs[0], nil
}

func serve(ctx context.Context, j job) error {
	s, own, err := up(ctx, j.arg(0), j.arg(1))
	if err != nil {
		return err
	}
	defer s.Close()
	l, err := s.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	if err := os.WriteFile(j.arg(2), []byte(own.String()), 0o644); err != nil {
		return err
	}
	return take(ctx, l)
}

func send(ctx context.Context, j job) error {
	s, _, err := up(ctx, j.arg(0), j.arg(1))
	if err != nil {
		return err
	}
	defer s.Close()
	peer, err := netip.ParseAddr(j.arg(2))
	if err != nil {
		return err
	}
	if err := direct(ctx, s, peer); err != nil {
		return err
	}
	c, err := s.Dial(ctx, "tcp", net.JoinHostPort(peer.String(), port))
	if err != nil {
		return err
	}
	defer c.Close()
	return j.send(c.(halfCloser))
}

// direct waits until packets to a peer do not go by the DERP server.
func direct(ctx context.Context, s *tsnet.Server, peer netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := s.LocalClient()
	if err != nil {
		return err
	}
	for {
		once, cancel := context.WithTimeout(ctx, time.Second)
		r, err := c.Ping(once, peer, tailcfg.PingDisco)
		cancel()
		if err == nil && r.Endpoint != "" {
			return nil
		}
		if ctx.Err() != nil {
			return errors.New("no direct path; the last ping: " + fmt.Sprint(r, err))
		}
	}
}
