package chat

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestBound has sockets of an adapter (here one end of a veth) that talk with the other
// end of it and with another node of the same machine, and with nobody else.
func TestBound(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		bound(t)
	}()
	<-done
}

func bound(t *testing.T) {
	run := func(line string) {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v %s", line, err, out)
		}
	}
	for _, line := range []string{
		"link set lo up", "link add ours type veth peer name others", "link set ours up", "link set others up",
		"addr add fd00:a::1/128 dev ours nodad", "addr add fd00:a::2/128 dev others nodad",
	} {
		run(line)
	}
	ours, err := net.InterfaceByName("ours")
	if err != nil {
		t.Error(err)
		return
	}
	one := FromULA(netip.MustParseAddr("fd00:a::1"), func() int { return ours.Index })
	two := FromULA(netip.MustParseAddr("fd00:a::2"), func() int { return ours.Index + 100 })
	l, err := one.Listen(t.Context(), 0)
	if err != nil {
		t.Error(err)
		return
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if _, err := one.Listen(t.Context(), at.Port()); err == nil {
		t.Error("the port is taken twice")
	}
	here, err := netns.Get()
	if err != nil {
		t.Error(err)
		return
	}
	defer here.Close()
	go func() {
		runtime.LockOSThread() // for good; the listener asks for routes
		if err := netns.Set(here); err != nil {
			t.Error(err)
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, dial := range map[string]Transport{"itself": one, "another node": two} {
		c, err := dial.Dial(ctx, at)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b := make([]byte, 5)
		if _, err := c.Read(b); err != nil || string(b) != "hello" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		c.Close()
	}
	// A route to another interface has no part in it.
	run("-6 route add fd00:b::/64 dev others")
	if c, err := one.Dial(ctx, netip.MustParseAddrPort("[fd00:b::1]:1")); err == nil {
		c.Close()
		t.Error("it left by another interface")
	} else if !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("by another interface: %v", err)
	}
	outside(ctx, t, l, run)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
		t.Error("accepted after the end")
	}
}

// outside has a machine on another link connect to the listener's address, which works
// for a listener of anybody else's.
func outside(ctx context.Context, t *testing.T, l net.Listener, run func(string)) {
	at := l.Addr().(*net.TCPAddr).AddrPort()
	here, err := netns.Get()
	if err != nil {
		t.Error(err)
		return
	}
	defer here.Close()
	there, err := netns.New() // and the thread is in it
	if err != nil {
		t.Error(err)
		return
	}
	defer there.Close()
	run("link add lan type veth peer name wan")
	run("link set lan up")
	run("addr add fd00:c::2/64 dev lan nodad")
	link, err := netlink.LinkByName("wan")
	if err == nil {
		err = netlink.LinkSetNsFd(link, int(here))
	}
	if err == nil {
		err = netns.Set(here)
	}
	if err != nil {
		t.Error(err)
		return
	}
	run("link set wan up")
	run("addr add fd00:c::1/64 dev wan nodad")
	plain, err := net.Listen("tcp6", "[fd00:a::1]:0")
	if err != nil {
		t.Error(err)
		return
	}
	defer plain.Close()
	if err := netns.Set(there); err != nil {
		t.Error(err)
		return
	}
	run("-6 route add fd00:a::1 via fd00:c::1 dev lan")
	for name, to := range map[string]netip.AddrPort{"a plain listener": plain.Addr().(*net.TCPAddr).AddrPort(), "ours": at} {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp6", to.String())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if name == "ours" {
			if n, err := c.Read(make([]byte, 5)); err == nil {
				t.Errorf("%s said %d bytes to a machine outside", name, n)
			}
		}
		c.Close()
	}
	if err := netns.Set(here); err != nil {
		t.Error(err)
	}
}
