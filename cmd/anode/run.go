package main

import (
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/daemon"
)

// runFlags are the flags of up and daemon.
type runFlags struct {
	tun   string
	port  uint16
	zone  string
	peers []string
	open  bool
	bare  bool
	set   []string
}

func (f *runFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.tun, "tun", "", "`name` of the adapter, or none (default anode0)")
	cmd.Flags().Uint16Var(&f.port, "port", 0, "UDP `port`, 0 for any (default 8737)")
	cmd.Flags().StringVar(&f.zone, "zone", "", "`zone` of a new identity, hex digits (default 0)")
	cmd.Flags().StringArrayVar(&f.peers, "peer", nil, "a peer to add while this runs, `ADDRESS[@udp:IP:PORT]`; repeatable")
	cmd.Flags().BoolVar(&f.open, "open", false, "let everybody reach this machine, not only the peers that you added")
	cmd.Flags().BoolVar(&f.bare, "info2-bare", false, "exchange texts with strangers too, in clear text (anode chat)")
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "set any key of the configuration, `KEY=VALUE`; repeatable")
	cmd.RegisterFlagCompletionFunc("set", completeKey)
}

// source returns where the configuration comes from.
func (f *runFlags) source(a *app, cmd *cobra.Command) (config.Source, error) {
	s := a.source()
	s.Set = slices.Clone(f.set)
	if cmd.Flags().Changed("tun") {
		s.Set = append(s.Set, "tun.name="+f.tun)
	}
	if cmd.Flags().Changed("port") {
		s.Set = append(s.Set, "listen.port="+strconv.Itoa(int(f.port)))
	}
	if f.zone != "" {
		if _, err := anode.ParseZone(f.zone); err != nil {
			return s, usage(cmd, "--zone: %v", err)
		}
		s.Set = append(s.Set, "zone="+f.zone)
	}
	if cmd.Flags().Changed("open") {
		s.Set = append(s.Set, "policy.open="+strconv.FormatBool(f.open))
	}
	if cmd.Flags().Changed("info2-bare") {
		s.Set = append(s.Set, "info2.bare="+strconv.FormatBool(f.bare))
	}
	for _, text := range f.peers {
		p, err := config.ParsePeer(text)
		if err != nil {
			return s, usage(cmd, "--peer %s: %v", text, err)
		}
		s.Peers = append(s.Peers, p)
	}
	return s, nil
}

// options returns a daemon's options, except when to read the configuration again and what
// to do when it is ready. From now on a stuck output stops nothing.
func (f *runFlags) options(a *app, cmd *cobra.Command) (o daemon.Options, err error) {
	source, err := f.source(a, cmd)
	if err != nil {
		return o, err
	}
	a.decouple()
	return daemon.Options{
		State: a.state, Socket: a.socket, Source: source,
		Log: a.err, Version: version(), Ending: a.hurry,
	}, nil
}

// hangups returns the signals to read the configuration again.
func hangups() (c <-chan os.Signal, stop func()) {
	hangup := make(chan os.Signal, 1)
	if runtime.GOOS != "windows" {
		signal.Notify(hangup, syscall.SIGHUP)
	}
	return hangup, func() { signal.Stop(hangup) }
}
