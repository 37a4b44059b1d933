package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/daemon"
	"anodenet/overlay/link"
)

// zoneInit are the flags of zone init.
type zoneInit struct {
	name, about, contact string
	ttl                  time.Duration
	ips                  []string
	port                 uint16
	tcp                  int // -1: not given
	force                bool
}

func (a *app) zoneInitCommand() *cobra.Command {
	var o zoneInit
	cmd := &cobra.Command{
		Use:   "init FILE",
		Short: "Write a zone file with this machine as the relay; - prints it",
		Long: "Write a zone file with this machine as the relay of its zone, to be edited: further relays\n" +
			"are zr.1, zr.2 and so on. Raise r with every change: who has a higher r ignores the file for hours.",
		Args: want(1, 1),
	}
	cmd.Flags().StringVar(&o.name, "name", "", "the zone's `name`")
	cmd.Flags().StringVar(&o.about, "description", "", "what the zone is for, a `text`")
	cmd.Flags().StringVar(&o.contact, "contact", "", "`e-mail` address of who runs it")
	secondsVar(cmd.Flags(), &o.ttl, "ttl", "", time.Hour, "after which `time` members look again, in seconds or with a unit")
	cmd.Flags().StringSliceVar(&o.ips, "ip", nil, "`IP` addresses of the relay (default: the zone's, and the public IPv6 ones of this machine)")
	cmd.Flags().Uint16Var(&o.port, "port", 0, "UDP `port` of the relay (default: that of the configuration)")
	cmd.Flags().IntVar(&o.tcp, "tcp", -1, "TCP `port` of the relay, 0 for none (default: the first of the configuration)")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace a file that exists")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return usage(cmd, "FILE is empty")
		}
		draft, err := a.draftZone(cmd, o)
		if err != nil {
			return err
		}
		return a.writeZone(args[0], draft, o.force)
	}
	return cmd
}

// draftZone makes what the flags ask for.
func (a *app) draftZone(cmd *cobra.Command, o zoneInit) (zone.Draft, error) {
	if cmd.Flags().Changed("tcp") && (o.tcp < 0 || o.tcp > 65535) {
		return zone.Draft{}, usage(cmd, "--tcp: want a port from 0 to 65535")
	}
	if o.ttl < zone.MinTTL || o.ttl > zone.MaxTTL {
		return zone.Draft{}, usage(cmd, "--ttl: want 1m to 168h")
	}
	self, err := a.self(cmd.Context())
	if err != nil {
		return zone.Draft{}, err
	}
	if self.Zone() == 0 {
		return zone.Draft{}, &failure{exitFailed, "this machine is in zone 0, the local network, which has no relays",
			"anode zone join IP, with the public address of the machine that serves the file: this machine gets a new address, and everybody who added the old one has to add the new one"}
	}
	label := zone.Label(self.Zone())
	relay := zone.Relay{UDP: o.port, Addresses: []anode.Address{self}}
	if relay.UDP == 0 {
		if relay.UDP = a.configured().Listen.Port; relay.UDP == 0 {
			relay.UDP = link.Port
		}
	}
	if relay.TCP = uint16(o.tcp); o.tcp < 0 {
		relay.TCP = firstOf(a.configured().Listen.TCP.For(relay.UDP))
	}
	for _, text := range o.ips {
		ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if err != nil || ip.Zone() != "" {
			return zone.Draft{}, usage(cmd, "--ip: want an IP address, not %q", text)
		}
		if ip = ip.Unmap(); !zone.Reachable(ip) {
			return zone.Draft{}, usage(cmd, "--ip: no other machine can reach %v", ip)
		}
		relay.IPs = append(relay.IPs, ip)
	}
	if len(relay.IPs) == 0 {
		relay.IPs = daemon.RelayIPs(self)
	}
	if len(relay.IPs) == 0 {
		return zone.Draft{}, &failure{exitFailed, "no public address of this machine is known", "--ip IP"}
	}
	return zone.Draft{
		Name: orElse(o.name, "Anode zone "+label), Description: orElse(o.about, "Machines that find each other through "+label),
		Contact: orElse(o.contact, "postmaster@["+label+"]"), Revision: a.nextRevision(self.Zone()), TTL: o.ttl, Relays: []zone.Relay{relay},
	}, nil
}

// firstOf returns the first port, 0 if there is none.
func firstOf(ports []uint16) uint16 {
	if len(ports) == 0 {
		return 0
	}
	return ports[0]
}

// nextRevision is above that of the zone's file which members may have by now.
func (a *app) nextRevision(z anode.Zone) uint64 {
	c, _, err := zone.Cache{Dir: a.state}.Load(z)
	if err != nil || c.File == nil {
		return 1
	}
	return zone.NextRevision(c.File.Revision(), a.now())
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// writeZone writes a new file, or one with a higher revision than that in its place.
func (a *app) writeZone(path string, d zone.Draft, force bool) error {
	text := func() []byte {
		head := "; A zone file of Anode. Raise r with every change: members ignore a file with a lower one.\r\n" +
			"; zr.N is relay N, N in hexadecimal: IP,IP...:UDP PORT:TCP PORT:ADDRESS, TCP port 0: none.\r\n"
		return d.Append([]byte(head))
	}
	if path == "-" {
		_, err := a.out.Write(text())
		return err
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if old, err := readZone(path); err == nil {
			d.Revision = max(d.Revision, zone.NextRevision(old.Revision(), time.Now()))
		}
	}
	f, err := os.OpenFile(path, mode, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &failure{exitFailed, path + " exists", "another file name; or --force, which replaces it"}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	whole, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "wrote %s, revision %d. To serve it with the relay, on this machine:\n"+
		"  anode up --relay --set zone.file=%s\nor without a daemon, on the machine with the zone's address:\n  anode zone serve %s\n", path, d.Revision, whole, path)
	return nil
}

func (a *app) zoneServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve FILE",
		Short: "Serve a zone file, without a daemon, until Ctrl-C",
		Long: "Serve a zone file at /z, without a daemon, until Ctrl-C. SIGHUP reads the file again. Members\n" +
			"of the zone look for it at port 80 of the zone's address.",
		Args: want(1, 1),
	}
	listen := cmd.Flags().String("listen", ":80", "`[IP]:PORT` to listen on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.serveZone(cmd.Context(), args[0], *listen)
	}
	return cmd
}

// serveZone serves a file until ctx ends.
func (a *app) serveZone(ctx context.Context, path, at string) error {
	site := &zone.Site{}
	if err := a.loadSite(site, path); err != nil {
		return err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", at)
	if err != nil {
		return listenFailure(at, err)
	}
	hangup, stop := hangups()
	defer stop()
	fmt.Fprintf(a.err, "serving %s at http://%s/z\n", path, l.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- site.Serve(ctx, l, slog.New(slog.DiscardHandler)) }()
	for {
		select {
		case err := <-served:
			return err
		case <-hangup:
			if err := a.loadSite(site, path); err != nil {
				fmt.Fprintf(a.err, "anode: %s; the earlier file stays\n", oneLine(err.Error()))
			}
		}
	}
}

// listenFailure says why nothing can listen at a place.
func listenFailure(at string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) { // the text is no place at all, or the system does not know its names
		return &failure{exitUsage, fmt.Sprintf("--listen: want [IP]:PORT, not %q", at), "--listen :8080"}
	}
	what, try := errno.Error(), "--listen IP:PORT with an address of this machine"
	switch {
	case errors.Is(err, fs.ErrPermission):
		try = "sudo; or --listen :8080 behind a web server that passes /z to it"
	case errors.Is(err, syscall.EADDRINUSE):
		try = "stop the program that uses the port; or --listen :8080, and let that web server pass /z to it"
	}
	return &failure{exitFailed, fmt.Sprintf("cannot listen on %s: %s", at, what), try}
}

// loadSite reads a file, and warns of what is wrong with it.
func (a *app) loadSite(site *zone.Site, path string) error {
	f, err := readZone(path)
	if err != nil {
		return err
	}
	if err := f.Usable(); err != nil {
		return &failure{exitFailed, path + ": " + err.Error(), "anode zone check " + path}
	}
	for _, p := range f.Problems() {
		fmt.Fprintf(a.err, "anode: warning: %s\n", printable(zoneProblem(path, p)))
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	site.Set(f, info.ModTime())
	return nil
}
