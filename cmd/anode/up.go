package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/daemon"
	"anodenet/overlay"
)

func (a *app) upCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Join the network, and report events until Ctrl-C",
		GroupID: groupLife,
		Args:    want(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options := flags.options(a, cmd)
			ctx, stop := untilHangup(cmd.Context())
			defer stop()
			context.AfterFunc(ctx, a.hurry)
			// People read the teller's words, and only warnings and errors of the log.
			options.Source.Base = quiet
			options.Made = func(state string) { fmt.Fprintf(a.err, madeText, state) }
			told := false
			options.Ready = func(ctx context.Context, node *overlay.Node) {
				told = true
				tell(ctx, &teller{out: a.out, now: a.now}, node)
			}
			err := daemon.Run(ctx, options)
			if told {
				fmt.Fprintln(a.out, "\nStopped. The adapter, its address and its routes are gone.")
			}
			return err
		},
	}
	flags.add(cmd)
	return cmd
}

// quiet is the default configuration of up.
func quiet() config.Config {
	c := config.Default()
	c.Log.Level = slog.LevelWarn
	return c
}

// tellPause is how long events are collected before they are reported.
const tellPause = 200 * time.Millisecond

// tell reports events until ctx ends.
func tell(ctx context.Context, t *teller, node *overlay.Node) {
	w := node.Watch()
	defer w.Close()
	for {
		if status, err := node.Status(ctx); err == nil {
			t.see(status)
		}
		select {
		case <-time.After(tellPause):
		case <-ctx.Done():
			return
		}
		if _, err := w.Next(ctx); err != nil {
			return
		}
	}
}

// teller reports in words what changed from one status to the next.
type teller struct {
	out        io.Writer
	now        func() time.Time
	introduced bool
	copies     bool
	last       []overlay.PeerStatus
}

func (t *teller) see(s overlay.Status) {
	first := !t.introduced
	if first {
		t.introduce(s)
		t.introduced = true
	}
	gone := make(map[anode.Address]overlay.PeerStatus, len(t.last)) // until s lists them
	for _, p := range t.last {
		gone[p.Address] = p
	}
	names := namesOf(s.Peers)
	for _, p := range s.Peers {
		before, known := gone[p.Address]
		delete(gone, p.Address)
		if !known && !first {
			t.say("%s", found(p))
		}
		if refuses(p) && !refuses(before) {
			t.say("%s has not added this machine, so only pings get through; run there: anode peers add %s", label(p), s.Address)
		}
		if p.State == before.State && known {
			if now := route(p.Path, names); p.State == overlay.StateUp && now != route(before.Path, names) {
				t.say("%s now has another path: %s", label(p), now)
			}
			continue
		}
		switch {
		case p.State == overlay.StateUp:
			t.say("%s is connected: %s", label(p), route(p.Path, names))
		case p.State == overlay.StateUnreachable && known:
			t.say("%s cannot be reached", label(p))
		case before.State == overlay.StateUp && p.State == overlay.StateIdle:
			t.say("%s is idle: it is connected again as soon as there is traffic", label(p))
		case before.State == overlay.StateUp:
			t.say("%s is no longer connected", label(p))
		}
	}
	for _, p := range t.last {
		if _, ok := gone[p.Address]; ok {
			t.say("%s is gone", label(p))
		}
	}
	if s.Copies && !t.copies {
		t.say("another machine has the same address; this one has machine number %d", s.PeerID)
	}
	t.last, t.copies = s.Peers, s.Copies
}

func (t *teller) introduce(s overlay.Status) {
	fmt.Fprintf(t.out, "This machine is now on the network as\n\n  address   %s\n  IPv6      %s\n  short ID  %s\n", s.Address, s.ULA, s.ID)
	if s.Tun != nil {
		fmt.Fprintf(t.out, "  adapter   %s, MTU %d\n", s.Tun.Name, s.Tun.MTU)
	} else {
		fmt.Fprintf(t.out, "  adapter   none: this node only answers pings and relays\n")
	}
	for _, l := range s.Listen {
		fmt.Fprintf(t.out, "  listens   %s\n", l)
	}
	added := 0
	for _, p := range s.Peers {
		if p.Allowed {
			added++
		}
	}
	switch added {
	case 0:
		fmt.Fprintf(t.out, "\nNo peers are added yet: on another machine run \"anode id\", then here \"anode peers add ADDRESS NAME\".\n")
	case 1:
		fmt.Fprintf(t.out, "\nOne peer is added.\n")
	default:
		fmt.Fprintf(t.out, "\n%d peers are added.\n", added)
	}
	fmt.Fprintf(t.out, "Ctrl-C stops and cleans up.\n\n")
}

func (t *teller) say(format string, args ...any) {
	fmt.Fprintf(t.out, "%s  %s\n", t.now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// found reports a new peer, and how to let it in if it was not added.
func found(p overlay.PeerStatus) string {
	if p.Allowed || p.Blocked {
		return label(p) + " was added"
	}
	return fmt.Sprintf("found %s; to let it in, run: anode peers add %s", label(p), p.Address)
}
