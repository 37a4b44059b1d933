package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

func (a *app) pingCommand() *cobra.Command {
	var count, size int
	var interval, wait float64
	cmd := &cobra.Command{
		Use:               "ping PEER",
		Short:             "Ping a peer; show the round-trip time and the path",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	cmd.Flags().IntVarP(&count, "count", "c", 0, "stop after `N` pings (default 0: at Ctrl-C)")
	cmd.Flags().Float64VarP(&interval, "interval", "i", 1, "`seconds` between pings")
	cmd.Flags().IntVarP(&size, "size", "s", 40, "`bytes` of payload")
	cmd.Flags().Float64VarP(&wait, "wait", "W", 5, "`seconds` to wait for a reply")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case count < 0:
			return usage(cmd, "-c %d: want 0 or more, 0 for no limit", count)
		case size < 0 || size > overlay.MaxPing:
			return usage(cmd, "-s %d: want 0 to %d bytes", size, overlay.MaxPing)
		case !(interval >= 0.001 && interval <= 3600):
			return usage(cmd, "-i %v: want 0.001 to 3600 seconds", interval)
		case !(wait >= 0.001 && wait <= 60):
			return usage(cmd, "-W %v: want 0.001 to 60 seconds", wait)
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		peer, err := a.find(cmd.Context(), clientBook{client}, args[0])
		if err != nil {
			return err
		}
		request := control.PingRequest{Address: peer.Address, Size: size, TimeoutMS: int(math.Ceil(wait * 1000))}
		p := &pinger{
			out: a.out, now: a.now, label: labelOf(peer.Name, peer.ID), count: count,
			interval: time.Duration(interval * float64(time.Second)),
			ping: func(ctx context.Context) (overlay.PingReply, error) {
				return client.Ping(ctx, request)
			},
		}
		fmt.Fprintf(a.out, "PING %s %s: %d bytes\n", p.label, peer.ULA, size)
		return p.run(cmd.Context())
	}
	return cmd
}

// pinger sends pings at an interval, prints their replies as they come, and the
// statistics at the end.
type pinger struct {
	out      io.Writer
	now      func() time.Time
	label    string
	count    int // 0: until ctx ends
	interval time.Duration
	ping     func(context.Context) (overlay.PingReply, error)

	sent, lost int
	times      []float64 // ms, of each reply
}

// maxWaiting is how many pings may be under way.
const maxWaiting = 64

type pinged struct {
	sequence int
	reply    overlay.PingReply
	err      error
}

// run pings until the count is reached or ctx ends, which is no error. It returns a
// failure with exitUnreachable if no reply came.
func (p *pinger) run(ctx context.Context) error {
	results := make(chan pinged, maxWaiting)
	waiting, begun := 0, p.now()
	send := func() {
		p.sent++
		waiting++
		go func(sequence int) {
			reply, err := p.ping(ctx)
			results <- pinged{sequence, reply, err}
		}(p.sent)
	}
	var failed error
	take := func(r pinged) {
		waiting--
		if err := p.take(r); err != nil && failed == nil {
			failed = err
		}
	}
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	send()
	for ctx.Err() == nil && failed == nil && (p.count == 0 || p.sent < p.count || waiting > 0) {
		select {
		case <-ctx.Done():
		case r := <-results:
			take(r)
		case <-tick.C:
			if waiting < maxWaiting && (p.count == 0 || p.sent < p.count) {
				send()
			}
		}
	}
	for waiting > 0 { // they end with ctx
		if failed != nil && ctx.Err() == nil {
			break // nobody waits for the rest; results has room for them all
		}
		take(<-results)
	}
	if failed != nil {
		return failed
	}
	p.statistics(p.now().Sub(begun))
	if len(p.times) == 0 && p.sent > 0 && ctx.Err() == nil {
		return &failure{exitUnreachable, p.label + " did not answer", "anode status; if the peer is on another network: anode peers add ADDRESS --endpoint udp:IP:PORT"}
	}
	return nil
}

// take prints one result. It returns an error that is not about the path to the peer,
// such as the end of the daemon.
func (p *pinger) take(r pinged) error {
	switch {
	case r.err == nil:
		ms := float64(r.reply.RTT) / float64(time.Millisecond)
		p.times = append(p.times, ms)
		fmt.Fprintf(p.out, "%d bytes from %s: seq=%d time=%s ms, %s\n", r.reply.Size, p.label, r.sequence, millis(ms), route(r.reply.Path, nil))
	case errors.Is(r.err, context.Canceled):
		p.sent-- // interrupted: neither lost nor received
	case explain(r.err).exit == exitUnreachable:
		p.lost++
		fmt.Fprintf(p.out, "no reply from %s: seq=%d, %s\n", p.label, r.sequence, explain(r.err).message)
	default:
		return r.err
	}
	return nil
}

// statistics prints the end in ping(8)'s words, which scripts know.
func (p *pinger) statistics(took time.Duration) {
	fmt.Fprintf(p.out, "\n--- %s ping statistics ---\n", p.label)
	loss := 0.0
	if p.sent > 0 {
		loss = 100 * float64(p.sent-len(p.times)) / float64(p.sent)
	}
	fmt.Fprintf(p.out, "%d packets transmitted, %d received, %.4g%% packet loss, time %dms\n", p.sent, len(p.times), loss, took.Milliseconds())
	if len(p.times) == 0 {
		return
	}
	low, high, sum, squares := math.Inf(1), 0.0, 0.0, 0.0
	for _, t := range p.times {
		low, high = min(low, t), max(high, t)
		sum += t
		squares += t * t
	}
	n := float64(len(p.times))
	mean := sum / n
	deviation := math.Sqrt(max(0, squares/n-mean*mean))
	fmt.Fprintf(p.out, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", low, mean, high, deviation)
}
