package platform

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestKeep: an interface is set up, with all that is wanted.
func TestKeep(t *testing.T) {
	inSpace(t, func() {
		write(t, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1") // as on hosts that have switched IPv6 off
		k := adapter(t)
		if k == nil {
			return
		}
		checkKept(t)
		checkRoutes(t, zone, netip.PrefixFrom(peer, 128))
		if out := ip(t, "-6", "route", "show", peer.String()); !strings.Contains(out, "metric 1 ") || !strings.Contains(out, "pref high") {
			t.Errorf("the peer's route: %s", out)
		}
		if s := k.State(); s.Name != "pt0" || s.Index == 0 || len(s.Problems) != 0 {
			t.Errorf("%+v", s)
		}
		if _, err := Keep("pt1", settings(), Options{Log: slog.New(slog.DiscardHandler)}); err == nil || !errors.Is(err, ErrConfigure) || !strings.Contains(err.Error(), "pt1") {
			t.Errorf("an interface that is not there: %v", err)
		}
	})
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Error(err)
	}
}

// checkKept compares pt0 with what settings wants, except its name.
func checkKept(t *testing.T) {
	t.Helper()
	for _, missing := range unkept(t, "pt0") {
		t.Error(missing)
	}
}

// unkept lists what is not as settings wants it.
func unkept(t *testing.T, name string) (list []string) {
	link := ip(t, "-d", "link", "show", name)
	for _, want := range []string{"mtu 1440", "qlen 300", "gso_max_size 61000", "addrgenmode none", ",UP", "group 1634627428"} {
		if !strings.Contains(link, want) {
			list = append(list, "no "+want+" in: "+link)
		}
	}
	addrs := ip(t, "-6", "addr", "show", "dev", name)
	if strings.Count(addrs, "inet6") != 1 || !strings.Contains(addrs, ula.String()+"/128") ||
		!strings.Contains(addrs, "nodad") || strings.Contains(addrs, "tentative") {
		list = append(list, "addresses: "+addrs)
	}
	routes := ip(t, "-6", "route", "show", "table", "main", "dev", name)
	if !strings.Contains(routes, zone.String()) || !strings.Contains(routes, peer.String()+" ") {
		list = append(list, "routes: "+routes)
	}
	return list
}

// kept is an adapter that is being kept.
type kept struct {
	*Keeper
	log   *lines
	ended chan error
}

// lines counts the warnings of a log.
type lines struct {
	slog.Handler
	warnings atomic.Int32
}

func (l *lines) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		l.warnings.Add(1)
	}
	return l.Handler.Handle(ctx, r)
}

// keep makes an adapter and keeps it while f runs. It is called in a namespace.
func keep(t *testing.T, f func(k *kept)) {
	t.Helper()
	keepWith(t, settings(), f)
}

// keepWith is keep with other settings.
func keepWith(t *testing.T, s Settings, f func(k *kept)) {
	t.Helper()
	k := adapterWith(t, s)
	ns, err := netns.Get()
	if k == nil || err != nil {
		t.Error(err)
		return
	}
	defer ns.Close()
	log := &lines{Handler: k.log.Handler()}
	k.log = slog.New(log)
	ctx, cancel := context.WithCancel(t.Context())
	run := &kept{k, log, make(chan error, 1)}
	go func() {
		runtime.LockOSThread() // for good: /proc/sys is that of the thread's namespace
		if err := netns.Set(ns); err != nil {
			t.Error(err)
		}
		run.ended <- k.Run(ctx)
	}()
	f(run)
	cancel()
	if err := <-run.ended; err != nil {
		t.Errorf("the end: %v", err)
	}
}

// until waits for f, for at most ten seconds.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited for %s", what)
			return
		}
	}
}

// TestKept does to the adapter what other programs do, and waits until it is as it was.
// Each change is one line in the log.
func TestKept(t *testing.T) {
	for _, change := range []string{
		"ip link set pt0 down",
		"ip link set pt0 mtu 1000",
		"ip link set pt0 mtu 9000",
		"ip link set pt0 txqueuelen 7",
		"ip link set pt0 gso_max_size 30000 txqueuelen 7", // the first alone is not announced
		"ip link set pt0 addrgenmode eui64",
		"ip link set pt0 group 5",
		"ip -6 addr flush dev pt0 primary", // without that word it goes on until nothing is put back
		"ip -6 addr add fe80::77/64 dev pt0",
		"ip -6 route flush dev pt0",
		"ip -6 route del fd12:3456:7890::2 dev pt0",
		"ip -6 route replace fd12:3456:7890::2 dev lo metric 1",
		"ip -6 route del fd12:3456:7800::/40 dev pt0",
		"sysctl -qw net.ipv6.conf.pt0.disable_ipv6=1",
		"sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
	} {
		t.Run(change, func(t *testing.T) {
			inSpace(t, func() {
				ip(t, "link", "set", "lo", "up")
				keep(t, func(k *kept) {
					args := strings.Fields(change)
					if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
						t.Errorf("%v %s", err, out)
					}
					start := time.Now()
					until(t, "a repair", func() bool { return k.log.warnings.Load() > 0 })
					until(t, "all to be back", func() bool { return len(unkept(t, "pt0")) == 0 })
					t.Logf("back after %v", time.Since(start))
					checkKept(t)
					if s := k.State(); len(s.Problems) != 0 {
						t.Errorf("%+v", s)
					}
					again := strings.Contains(change, "route flush") // which removes one by one, and what was put back
					if n := k.log.warnings.Load(); n != 1 && !again {
						t.Errorf("%d lines in the log", n)
					}
				})
			})
		})
	}
}

// TestKeptFight: another program that undoes each repair becomes a problem that people
// can see, and no more than that.
func TestKeptFight(t *testing.T) {
	inSpace(t, func() {
		k := adapter(t)
		if k == nil {
			return
		}
		now := time.Now()
		for i := range 3 * paceFree {
			ip(t, "link", "set", "pt0", "mtu", "9000")
			if again, gone := k.mend(now); again == 0 || gone {
				t.Errorf("round %d: again in %v, gone %v", i, again, gone)
			}
			now = now.Add(time.Second)
		}
		if s := k.State(); len(s.Problems) != 1 || s.Problems[0].Code != ProblemMTU || !strings.Contains(s.Problems[0].Text, "again and again") {
			t.Errorf("%+v", s)
		}
		k.mend(now.Add(time.Hour))
		if s := k.State(); len(s.Problems) != 0 || len(unkept(t, "pt0")) != 0 {
			t.Errorf("after the fight: %+v", s)
		}
	})
}

// TestKeptRenamed: another name is taken over, and the interface is kept under it.
func TestKeptRenamed(t *testing.T) {
	inSpace(t, func() {
		keep(t, func(k *kept) {
			ip(t, "link", "set", "pt0", "name", "other")
			until(t, "the new name", func() bool { return k.State().Name == "other" })
			ip(t, "link", "set", "other", "down")
			until(t, "the renamed to be back", func() bool { return len(unkept(t, "other")) == 0 })
		})
	})
}

// TestKeptWanted: what is wanted changes, and what is no longer wanted goes.
func TestKeptWanted(t *testing.T) {
	inSpace(t, func() {
		keep(t, func(k *kept) {
			many := slices.Collect(func(yield func(netip.Addr) bool) {
				for a := range peersOf(10_000) {
					if !yield(a) {
						return
					}
				}
			})
			for _, peers := range [][]netip.Addr{many, many[:4000], nil, {peer}} {
				k.Want(Wanted{Zones: []netip.Prefix{zone}, Peers: peers})
				until(t, "the routes", func() bool {
					return strings.Count(ip(t, "-6", "route", "show", "dev", "pt0", "proto", "97"), "\n") == len(peers)+1
				})
				until(t, "the guard", func() bool {
					out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
					if err != nil {
						t.Error(err)
					}
					_, set, _ := strings.Cut(string(out), "set peers")
					set, _, _ = strings.Cut(set, "chain")
					return strings.Count(set, "fd12:") == len(peers)
				})
			}
			if n := k.log.warnings.Load(); n != 0 {
				t.Errorf("%d warnings about our own changes", n)
			}
			checkKept(t)
		})
	})
}

// TestKeptUnguarded: peers that the guard did not take are a problem until it takes them.
func TestKeptUnguarded(t *testing.T) {
	inSpace(t, func() {
		keep(t, func(k *kept) {
			conn := k.guard.conn
			swap := func(fd int) (old int) {
				conn.mu.Lock()
				defer conn.mu.Unlock()
				old, conn.fd = conn.fd, fd
				return old
			}
			guarded := func(a netip.Addr) bool {
				out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
				if err != nil {
					t.Error(err)
				}
				return strings.Contains(string(out), a.String())
			}
			problem := func() bool {
				return slices.ContainsFunc(k.State().Problems, func(p Problem) bool {
					return p.Code == ProblemGuard && strings.Contains(p.Text, os.ErrClosed.Error())
				})
			}
			added := netip.MustParseAddr("fd12:3456:7890::77")
			until(t, "the first look", func() bool { return guarded(peer) })
			fd := swap(-1)
			k.Want(Wanted{Zones: []netip.Prefix{zone}, Peers: []netip.Addr{peer, added}})
			until(t, "the problem", problem)
			until(t, "repairs that have to wait", func() bool {
				ip(t, "link", "set", "pt0", "alias", time.Now().String()) // the kernel announces it
				if !problem() {
					t.Error("the problem is gone, and the peer is not guarded")
				}
				return k.log.warnings.Load() > paceBurst+3
			})
			swap(fd)
			until(t, "the guard", func() bool { return guarded(added) })
			until(t, "the end of the problem", func() bool { return !problem() })
		})
	})
}

// TestKeptBlind: announcements that cannot be read any more stay a problem.
func TestKeptBlind(t *testing.T) {
	inSpace(t, func() {
		k := adapter(t)
		if k == nil {
			return
		}
		k.blind = os.ErrClosed
		for range 2 {
			k.mend(time.Now())
			if s := k.State(); len(s.Problems) != 1 || s.Problems[0].Code != ProblemWatch {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestKeptMoved: in another network namespace the interface cannot be kept, and that is
// an error with words.
func TestKeptMoved(t *testing.T) {
	inSpace(t, func() {
		there, err := netns.Get()
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		here, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		keep(t, func(k *kept) {
			out, err := exec.Command("ip", "link", "set", "pt0", "netns", "1").CombinedOutput()
			t.Logf("%v %s", err, out)
			err = <-k.ended
			if err == nil || !strings.Contains(err.Error(), "pt0 was moved to another network namespace") {
				t.Errorf("got %v", err)
			}
			k.ended <- nil
		})
	})
}

// TestPace: a repair that is undone again and again becomes rare, and one that lasts
// makes the next prompt again.
func TestPace(t *testing.T) {
	p := &pace{}
	now := time.Unix(1, 0)
	var waits []time.Duration
	for range 20 {
		waits = append(waits, p.due(now))
		now = now.Add(p.due(now))
		p.mended(now)
	}
	want := []time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond}
	for range 7 {
		want = append(want, time.Second)
	}
	for _, s := range []time.Duration{2, 4, 8, 16, 32, 60, 60, 60, 60} {
		want = append(want, s*time.Second)
	}
	if !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
	now = now.Add(4 * time.Minute)
	if p.mended(now); p.pause() != paceAtOnce {
		t.Errorf("after a repair that lasted: %v", p.pause())
	}
}

// TestPolicy: without nf_tables there is a rule, which is put back, which goes in the
// end, and which a cleanup removes after a kill and not before.
func TestPolicy(t *testing.T) {
	inSpace(t, func() {
		k := adapter(t)
		if k == nil {
			return
		}
		c := k.iface.conn
		p := &policy{c, k.iface.index}
		rules := func() string { return ip(t, "-6", "rule") }
		for range 2 {
			if err := p.add(); err != nil {
				t.Error(err)
			}
		}
		ip(t, "-6", "rule", "add", "pref", "97", "lookup", "77")
		if out := rules(); strings.Count(out, "97:") != 2 || !strings.Contains(out, "proto 97") {
			t.Errorf("rules:\n%s", out)
		}
		if gone, err := p.missing(); gone || err != nil {
			t.Errorf("%v, %v", gone, err)
		}
		if removed, err := Cleanup(); err != nil || len(removed) != 0 {
			t.Errorf("of a running node: %v, %v", removed, err)
		}
		ip(t, "link", "del", "pt0")
		for _, want := range []int{1, 0} {
			if removed, err := Cleanup(); err != nil || len(removed) != want {
				t.Errorf("%v, %v", removed, err)
			}
		}
		if out := rules(); strings.Count(out, "97:") != 1 || strings.Contains(out, "proto 97") {
			t.Errorf("rules:\n%s", out)
		}
		if gone, err := p.missing(); !gone || err != nil {
			t.Errorf("%v, %v", gone, err)
		}
	})
}

// FuzzKernel: whatever the kernel says of links, addresses, routes and rules, reading it
// ends well.
func FuzzKernel(f *testing.F) {
	f.Add(linkMessage(1, 1))
	var e encoder
	w := way{zone, policyTables}
	e.message(24, 0, routeHeader(w.to, w.table), func() { (&iface{index: 3}).routeAttrs(&e, w) })
	e.message(32, 0, ruleHeader(), func() { ruleAttrs(&e, policyTables+3) })
	e.message(20, 0, addrHeader(unix.AF_INET6, 3, 128), func() { e.attr(1, ula.AsSlice()...) })
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		concerns(b, 3, aliases)
		_ = eachMessage(b, func(_ header, body []byte) bool {
			_, _ = parseLink(body)
			if g, _, ok := parseGroup(body); ok && !g.IsMulticast() {
				t.Error("a group that is none")
			}
			if p, _, ok := parseAddr(body); ok && !p.IsValid() {
				t.Error("an address that is none")
			}
			if r, ok := parseRoute(body); ok && !r.to.IsValid() {
				t.Error("a destination that is none")
			}
			if table, ok := parseRule(body); ok && table < policyTables {
				t.Error("a rule that is not ours")
			}
			return true
		})
	})
}

// A TUN device of which another program has a queue is not set up: it would get packets of ours.
func TestKeepOfSharedQueues(t *testing.T) {
	inSpace(t, func() {
		for range 2 {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			r, err := unix.NewIfreq("shared0")
			if err != nil {
				t.Error(err)
				return
			}
			r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
				t.Error(err)
				return
			}
		}
		o := Options{Log: slog.New(slog.DiscardHandler)}
		one := settings()
		one.Queues = 1
		if _, err := Keep("shared0", one, o); err == nil || !strings.Contains(err.Error(), "1 of its queues") {
			t.Errorf("two queues, one of ours: %v", err)
		}
		two := settings()
		two.Queues = 2
		k, err := Keep("shared0", two, o)
		if err != nil {
			t.Errorf("two queues of ours: %v", err)
			return
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
}
