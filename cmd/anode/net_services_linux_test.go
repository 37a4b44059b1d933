package main_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNetServices: a friend's programs find the services of a machine by DNS, as it is configured
// now, for as long as it is a friend.
func TestNetServices(t *testing.T) {
	a, b := newHost(t, "a"), newMachine(t, "b")
	join(1, a, b)
	web := "[[services]]\nname = \"web\"\nport = 8080\ntype = \"http\"\ntxt = [\"path=/x\", \"who=\u00fc\"]\n"
	file := a.write("anode.toml", web)
	a.up("--config", file)
	b.fresh()
	b.joins(a.invites("b").Link, "a")
	at := b.names().Server
	becomes := func(name, kind, want string) {
		t.Helper()
		got := ""
		start := time.Now()
		for got = "?"; got != want && time.Since(start) < dialWait; time.Sleep(20 * time.Millisecond) {
			got = b.dig(at, name+".anode.internal", kind)
		}
		if took := time.Since(start); got != want {
			t.Errorf("%s %s: %s, want %s", name, kind, got, want)
		} else if took > time.Second {
			t.Logf("%s %s: right after %v", name, kind, took)
		}
	}
	const srv = "NOERROR SRV 0 0 8080 a.anode.internal."
	step(t, "told", func(t *testing.T) {
		becomes("_http._tcp.web.a", "SRV", srv)
		becomes("web._http._tcp.a", "SRV", srv)
		becomes("_HTTP._tcp.a", "SRV", srv)
		becomes("_http._tcp.web.a", "TXT", `NOERROR TXT "path=/x" "who=\195\188"`)
		becomes("_services._dns-sd._udp", "PTR", "NOERROR PTR _http._tcp.anode.internal.")
		becomes("_http._tcp", "PTR", "NOERROR PTR web._http._tcp.a.anode.internal.")
		becomes("_http._tcp.a", "PTR", "NOERROR PTR web._http._tcp.a.anode.internal.")
		becomes("web.a", "AAAA", "NOERROR AAAA "+a.ula.String())
		becomes("_ssh._tcp.a", "SRV", "NOERROR")
		becomes("_ssh._tcp", "PTR", "NXDOMAIN")
	}, a, b)
	step(t, "a reload", func(t *testing.T) {
		reload := func(text string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			a.node.cmd.Process.Signal(syscall.SIGHUP)
		}
		reload(web + "[[services]]\nport = 22\ntype = \"ssh\"\n[[services]]\nport = 53\ntype = \"domain\"\nproto = \"udp\"\n")
		becomes("_ssh._tcp.a", "SRV", "NOERROR SRV 0 0 22 a.anode.internal.")
		becomes("_ssh._tcp.a", "TXT", `NOERROR TXT ""`)
		becomes("_domain._udp.a", "SRV", "NOERROR SRV 0 0 53 a.anode.internal.")
		reload(strings.Replace(web, "8080", "8081", 1))
		becomes("_http._tcp.web.a", "SRV", strings.Replace(srv, "8080", "8081", 1))
		becomes("_ssh._tcp", "PTR", "NXDOMAIN")
		becomes("_ssh._tcp.a", "SRV", "NOERROR")
		reload("")
		becomes("_http._tcp", "PTR", "NXDOMAIN")
		becomes("_services._dns-sd._udp", "PTR", "NOERROR")
		reload(web)
		becomes("_http._tcp.web.a", "SRV", srv)
	}, a, b)
	b.down(syscall.SIGKILL)
	b.up()
	becomes("_http._tcp.web.a", "SRV", srv) // b remembers
	step(t, "the name that a user gives", func(t *testing.T) {
		b.anode("peers", "rename", "a", "north")
		becomes("_http._tcp.web.a", "SRV", "NXDOMAIN")
		becomes("_http._tcp.web.north", "SRV", "NOERROR SRV 0 0 8080 north.anode.internal.")
		becomes("_http._tcp", "PTR", "NOERROR PTR web._http._tcp.north.anode.internal.")
	}, a, b)
	step(t, "blocked, removed", func(t *testing.T) {
		b.anode("peers", "block", "north")
		becomes("_http._tcp.web.north", "SRV", "NXDOMAIN")
		becomes("_http._tcp", "PTR", "NXDOMAIN")
		b.anode("peers", "unblock", "north")
		t.Logf("friend again after %v", within(t, time.Minute, "friend", func() bool { return strings.Contains(b.anode("peers", "list"), "friend") }))
		becomes("_http._tcp.web.north", "SRV", "NOERROR SRV 0 0 8080 north.anode.internal.")
		a.anode("peers", "remove", "b")
		becomes("_http._tcp", "PTR", "NXDOMAIN")
		becomes("_http._tcp.web.north", "SRV", "NOERROR")
		t.Logf("b, after a removed it:\n%s", b.anode("peers", "list"))
		b.anode("peers", "remove", "north")
		becomes("_http._tcp.web.north", "SRV", "NXDOMAIN")
	}, a, b)
	sound(t, a, b)
}
