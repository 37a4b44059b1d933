package main

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// pingFlags are the flags of ping.
type pingFlags struct {
	count, size    int
	interval, wait time.Duration
	quiet, json    bool
	untilDirect    bool
}

// leastPing is how many bytes of payload a ping has at least, by which its reply is
// recognized.
const leastPing = 16

func (a *app) pingCommand() *cobra.Command {
	var f pingFlags
	cmd := &cobra.Command{
		Use:               "ping PEER",
		Short:             "Ping a peer; show the round-trip time and the path",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	cmd.Flags().IntVarP(&f.count, "count", "c", 0, "stop after `N` pings; 0: at Ctrl-C")
	secondsVar(cmd.Flags(), &f.interval, "interval", "i", time.Second, "`time` between pings, in seconds or as 500ms")
	cmd.Flags().IntVarP(&f.size, "size", "s", 40, "`bytes` of payload, at least 16")
	secondsVar(cmd.Flags(), &f.wait, "wait", "W", 5*time.Second, "`time` to wait for a reply, in seconds or as 500ms")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "show only the summary")
	cmd.Flags().BoolVar(&f.json, "json", false, "print a line of JSON for each reply, each loss and the summary")
	cmd.Flags().BoolVar(&f.untilDirect, "until-direct", false, "stop at the first reply that no relay forwarded")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		client := control.NewClient(a.socket)
		defer client.Close()
		peer, err := a.findPeer(cmd.Context(), clientBook{client}, args[0])
		if err != nil {
			return err
		}
		status, err := client.Status(cmd.Context())
		if err != nil {
			return err
		}
		return a.ping(cmd.Context(), client, peer, f, namesOf(status.Peers))
	}
	return cmd
}

func (f *pingFlags) check(cmd *cobra.Command) error {
	switch {
	case f.count < 0:
		return usage(cmd, "-c %d: want 0 or more, 0 for no limit", f.count)
	case f.size < 0 || f.size > overlay.MaxPing:
		return usage(cmd, "-s %d: want 0 to %d bytes", f.size, overlay.MaxPing)
	case f.interval < time.Millisecond || f.interval > time.Hour:
		return usage(cmd, "-i %v: want 1ms to 1h", f.interval)
	case f.wait < time.Millisecond || f.wait > time.Minute:
		return usage(cmd, "-W %v: want 1ms to 60s", f.wait)
	}
	return nil
}

// ping runs a pinger, and explains a failure by what the daemon knows then.
func (a *app) ping(ctx context.Context, client *control.Client, peer control.Resolved, f pingFlags, names map[anode.Address]string) error {
	request := control.PingRequest{Address: peer.Address, Size: max(f.size, leastPing), TimeoutMS: int(f.wait.Milliseconds())}
	p := &pinger{
		now: a.now, count: f.count, untilDirect: f.untilDirect,
		interval: f.interval,
		ping:     func(ctx context.Context) (overlay.PingReply, error) { return client.Ping(ctx, request) },
	}
	label := labelOf(peer.Name, peer.ID)
	if f.json {
		p.report = &pingJSON{out: a.out, peer: peer, quiet: f.quiet}
	} else {
		p.report = &pingText{out: a.out, label: label, ula: peer.ULA, size: request.Size, names: names, quiet: f.quiet}
	}
	err := p.run(ctx)
	switch {
	case errors.Is(err, errNoReply):
		return a.unreached(ctx, client, peer, label+" did not answer")
	case errors.Is(err, errNotDirect):
		return &failure{exitUnreachable, label + " has no direct path", "anode why PEER; or give it an endpoint: anode peers endpoints add PEER udp:IP:PORT"}
	}
	return err
}

// unreached is the failure of a peer that cannot be reached, with the reason if the daemon
// knows one.
func (a *app) unreached(ctx context.Context, client *control.Client, peer control.Resolved, message string) error {
	f := &failure{exitUnreachable, message, "anode status; if the peer is on another network: anode peers endpoints add PEER udp:IP:PORT"}
	status, err := client.Status(ctx)
	if err != nil {
		return f
	}
	for _, p := range status.Peers {
		if p.Address != peer.Address {
			continue
		}
		if what, try := reasonWords(p, status.Address); what != "" {
			f.message, f.try = what, try
		}
	}
	return f
}

// What a pinger ends with that is no error of the daemon.
var (
	errNoReply   = errors.New("no ping was answered")
	errNotDirect = errors.New("no reply came directly")
)

// pinger sends pings at an interval, reports their replies as they come, and sums up at
// the end.
type pinger struct {
	report      pingReport
	now         func() time.Time
	count       int // 0: until ctx ends
	interval    time.Duration
	untilDirect bool
	ping        func(context.Context) (overlay.PingReply, error)

	sent    int
	waiting map[int]bool   // by sequence number
	losses  map[int]pinged // held back until all earlier pings have ended
	times   []float64      // ms, of each reply
	direct  bool           // a reply came directly
}

// maxWaiting is how many pings may be under way.
const maxWaiting = 64

type pinged struct {
	sequence int
	reply    overlay.PingReply
	err      error
}

// run pings until the count is reached, a reply came directly if that is wanted, or ctx
// ends, which is no error.
func (p *pinger) run(ctx context.Context) error {
	p.waiting, p.losses = map[int]bool{}, map[int]pinged{}
	p.report.begin()
	begun := p.now()
	if err := p.exchange(ctx); err != nil {
		return err
	}
	p.report.end(p.summary(p.now().Sub(begun)))
	switch {
	case ctx.Err() != nil || p.sent == 0:
		return nil
	case len(p.times) == 0:
		return errNoReply
	case p.untilDirect && !p.direct:
		return errNotDirect
	}
	return nil
}

// exchange sends pings and takes their results. Its error is not about the path to the
// peer, such as the end of the daemon.
func (p *pinger) exchange(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan pinged, maxWaiting)
	defer func() {
		cancel()
		for range p.waiting {
			<-results
		}
	}()
	send := func() {
		p.sent++
		p.waiting[p.sent] = true
		go func(sequence int) {
			reply, err := p.ping(ctx)
			results <- pinged{sequence, reply, err}
		}(p.sent)
	}
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	send()
	for (p.count == 0 || p.sent < p.count || len(p.waiting) > 0) && !(p.untilDirect && p.direct) {
		select {
		case <-ctx.Done():
			return p.interrupted(results)
		case r := <-results:
			if err := p.take(r); err != nil {
				return err
			}
		case <-tick.C:
			if len(p.waiting) < maxWaiting && (p.count == 0 || p.sent < p.count) {
				send()
			}
		}
	}
	p.sent -= len(p.waiting) // of those under way nobody knows
	return nil
}

// interrupted takes what is under way when ctx ends.
func (p *pinger) interrupted(results <-chan pinged) error {
	for len(p.waiting) > 0 {
		if err := p.take(<-results); err != nil {
			return err
		}
	}
	return nil
}

// take reports one result.
func (p *pinger) take(r pinged) error {
	delete(p.waiting, r.sequence)
	var remote *control.Error
	switch {
	case r.err == nil:
		ms := float64(r.reply.RTT) / float64(time.Millisecond)
		p.times = append(p.times, ms)
		p.direct = p.direct || isDirect(r.reply.Path)
		p.report.reply(r.sequence, ms, r.reply)
	case errors.Is(r.err, context.Canceled):
		p.sent-- // interrupted: neither lost nor received
	case errors.As(r.err, &remote) && remote.Reason == overlay.ReasonBlocked:
		return errNoReply // and no ping will be answered
	case explain(r.err).exit == exitUnreachable:
		p.losses[r.sequence] = r
	default:
		return r.err
	}
	p.tellLosses()
	return nil
}

// tellLosses reports the losses before which nothing is under way, in their order: a ping
// that failed at once does not come before one that still waits.
func (p *pinger) tellLosses() {
	for sequence := 1; sequence <= p.sent && len(p.losses) > 0 && !p.waiting[sequence]; sequence++ {
		if r, ok := p.losses[sequence]; ok {
			delete(p.losses, sequence)
			p.report.lost(sequence, r.err)
		}
	}
}

// isDirect reports whether no relay is on a path.
func isDirect(p overlay.PathStatus) bool {
	return p.Kind != overlay.PathNone && p.Kind != overlay.PathRelay && p.Via == nil
}

// pingSummary is what came of all pings.
type pingSummary struct {
	sent, received            int
	took                      time.Duration
	low, mean, high, deviates float64 // ms, if anything was received
}

// loss is how many of a hundred pings were lost.
func (s pingSummary) loss() float64 {
	if s.sent == 0 {
		return 0
	}
	return 100 * float64(s.sent-s.received) / float64(s.sent)
}

func (p *pinger) summary(took time.Duration) pingSummary {
	s := pingSummary{sent: p.sent, received: len(p.times), took: took, low: math.Inf(1)}
	sum, squares := 0.0, 0.0
	for _, t := range p.times {
		s.low, s.high = min(s.low, t), max(s.high, t)
		sum += t
		squares += t * t
	}
	n := float64(len(p.times))
	s.mean = sum / n
	s.deviates = math.Sqrt(max(0, squares/n-s.mean*s.mean))
	return s
}
