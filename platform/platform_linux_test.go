package platform

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
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

var (
	ula  = netip.MustParseAddr("fd12:3456:7890::1")
	zone = netip.MustParsePrefix("fd12:3456:7800::/40")
)

// inSpace runs f in a new network namespace, which ends with it.
func inSpace(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		f()
	}()
	<-done
}

// newTun makes a device that goes when the process ends or the files are closed.
func newTun(name string) (files []*os.File, err error) {
	link := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, NonPersist: true,
		Flags: netlink.TUNTAP_DEFAULTS | netlink.TUNTAP_VNET_HDR, Queues: 1,
	}
	err = netlink.LinkAdd(link)
	return link.Fds, err
}

// peer is an added peer's address.
var peer = netip.MustParseAddr("fd12:3456:7890::2")

func settings() Settings {
	return Settings{
		Wanted: Wanted{Zones: []netip.Prefix{zone}, Peers: []netip.Addr{peer}},
		ULA:    ula, MTU: 1440, GSOMaxSize: 61000, TxQueueLen: 300,
	}
}

// adapter makes pt0 and sets it up. It is nil if that failed.
func adapter(t *testing.T) *Keeper { return adapterWith(t, settings()) }

// adapterWith is adapter with other settings.
func adapterWith(t *testing.T, s Settings) *Keeper {
	t.Helper()
	files, err := newTun("pt0")
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() { files[0].Close() })
	k, err := Keep("pt0", s, Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Error(err)
		return nil
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func ip(t *testing.T, arg ...string) string {
	out, err := exec.Command("ip", arg...).CombinedOutput()
	if err != nil {
		t.Errorf("ip %s: %v: %s", strings.Join(arg, " "), err, out)
	}
	return string(out)
}

// checkRoutes compares the main table with what it ought to hold.
func checkRoutes(t *testing.T, want ...netip.Prefix) {
	t.Helper()
	got := ip(t, "-6", "route", "show", "table", "main")
	if n := strings.Count(got, "\n"); n != len(want) {
		t.Errorf("routes:\n%s", got)
	}
	for _, p := range want {
		if !strings.Contains(got, strings.TrimSuffix(p.String(), "/128")+" dev pt0") {
			t.Errorf("no route to %s in:\n%s", p, got)
		}
	}
}

// TestKilled shows that a process that is killed leaves nothing behind.
func TestKilled(t *testing.T) {
	if os.Getenv("PLATFORM_HOLD") != "" {
		hold()
		return
	}
	inSpace(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0o644); err != nil {
			t.Error(err) // so that nothing but the adapter has an address
		}
		c := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		c.Env = append(os.Environ(), "PLATFORM_HOLD=1")
		out, err := c.StdoutPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Wait()
		defer c.Process.Kill()
		line, _ := bufio.NewReader(out).ReadString('\n')
		if line != "holding\n" {
			t.Errorf("the other process said %q", line)
			return
		}
		checkRoutes(t, zone, netip.PrefixFrom(peer, 128))
		if addrs := ip(t, "-6", "-o", "addr"); !strings.Contains(addrs, ula.String()) {
			t.Errorf("addresses while it runs:\n%s", addrs)
		}
		c.Process.Kill()
		c.Wait()
		links := ip(t, "-o", "link")
		if strings.Contains(links, "pt0") || strings.Count(links, "\n") != 1 {
			t.Errorf("links after it was killed:\n%s", links)
		}
		if all := ip(t, "-6", "route", "show", "table", "all") + ip(t, "-6", "-o", "addr"); all != "" {
			t.Errorf("routes and addresses after it was killed:\n%s", all)
		}
	})
}

// hold sets up an adapter and waits to be killed, for at most a minute.
func hold() {
	files, err := newTun("pt0")
	if err == nil {
		_, err = Keep("pt0", settings(), Options{Log: slog.New(slog.DiscardHandler)})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("holding")
	<-time.After(time.Minute)
	files[0].Close()
}

func TestTakesSource(t *testing.T) {
	inSpace(t, func() {
		if adapter(t) == nil {
			return
		}
		check := func(want bool, when string) {
			if got, err := TakesSource(ula); got != want || err != nil {
				t.Errorf("%s: %v, %v; want %v", when, got, err, want)
			}
		}
		check(false, "without a default route")
		ip(t, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
		ip(t, "link", "set", "lan1", "up")
		ip(t, "link", "set", "lan0", "up")
		ip(t, "-6", "route", "add", "default", "via", "fe80::1", "dev", "lan0")
		check(true, "with only a link-local address on the way")
		ip(t, "-6", "addr", "add", "2001:db8::5/64", "dev", "lan0", "nodad")
		check(false, "with a global address on the way")
	})
}

func TestWatch(t *testing.T) {
	inSpace(t, func() {
		ns, err := netns.Get()
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		ctx, cancel := context.WithCancel(t.Context())
		changed, ended := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			if err := netns.Set(ns); err != nil {
				t.Error(err)
			}
			ended <- Watch(ctx, func() { tell(changed) })
		}()
		// Changes go on until the first is told, for Watch may not have begun.
		deadline := time.After(20 * time.Second)
		for i, told := 0, false; !told; i++ {
			ip(t, "link", "add", fmt.Sprint("w", i), "type", "veth", "peer", "name", fmt.Sprint("x", i))
			select {
			case <-changed:
				told = true
			case <-deadline:
				t.Error("no change was told")
				told = true
			case <-time.After(300 * time.Millisecond):
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestBootTime(t *testing.T) {
	a := BootTime()
	if b := BootTime(); a <= 0 || b < a {
		t.Errorf("%v, then %v", a, b)
	}
}
