//go:build linux

// Command streams is both ends of what scripts/bench-streams measures, and the cable between
// them that loses packets. It takes a role and its arguments:
//
//	id FILE                     make a key, or read it; print its address and ULA
//	serve|netstack FILE PEER    a node that takes streams, or TCP of a netstack of its own
//	send|netstack-send FILE PEER ENDPOINT
//	                            a node that sends -size bytes to such a node
//	idle FILE PEER ENDPOINT N   a node that opens N streams
//	tcp ADDRESS                 take TCP of the system
//	tcp-send ADDRESS            send -size bytes so
//	line INTERFACE INTERFACE    carry frames between two interfaces, late, and lose some
package main

import (
	"context"
	"fmt"
	"net"
	"os"
)

func main() {
	err := start(map[string]func(context.Context, job) error{
		"id": id, "serve": serve, "send": sendStream, "idle": idle,
		"netstack": serveNetstack, "netstack-send": sendNetstack,
		"tcp": serveTCP, "tcp-send": sendTCP,
		"line": line,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "streams:", err)
		os.Exit(1)
	}
}

func serveTCP(ctx context.Context, j job) error {
	l, err := net.Listen("tcp", j.arg(0))
	if err != nil {
		return err
	}
	return take(ctx, l)
}

func sendTCP(ctx context.Context, j job) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", j.arg(0))
	if err != nil {
		return err
	}
	defer c.Close()
	return j.send(c.(*net.TCPConn))
}
