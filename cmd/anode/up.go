package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/daemon"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
)

func (a *app) upCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Join the network, and report events until Ctrl-C",
		GroupID: groupLife,
		Args:    want(0, 0),
	}
	flags.add(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print a line of JSON for each event")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		told, warned := a.eventText(a.out), a.eventText(a.err)
		options := flags.options(a, cmd)
		told.out, warned.out = a.out, a.err
		ctx, stop := untilHangup(cmd.Context())
		defer stop()
		context.AfterFunc(ctx, a.hurry)
		// People read events, and only warnings and errors of the log, in the same form.
		options.Source.Base = quiet
		t, warn := &teller{now: a.now, print: told.print}, warned.print
		if *asJSON {
			t.print = (&eventJSON{out: a.out}).print
			warn = t.print
		}
		options.Made = a.sayMade
		options.Handler = func(level slog.Leveler) slog.Handler {
			return &eventLog{level: level, print: warn}
		}
		options.Doors = func(doors []proxy.Status) { t.doors = doors }
		options.People = func(o daemon.Occasion) {
			if e, ok := occasion(o); ok {
				(&teller{now: a.now, print: t.print}).tell(e) // each event is one write, beside others
			}
		}
		options.Ready = func(ctx context.Context, node *overlay.Node) {
			t.bridged = bridged(options.Source)
			tell(ctx, t, node)
		}
		defer collectOften()()
		err := daemon.Run(ctx, options)
		t.stopped()
		return err
	}
	return cmd
}

// eventText returns what prints events to a stream as it fits there.
func (a *app) eventText(out io.Writer) *eventText {
	if !isTerminal(out) {
		return &eventText{}
	}
	return &eventText{color: a.color, width: a.columnsOf()}
}

// quiet is the default configuration of up.
func quiet() config.Config {
	c := config.Default()
	c.Log.Level = slog.LevelWarn
	return c
}

// bridged reports whether the configuration has the bridge between the text networks.
func bridged(s config.Source) bool {
	c, err := s.Load()
	return err == nil && c.Info2.Bridge
}

// tellPause is how long events are collected before they are reported; strangersPause, those of strangers alone, since
// a crowd of them may come.
const (
	tellPause      = 200 * time.Millisecond
	strangersPause = 5 * time.Second
)

// tell reports events until ctx ends.
func tell(ctx context.Context, t *teller, node *overlay.Node) {
	w := node.Watch()
	defer w.Close()
	t.follow(ctx, node.Status, w.Next)
}

// follow looks at the status, which is much to read, whenever something happened that the events say.
func (t *teller) follow(ctx context.Context, status func(context.Context) (overlay.Status, error), next func(context.Context) ([]overlay.Event, error)) {
	for {
		looked := time.Now()
		if s, err := status(ctx); err == nil {
			t.see(s)
		}
		if t.await(ctx, looked, next) != nil {
			return
		}
	}
}

// await returns when there is something to report, or an error when there will be nothing any more.
func (t *teller) await(ctx context.Context, looked time.Time, next func(context.Context) ([]overlay.Event, error)) error {
	strangers, cancel := context.WithDeadline(ctx, looked.Add(strangersPause))
	defer cancel()
	for until := ctx; ; until = strangers { // from the first event on
		select {
		case <-time.After(tellPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		events, err := next(until)
		switch {
		case err != nil && ctx.Err() == nil && strangers.Err() != nil && until == strangers:
			return nil
		case err != nil:
			return err
		case slices.ContainsFunc(events, t.urgent):
			return nil
		}
	}
}

// urgent reports whether an event is about more than strangers. If more happened than was read, it was strangers.
func (t *teller) urgent(e overlay.Event) bool {
	switch e.Kind {
	case overlay.EventDecided, overlay.EventCopies:
		return true
	}
	return t.peers[e.Address]
}
