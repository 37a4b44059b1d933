package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"anodenet/platform"
)

// namesProgram is the variable that says what TestNetResolvedProgram does.
const namesProgram = "ANODE_NAMES_PROGRAM"

// The network of the stand-in.
var (
	namesULA   = netip.MustParseAddr("fd12:3456:7890::1")
	namesNorth = netip.MustParseAddr("fd12:3456:7890::99")
	namesZone  = netip.MustParsePrefix("fd12:3456:7800::/40")
)

const (
	namesSuffix  = "anode.internal"
	namesReverse = "8.7.6.5.4.3.2.1.d.f.ip6.arpa"
)

// TestNetResolvedProgram is a program that the tests beside it start; by itself it does nothing:
//
//	go NAME             prints the addresses, as Go's own resolver finds them
//	serve [UID] [wait]  an adapter, a DNS server, and platform.Names, as that user, until SIGTERM;
//	                    SIGUSR1 applies again, SIGUSR2 flushes
func TestNetResolvedProgram(t *testing.T) {
	words := strings.Fields(os.Getenv(namesProgram))
	if len(words) == 0 {
		return
	}
	var err error
	switch words[0] {
	case "go":
		var list []netip.Addr
		list, err = (&net.Resolver{PreferGo: true}).LookupNetIP(t.Context(), "ip", words[1])
		for _, a := range list {
			fmt.Println(a)
		}
	case "serve":
		err = serveNames(words[1:])
	}
	if err != nil {
		t.Fatal(err)
	}
}

func serveNames(words []string) error {
	index, err := namesAdapter()
	if err != nil {
		return err
	}
	server := netip.AddrPortFrom(namesULA, 8753)
	c, err := net.ListenPacket("udp", server.String())
	if err != nil {
		return err
	}
	go serveDNS(c, func(q string) { fmt.Println("ASKED " + q) }, namesAnswer)
	for _, w := range words {
		if err := becomeUser(w); err != nil {
			return err
		}
	}
	n := platform.NewNames(slog.New(slog.NewTextHandler(os.Stdout, nil)))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	s := platform.NameSettings{Link: index, Name: "anode0", Server: server, Domains: []string{namesSuffix, namesReverse}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	_ = n.Apply(ctx, s)
	tick := time.NewTicker(10 * time.Millisecond)
	var said platform.NameReport
	for {
		if r := n.Describe(); r != said {
			text, err := json.Marshal(r)
			if err != nil {
				return err
			}
			fmt.Printf("REPORT %s\n", text)
			said = r
		}
		select {
		case <-tick.C:
			continue
		case sig := <-signals:
			switch sig {
			case unix.SIGUSR1:
				_ = n.Apply(ctx, s)
				continue
			case unix.SIGUSR2:
				fmt.Println("FLUSHED", n.(platform.NameFlusher).Flush(ctx))
				continue
			}
		}
		stop()
		if err := <-ended; err != nil {
			return err
		}
		err := n.Revert(context.Background())
		fmt.Println("REVERTED", err)
		return err
	}
}

// namesAdapter makes an adapter that goes with the process, as package tun and the daemon do.
func namesAdapter() (index int, err error) {
	l := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "anode0"}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true, Flags: netlink.TUNTAP_DEFAULTS, Queues: 1}
	if err := netlink.LinkAdd(l); err != nil {
		return 0, err
	}
	for _, f := range l.Fds {
		go func() { // what is sent to peers gets lost
			for b := make([]byte, 2000); ; {
				if _, err := f.Read(b); err != nil {
					return
				}
			}
		}()
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	k, err := platform.Keep("anode0", platform.Settings{
		Wanted: platform.Wanted{Zones: []netip.Prefix{namesZone}}, ULA: namesULA, MTU: 1400,
	}, platform.Options{Log: log, Renamed: func(string) {}})
	if err != nil {
		return 0, err
	}
	go k.Run(context.Background())
	return k.State().Index, nil
}

// becomeUser makes this process a user's, without any rights.
func becomeUser(uid string) error {
	var id int
	if _, err := fmt.Sscan(uid, &id); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setresgid(id, id, id); err != nil {
		return err
	}
	return syscall.Setresuid(id, id, id)
}

// namesAnswer knows north, and its address.
func namesAnswer(q dnsmessage.Question) (dnsmessage.ResourceBody, dnsmessage.RCode) {
	name := strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))
	switch {
	case name == "north."+namesSuffix && q.Type == dnsmessage.TypeAAAA:
		return &dnsmessage.AAAAResource{AAAA: namesNorth.As16()}, dnsmessage.RCodeSuccess
	case name == "north."+namesSuffix, name == namesSuffix:
		return nil, dnsmessage.RCodeSuccess
	case strings.HasPrefix(name, "9.9.0.0.") && strings.HasSuffix(name, namesReverse) && q.Type == dnsmessage.TypePTR:
		return &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("north." + namesSuffix + ".")}, dnsmessage.RCodeSuccess
	}
	return nil, dnsmessage.RCodeNameError
}
