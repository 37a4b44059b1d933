package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// pingReport shows what a pinger sees.
type pingReport interface {
	begin()
	reply(sequence int, ms float64, r overlay.PingReply)
	lost(sequence int, err error)
	end(pingSummary)
}

// pingText shows it to people, in ping(8)'s words, which scripts know too.
type pingText struct {
	out   io.Writer
	label string
	ula   anode.ULA
	size  int
	names map[anode.Address]string
	quiet bool
}

func (t *pingText) begin() {
	fmt.Fprintf(t.out, "PING %s %s: %d bytes\n", t.label, t.ula, t.size)
}

func (t *pingText) reply(sequence int, ms float64, r overlay.PingReply) {
	if !t.quiet {
		fmt.Fprintf(t.out, "%d bytes from %s: seq=%d time=%s ms, %s\n", r.Size, t.label, sequence, millis(ms), route(r.Path, t.names))
	}
}

func (t *pingText) lost(sequence int, err error) {
	if !t.quiet {
		fmt.Fprintf(t.out, "no reply from %s: seq=%d, %s\n", t.label, sequence, lossWords(err))
	}
}

// lossWords says why a ping got no reply.
func lossWords(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return strings.TrimPrefix(explain(err).message, overlay.ErrUnreachable.Error()+": ")
}

func (t *pingText) end(s pingSummary) {
	fmt.Fprintf(t.out, "\n--- %s ping statistics ---\n", t.label)
	fmt.Fprintf(t.out, "%d packets transmitted, %d received, %.4g%% packet loss, time %dms\n", s.sent, s.received, s.loss(), s.took.Milliseconds())
	if s.received > 0 {
		fmt.Fprintf(t.out, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", s.low, s.mean, s.high, s.deviates)
	}
}

// pingJSON shows it to programs: a value a line.
type pingJSON struct {
	out   io.Writer
	peer  control.Resolved
	quiet bool
}

// pingLine is what all lines have.
type pingLine struct {
	Schema  int           `json:"schema"`
	Type    string        `json:"type"` // reply, lost or summary
	Address anode.Address `json:"address"`
	Name    string        `json:"name"`
}

func (j *pingJSON) line(kind string) pingLine {
	return pingLine{schema, kind, j.peer.Address, j.peer.Name}
}

func (j *pingJSON) print(v any) {
	e := json.NewEncoder(j.out)
	e.SetEscapeHTML(false)
	e.Encode(v) // a reader that is gone ends the program otherwise
}

func (j *pingJSON) begin() {}

func (j *pingJSON) reply(sequence int, ms float64, r overlay.PingReply) {
	if j.quiet {
		return
	}
	j.print(struct {
		pingLine
		Sequence int                `json:"seq"`
		Size     int                `json:"size"`
		RTT      float64            `json:"rtt_ms"`
		Path     overlay.PathStatus `json:"path"`
		Hops     int                `json:"hops"`
	}{j.line("reply"), sequence, r.Size, ms, r.Path, r.Hops})
}

func (j *pingJSON) lost(sequence int, err error) {
	if j.quiet {
		return
	}
	j.print(struct {
		pingLine
		Sequence int            `json:"seq"`
		Reason   overlay.Reason `json:"reason"`
		Message  string         `json:"message"`
	}{j.line("lost"), sequence, reasonOf(err), lossWords(err)})
}

// reasonOf returns the reason that an error names; empty: none.
func reasonOf(err error) overlay.Reason { return control.AsError(err).Reason }

func (j *pingJSON) end(s pingSummary) {
	type rtt struct {
		Min  float64 `json:"min_ms"`
		Mean float64 `json:"avg_ms"`
		Max  float64 `json:"max_ms"`
		Mdev float64 `json:"mdev_ms"`
	}
	sum := struct {
		pingLine
		Sent     int     `json:"transmitted"`
		Received int     `json:"received"`
		Loss     float64 `json:"loss_percent"`
		Time     int64   `json:"time_ms"`
		RTT      *rtt    `json:"rtt"` // null: nothing was received
	}{pingLine: j.line("summary"), Sent: s.sent, Received: s.received, Loss: s.loss(), Time: s.took.Milliseconds()}
	if s.received > 0 {
		sum.RTT = &rtt{s.low, s.mean, s.high, s.deviates}
	}
	j.print(sum)
}
