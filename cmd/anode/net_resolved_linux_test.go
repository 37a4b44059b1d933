package main_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/platform"
)

// reapplied is within what time names must be right again.
const reapplied = 2 * time.Second

// soon runs a look-up that may come at a bad moment. Libc waits 5 s for an answer that got lost, and a
// program that asks then must not have to.
func (r *resolving) soon(args ...string) (out string, code int) {
	r.t.Helper()
	return r.try(append([]string{"timeout", "0.5"}, args...)...)
}

// resolves reports whether getent(1) finds the name.
func (r *resolving) resolves(name string) bool {
	r.t.Helper()
	out, code := r.soon("getent", "ahostsv6", name)
	return code == 0 && strings.Contains(out, namesNorth.String())
}

// everyWay resolves north in all ways that programs have.
func (r *resolving) everyWay() {
	r.t.Helper()
	name := "north." + namesSuffix
	r.everyLookup(name, namesNorth.String())
	if out, _ := r.try("getent", "hosts", namesNorth.String()); !strings.Contains(out, name) {
		r.t.Errorf("the reverse: %q", out)
	}
}

// everyLookup has programs of many kinds look a name up.
func (r *resolving) everyLookup(name, want string) {
	r.t.Helper()
	cgo, err := cgoProgram()
	if err != nil {
		r.t.Fatal(err)
	}
	for way, args := range map[string][]string{
		"getent hosts":    {"getent", "hosts", name},
		"getent ahosts":   {"getent", "ahosts", name},
		"libnss-resolve":  {"getent", "-s", "hosts:resolve", "ahosts", name}, // which Debian installs beside resolved
		"dig":             {"dig", "+short", "+time=2", "+tries=1", name, "AAAA"},
		"dig at the stub": {"dig", "@127.0.0.53", "+short", "+time=2", "+tries=1", name, "AAAA"},
		"resolvectl":      {"resolvectl", "query", "--legend=no", name},
		"Python":          {"/usr/bin/python3", "-c", "import socket,sys\nfor a in socket.getaddrinfo(sys.argv[1], 80): print(a[4][0])", name},
		"musl":            {r.musl, name},
		"Go":              r.programArgs("go", name),
		"Go with libc":    {cgo, name},
	} {
		if out, code := r.try(args...); code != 0 || !strings.Contains(out, want) {
			r.t.Errorf("%s: exit code %d: %s", way, code, out)
		}
	}
}

// TestNetResolved: every program resolves a peer's name, nobody else is asked for it, and we are
// asked for nothing else, through all that may happen to a resolver.
func TestNetResolved(t *testing.T) { eachDebian(t, resolvedAlways) }

func resolvedAlways(t *testing.T, d debian) {
	r := newResolving(t, d)
	before, etc := r.others(), r.watchEtc()
	n := r.serveNames()
	n.becomes(reapplied, "settings in force", applied)
	step(t, "every way", func(t *testing.T) { r.everyWay() }, r.host)
	step(t, "other names", func(t *testing.T) {
		out, _ := r.try("getent", "ahosts", "www.example.com")
		if !strings.Contains(out, "192.0.2.7") || len(r.elsewhere.about("www.example.com")) == 0 {
			t.Errorf("%q; the LAN's server was asked %v", out, r.elsewhere.list)
		}
		if out, _ := r.try("getent", "ahosts", "nobody."+namesSuffix); strings.TrimSpace(out) != "" {
			t.Errorf("a name that does not exist: %s", out)
		}
		if now := r.others(); now != before {
			t.Errorf("resolved's other settings were\n%s\nand are\n%s", before, now)
		}
	}, r.host)
	step(t, "resolved restarts", func(t *testing.T) {
		for range 3 {
			r.stopResolved()
			n.becomes(reapplied, "a report that resolved is gone", func(x platform.NameReport) bool { return !x.Applied })
			r.launchResolved()
			took := within(t, reapplied, "north after a restart", func() bool { return r.resolves("north." + namesSuffix) })
			t.Logf("resolved restarted: right after %v", took)
			r.run("resolvectl", "dns", "eth1", "10.0.1.2")
		}
	}, r.host)
	step(t, "the bus restarts", func(t *testing.T) {
		r.stopBus()
		r.stopResolved()
		r.startBus()
		r.launchResolved()
		took := within(t, reapplied, "north after a restart of the bus", func() bool { return r.resolves("north." + namesSuffix) })
		t.Logf("the bus restarted: right after %v", took)
		r.run("resolvectl", "dns", "eth1", "10.0.1.2")
	}, r.host)
	if leaked := r.elsewhere.about(namesSuffix); len(leaked) > 0 {
		t.Errorf("the LAN's server was asked %v", leaked)
	}
	step(t, "link down and up", func(t *testing.T) {
		// As long as a link is down, resolved asks others: that cannot be helped.
		r.ip("link set anode0 down") // the daemon sets it up again
		within(t, reapplied, "the adapter to be up", func() bool { return strings.Contains(r.run("ip", "link", "show", "anode0"), ",UP") })
		took := within(t, reapplied, "north", func() bool { return r.resolves("north." + namesSuffix) })
		t.Logf("link down and up: right after %v", took)
	}, r.host)
	asked := len(r.elsewhere.about(namesSuffix))
	step(t, "flush", func(t *testing.T) {
		n.cmd.Process.Signal(syscall.SIGUSR2)
		within(t, dialWait, "the flush", func() bool { return strings.Contains(n.output(), "FLUSHED <nil>") })
	}, r.host)
	step(t, "many times", func(t *testing.T) {
		for range 30 {
			n.cmd.Process.Signal(syscall.SIGUSR1)
			time.Sleep(5 * time.Millisecond) // signals of one kind are merged
		}
		r.everyWay()
	}, r.host)
	step(t, "killed", func(t *testing.T) {
		if leaked := r.elsewhere.about(namesSuffix)[asked:]; len(leaked) > 0 {
			t.Errorf("the LAN's server was asked %v", leaked)
		}
		n.end(syscall.SIGKILL)
		within(t, reapplied, "the settings to be gone", func() bool {
			out, _ := r.try("resolvectl", "status")
			return !strings.Contains(out, namesSuffix)
		})
	}, r.host)
	for _, q := range n.asked() {
		name, _, _ := strings.Cut(strings.ToLower(q), ". ")
		if !strings.HasSuffix(name, namesSuffix) && !strings.HasSuffix(name, namesReverse) {
			t.Errorf("we were asked %s", q)
		}
	}
	if now := r.others(); now != before {
		t.Errorf("resolved's other settings were\n%s\nand are\n%s", before, now)
	}
	etc.untouched(t)
}

// TestNetResolvedStrict: resolvers that demand signatures or encryption, and another VPN that
// wants all names.
func TestNetResolvedStrict(t *testing.T) { eachDebian(t, resolvedStrict) }

func resolvedStrict(t *testing.T, d debian) {
	for _, settings := range [][]string{{"DNSSEC=yes"}, {"DNSOverTLS=yes"}, {"DNSSEC=yes", "DNSOverTLS=yes", "LLMNR=yes", "MulticastDNS=yes"}, {"Cache=no"}} {
		step(t, strings.Join(settings, " "), func(t *testing.T) {
			r := newResolving(t, d, settings...)
			r.serveNames().becomes(reapplied, "settings in force", applied)
			r.everyWay()
			if asked := r.elsewhere.about(namesSuffix); len(asked) > 0 {
				t.Errorf("the LAN's server was asked %v", asked)
			}
		})
	}
	step(t, "another VPN's Domains=~.", func(t *testing.T) {
		r := newResolving(t, d)
		r.run("resolvectl", "domain", "eth1", "~.")
		r.serveNames().becomes(reapplied, "settings in force", applied)
		r.everyWay()
		if out, _ := r.try("getent", "ahosts", "www.example.com"); !strings.Contains(out, "192.0.2.7") {
			t.Errorf("its names: %q", out)
		}
		if asked := r.elsewhere.about(namesSuffix); len(asked) > 0 {
			t.Errorf("the LAN's server was asked %v", asked)
		}
	})
}

// TestNetResolvedLater: a node starts without resolved, without a bus, and both come later.
func TestNetResolvedLater(t *testing.T) { eachDebian(t, resolvedLater) }

func resolvedLater(t *testing.T, d debian) {
	r := newResolving(t, d)
	r.stopResolved()
	r.stopBus()
	n := r.serveNames()
	if x := n.report(); x.Applied || x.Manager != "none" || !strings.Contains(x.Why, "no D-Bus") {
		t.Errorf("without a bus: %+v", x)
	}
	r.startBus()
	n.becomes(reapplied, "a report of the bus", func(x platform.NameReport) bool { return strings.Contains(x.Why, "systemd-resolved does not run") })
	r.launchResolved()
	took := n.becomes(reapplied, "settings in force", applied)
	t.Logf("after resolved's start: %v", took)
	r.everyWay()
	if n.end(syscall.SIGTERM); !strings.Contains(n.output(), "REVERTED <nil>") {
		t.Errorf("it did not revert: %s", n.output())
	}
	if out := r.run("resolvectl", "status"); strings.Contains(out, namesSuffix) {
		t.Errorf("after the end: %s", out)
	}
}

// TestNetResolvedPolkit: the daemon of the package runs as the user anode, which the package's rule
// lets do this and nothing else.
func TestNetResolvedPolkit(t *testing.T) { eachDebian(t, resolvedPolkit) }

func resolvedPolkit(t *testing.T, d debian) {
	r := newResolving(t, d)
	uid := strings.TrimSpace(r.run("sh", "-c", "getent passwd anode | cut -d: -f3"))
	refused := func(when string, n *namesNode) {
		t.Helper()
		if x := n.report(); x.Applied || x.Manager != platform.ManagerResolved || !strings.Contains(x.Why, "does not let") || !strings.Contains(x.Try, "polkit") {
			t.Errorf("%s: %+v", when, x)
		}
	}
	n := r.serveNames(uid)
	refused("without polkit", n)
	r.startPolkit()
	n.cmd.Process.Signal(syscall.SIGUSR1)
	time.Sleep(300 * time.Millisecond)
	refused("without the rule", n)
	n.end(syscall.SIGKILL)

	r.allowAnode()
	var m *namesNode
	within(t, 3*dialWait, "polkit to read the rule", func() bool { // it notices new files a moment later
		if m != nil {
			m.end(syscall.SIGKILL)
		}
		m = r.serveNames(uid)
		return m.report().Applied
	})
	r.everyWay()
	if m.end(syscall.SIGTERM); !strings.Contains(m.output(), "REVERTED <nil>") {
		t.Errorf("the rule does not let the daemon revert: %s", m.output())
	}
	// The rule is for that user alone.
	other := r.serveNames("65534")
	refused("another user", other)
	if asked := other.asked(); slices.ContainsFunc(asked, func(q string) bool { return strings.Contains(q, "north") }) {
		t.Errorf("another user's server was asked %v", asked)
	}
}
