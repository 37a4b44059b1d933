package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// traceAnswer is the JSON of trace.
type traceAnswer struct {
	Schema  int                `json:"schema"`
	Address anode.Address      `json:"address"`
	Name    string             `json:"name"`
	Path    overlay.PathStatus `json:"path"` // that packets to the peer take
	Hops    []traceHop         `json:"hops"`
	Back    *traceBack         `json:"back"` // how the last answer came; null: there was none
	Error   string             `json:"error,omitempty"`
}

// traceHop is one machine on the way, and what became of the pings to it.
type traceHop struct {
	What     string        `json:"what"` // self, relay or peer
	Address  anode.Address `json:"address"`
	Name     string        `json:"name"`
	Endpoint string        `json:"endpoint"` // where packets to it go; of self: as which the outside sees it. Empty: not known
	Sent     int           `json:"sent"`
	Received int           `json:"received"`
	Min      *float64      `json:"min_ms"` // null: nothing was received, as for self
	Mean     *float64      `json:"avg_ms"`
	Max      *float64      `json:"max_ms"`
}

// traceBack is the way of an answer.
type traceBack struct {
	Path   overlay.PathStatus `json:"path"`
	Relays int                `json:"relays"` // that it crossed
	Same   bool               `json:"same"`   // it is the way of what was sent
}

// traceFlags are the flags of trace.
type traceFlags struct {
	count    int
	wait     time.Duration
	interval time.Duration
	json     bool
}

func (a *app) traceCommand() *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace PEER",
		Short: "Show the machines on the way to a peer, with round-trip times",
		Long: "Show the machines on the way to a peer: this one, the relay if there is one, and the peer,\n" +
			"with the round-trip times of pings to each. If answers come by another way, it says so.\n\n" +
			"Exit code: 0 if the peer answered, 5 if not, 4 if there is no such peer.",
		GroupID:           groupPeople,
		Args:              want(1, 1),
		ValidArgsFunction: a.completePeer(0),
	}
	cmd.Flags().IntVarP(&f.count, "count", "c", 3, "`N` pings to each")
	secondsVar(cmd.Flags(), &f.interval, "interval", "i", 200*time.Millisecond, "`time` between pings, in seconds or as 500ms")
	secondsVar(cmd.Flags(), &f.wait, "wait", "W", 5*time.Second, "`time` to wait for a reply, in seconds or as 500ms")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		return a.trace(cmd.Context(), args[0], f)
	}
	return cmd
}

func (f *traceFlags) check(cmd *cobra.Command) error {
	switch {
	case f.count < 1 || f.count > 1000:
		return usage(cmd, "-c %d: want 1 to 1000", f.count)
	case f.interval < time.Millisecond || f.interval > time.Hour:
		return usage(cmd, "-i %v: want 1ms to 1h", f.interval)
	case f.wait < time.Millisecond || f.wait > time.Minute:
		return usage(cmd, "-W %v: want 1ms to 60s", f.wait)
	}
	return nil
}

// traceTries is how many pings the peer may leave unanswered before its relay is pinged alone.
const traceTries = 2

// trace finds the way to a peer and pings the machines on it.
func (a *app) trace(ctx context.Context, text string, f traceFlags) error {
	client := control.NewClient(a.socket)
	defer client.Close()
	peer, err := a.findPeer(ctx, clientBook{client}, text)
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	t := tracer{ping: client.Ping, status: client.Status, flags: f}
	answer, err := t.run(ctx, peer)
	if err != nil {
		return err
	}
	if f.json {
		err = a.json(answer)
	} else {
		a.printTrace(answer, namesOf(status.Peers))
	}
	switch {
	case err != nil:
		return err
	case answer.Back == nil:
		return a.unreached(ctx, client, peer, labelOf(peer.Name, peer.ID)+" did not answer")
	}
	return nil
}

// tracer pings machines by way of a daemon.
type tracer struct {
	ping   func(context.Context, control.PingRequest) (overlay.PingReply, error)
	status func(context.Context) (overlay.Status, error)
	flags  traceFlags
}

// run pings the peer once, which has a path made, and then all on the path.
func (t *tracer) run(ctx context.Context, peer control.Resolved) (traceAnswer, error) {
	answer := traceAnswer{Schema: schema, Address: peer.Address, Name: peer.Name}
	first, err := t.once(ctx, peer.Address)
	for k := 1; k < traceTries && err != nil && explain(err).exit == exitUnreachable; k++ {
		first, err = t.once(ctx, peer.Address)
	}
	if err != nil && explain(err).exit != exitUnreachable {
		return answer, err
	}
	s, statusErr := t.status(ctx)
	if statusErr != nil {
		return answer, statusErr
	}
	answer.Path = pathOf(s, peer.Address)
	answer.Hops = hopsOf(s, peer, answer.Path)
	if err != nil {
		answer.Error = lossWords(err)
		answer.Hops[len(answer.Hops)-1].Sent = traceTries
		return answer, t.pings(ctx, answer.Hops[1:len(answer.Hops)-1], nil)
	}
	last := first
	if err := t.pings(ctx, answer.Hops[1:], &last); err != nil {
		return answer, err
	}
	answer.Back = &traceBack{last.Path, last.Hops, samePath(last.Path, answer.Path)}
	return answer, nil
}

func (t *tracer) once(ctx context.Context, to anode.Address) (overlay.PingReply, error) {
	return t.ping(ctx, control.PingRequest{Address: to, Size: 40, TimeoutMS: int(t.flags.wait.Milliseconds())})
}

// pings pings each of some hops in turn, as often as wanted. last gets the latest reply of the
// last hop.
func (t *tracer) pings(ctx context.Context, hops []traceHop, last *overlay.PingReply) error {
	pause := time.NewTicker(t.flags.interval)
	defer pause.Stop()
	for round := range t.flags.count {
		if round > 0 && len(hops) > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-pause.C:
			}
		}
		for k := range hops {
			reply, err := t.once(ctx, hops[k].Address)
			if err != nil && explain(err).exit != exitUnreachable {
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			hops[k].take(reply, err)
			if err == nil && last != nil && k == len(hops)-1 {
				*last = reply
			}
		}
	}
	return nil
}

// take notes the result of a ping.
func (h *traceHop) take(r overlay.PingReply, err error) {
	h.Sent++
	if err != nil {
		return
	}
	ms := float64(r.RTT) / float64(time.Millisecond)
	if h.Received == 0 {
		h.Min, h.Mean, h.Max = new(ms), new(ms), new(ms)
	}
	h.Received++
	*h.Min, *h.Max = math.Min(*h.Min, ms), math.Max(*h.Max, ms)
	*h.Mean += (ms - *h.Mean) / float64(h.Received)
}

// pathOf is the path that packets to a peer take.
func pathOf(s overlay.Status, a anode.Address) overlay.PathStatus {
	for _, p := range s.Peers {
		if p.Address == a {
			return p.Path
		}
	}
	return overlay.PathStatus{Kind: overlay.PathNone}
}

// hopsOf are the machines on a path.
func hopsOf(s overlay.Status, peer control.Resolved, path overlay.PathStatus) []traceHop {
	hops := []traceHop{{What: "self", Address: s.Address, Endpoint: s.Reach.Endpoint}}
	end := traceHop{What: "peer", Address: peer.Address, Name: peer.Name, Endpoint: path.Endpoint}
	if path.Via != nil {
		hops = append(hops, traceHop{What: "relay", Address: *path.Via, Name: namesOf(s.Peers)[*path.Via], Endpoint: path.Endpoint})
		end.Endpoint = ""
	}
	return append(hops, end)
}

// samePath reports whether two paths lead through the same machines.
func samePath(x, y overlay.PathStatus) bool {
	if x.Via != nil || y.Via != nil {
		return x.Via != nil && y.Via != nil && *x.Via == *y.Via
	}
	return x.Endpoint == y.Endpoint
}

// printTrace prints the answer for people: a line for each machine.
func (a *app) printTrace(t traceAnswer, names map[anode.Address]string) {
	end := t.Hops[len(t.Hops)-1]
	if t.Path.Via == nil && t.Back != nil {
		line := fmt.Sprintf("%s: %s, %s", labelOf(end.Name, end.Address.ID()), route(t.Path, names), hopWords(end))
		if t.Path.MTU > 0 {
			line += fmt.Sprintf(", packets of up to %d bytes", t.Path.MTU)
		}
		wrapped(a.out, a.columnsOf(), "", "  ", line)
	} else {
		rows := [][]string{}
		for k, h := range t.Hops {
			rows = append(rows, []string{fmt.Sprint(k), h.What, hopName(h), h.Endpoint, hopWords(h)})
		}
		a.columns(rows)
	}
	if t.Back != nil && !t.Back.Same {
		fmt.Fprintln(a.out, "answers come by another way: "+route(t.Back.Path, names))
	}
	if t.Error != "" {
		fmt.Fprintln(a.out, "no reply: "+t.Error)
	}
}

func hopName(h traceHop) string {
	if h.What == "self" {
		return "this machine"
	}
	return labelOf(h.Name, h.Address.ID())
}

// hopWords are the round trips to a machine.
func hopWords(h traceHop) string {
	switch {
	case h.Sent == 0:
		return ""
	case h.Received == 0:
		return "no reply"
	}
	text := fmt.Sprintf("%s ms", millis(*h.Mean))
	if h.Received > 1 {
		text = fmt.Sprintf("%s ms (%s to %s)", millis(*h.Mean), millis(*h.Min), millis(*h.Max))
	}
	if h.Received < h.Sent {
		text += fmt.Sprintf(", %d of %d lost", h.Sent-h.Received, h.Sent)
	}
	return text
}
