package main

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/daemon"
)

// runFlags are the flags of up and daemon.
type runFlags struct {
	tun   string
	port  uint16
	zone  string
	relay bool
	peers []string
	open  bool
	bare  bool
	local localFlags
	only  bool
	set   []string
}

func (f *runFlags) add(cmd *cobra.Command) {
	f.addConfig(cmd)
	cmd.Flags().BoolVar(&f.only, "read-only", false, "only read the state directory: peers that are added and texts end with this process")
}

// addConfig adds the flags that set keys of the configuration.
func (f *runFlags) addConfig(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.tun, "tun", "", "`name` of the adapter, or none (default anode0)")
	cmd.Flags().Uint16Var(&f.port, "port", 0, "UDP `port`, 0 for any (default 8737)")
	cmd.Flags().StringVar(&f.zone, "zone", "", "zone of a new identity: the IPv4 address of the machine with its relay, or hex digits, `ZONE` (default 0)")
	cmd.Flags().BoolVar(&f.relay, "relay", false, "relay for every address of this machine's zone, and serve its zone file on port 80")
	cmd.Flags().StringArrayVar(&f.peers, "peer", nil, "a peer to add while this runs, `[NAME=]ADDRESS[@ENDPOINT]`, with an endpoint such as udp:HOST:PORT, tcp:HOST:PORT, http://HOST/PATH or https://HOST/PATH; repeatable")
	cmd.Flags().BoolVar(&f.open, "open", false, "let everybody reach this machine, not only the peers that you added")
	cmd.Flags().BoolVar(&f.bare, "info2-bare", false, "exchange texts with strangers too, in clear text (anode chat)")
	f.local.add(cmd)
	cmd.Flags().StringArrayVar(&f.set, "set", nil, "set any key of the configuration, `KEY=VALUE`; repeatable")
	cmd.RegisterFlagCompletionFunc("set", completeKey)
}

// localFlags set how programs of this machine and peers are joined without an adapter.
type localFlags struct {
	socks, http     string
	forward, expose []string
}

func (f *localFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socks, "socks", "", "a SOCKS5 proxy to peers for programs, `PORT`, IP:PORT or unix:/PATH; every user of this machine can use a port")
	cmd.Flags().StringVar(&f.http, "http-proxy", "", "the same as an HTTP proxy, which serves CONNECT alone, `PORT`, IP:PORT or unix:/PATH")
	cmd.Flags().StringArrayVar(&f.forward, "forward", nil, "lead a local port to a port of a peer, `LOCAL=PEER:PORT`, or udp: before it; repeatable")
	cmd.Flags().StringArrayVar(&f.expose, "expose", nil, "let peers reach a port of 127.0.0.1, `PORT[@PEER]`, or as local.expose has it; repeatable")
}

// source returns where the configuration comes from.
func (f *runFlags) source(a *app, cmd *cobra.Command) config.Source {
	s := a.source()
	s.Set = f.set
	set := func(flag, key, value string) {
		if cmd.Flags().Changed(flag) {
			s.Flags = append(s.Flags, config.Flag{Flag: "--" + flag, Key: key, Value: value})
		}
	}
	set("tun", "tun.name", f.tun)
	set("port", "listen.port", strconv.Itoa(int(f.port)))
	set("open", "policy.open", strconv.FormatBool(f.open))
	set("info2-bare", "info2.bare", strconv.FormatBool(f.bare))
	set("zone", "zone", f.zone)
	set("socks", "local.socks", f.local.socks)
	set("http-proxy", "local.http", f.local.http)
	set("forward", "local.forward", strings.Join(f.local.forward, ","))
	set("expose", "local.expose", strings.Join(f.local.expose, ","))
	if f.relay {
		set("relay", "relay.enabled", "true")
	}
	set("relay", "relay.zone", strconv.FormatBool(f.relay))
	for _, text := range f.peers {
		set("peer", "peers", text)
	}
	return s
}

// options returns a daemon's options, except when to read the configuration again and what
// to do when it is ready. From now on a stuck output stops nothing.
func (f *runFlags) options(a *app, cmd *cobra.Command) daemon.Options {
	a.decouple()
	source := f.source(a, cmd)
	c, err := source.Load() // the daemon reports an error
	a.settleDaemon(err != nil || c.Tun.Name != config.NoTun)
	return daemon.Options{
		State: a.state, ReadOnly: f.only, Socket: a.socket, Source: source,
		Log: a.err, Version: version(), Ending: a.hurry,
	}
}

// hangups returns the signals to read the configuration again.
func hangups() (c <-chan os.Signal, stop func()) {
	hangup := make(chan os.Signal, 1)
	if runtime.GOOS != "windows" {
		signal.Notify(hangup, syscall.SIGHUP)
	}
	return hangup, func() { signal.Stop(hangup) }
}
