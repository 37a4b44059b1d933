package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/overlay"
)

// reasonIs waits until the status gives a reason for another host.
func (h *host) reasonIs(other *host, want overlay.Reason) {
	h.t.Helper()
	var got overlay.PeerStatus
	within(h.t, 10*time.Second, fmt.Sprintf("%s to give the reason %q for %s", h.name, want, other.name), func() bool {
		got = h.peer(other)
		return got.Reason == want
	})
}

// curls asks for a page of another host and returns curl's exit code: 0, 7 if the
// connection was refused at once, 28 if it hung until the time-out.
func (h *host) curls(other *host) int {
	h.t.Helper()
	_, code := h.try("curl", "-sS", "-o", "/dev/null", "--max-time", "20", "http://"+other.at(80)+"/")
	return code
}

// TestNetReasonNotAdded: a has added b, and b adds and removes a, while ordinary programs
// run on both.
func TestNetReasonNotAdded(t *testing.T) {
	for _, tool := range []string{"curl", "ping"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
	a, b := newHost(t, "a"), newHost(t, "b")
	join(1, a, b)
	a.add(b)
	a.up()
	b.up()
	serve := func(h *host) {
		listener := h.listen(80)
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a page") }))
	}
	serve(a)
	serve(b)
	a.echoUDP(7)
	refuses := func(t *testing.T, when string) {
		t.Helper()
		a.reasonIs(b, overlay.ReasonNotAddedThere)
		b.reasonIs(a, overlay.ReasonNotAddedHere)
		if code := a.curls(b); code != 7 {
			t.Errorf("%s: curl ends with %d, want 7", when, code)
		}
		if errno, _ := a.refusal(b, 22, dialWait); errno != syscall.EACCES {
			t.Errorf("%s: a connection: %v, want %v", when, errno, syscall.EACCES)
		}
		c := a.dialUDP(b, 9)
		c.Write([]byte("hello?"))
		c.SetReadDeadline(time.Now().Add(dialWait))
		if _, err := c.Read(make([]byte, 10)); !strings.Contains(fmt.Sprint(err), syscall.EACCES.Error()) {
			t.Errorf("%s: UDP: %v, want %v", when, err, syscall.EACCES)
		}
		if !a.pings(b) {
			t.Errorf("%s: a ping gets no answer", when)
		}
		if out := a.run("ping", "-6", "-n", "-c1", "-s1300", b.ula.String()); !strings.Contains(out, " 1 received") {
			t.Errorf("%s: %s", when, out)
		}
		// What b begins gets its replies.
		if code := b.curls(a); code != 0 {
			t.Errorf("%s: curl on b ends with %d", when, code)
		}
		if err := exchange(b.dialUDP(a, 7), random(1, 1000)); err != nil {
			t.Errorf("%s: UDP from b: %v", when, err)
		}
	}
	lets := func(t *testing.T, when string) {
		t.Helper()
		a.reasonIs(b, overlay.NoReason)
		b.reasonIs(a, overlay.NoReason)
		if code := a.curls(b); code != 0 {
			t.Errorf("%s: curl ends with %d", when, code)
		}
		if code := b.curls(a); code != 0 {
			t.Errorf("%s: curl on b ends with %d", when, code)
		}
	}
	step(t, "the first connection", func(t *testing.T) {
		if code := a.curls(b); code != 7 {
			t.Errorf("curl ends with %d, want 7", code)
		}
	}, a, b)
	step(t, "not added", func(t *testing.T) {
		a.meets(b)
		refuses(t, "not added")
	}, a, b)
	step(t, "added", func(t *testing.T) {
		b.add(a)
		lets(t, "added")
	}, a, b)
	step(t, "removed", func(t *testing.T) {
		b.anode("peers", "remove", "a")
		a.meets(b)
		refuses(t, "removed")
	}, a, b)
	step(t, "added again", func(t *testing.T) {
		b.add(a)
		lets(t, "added again")
	}, a, b)
	step(t, "blocked", func(t *testing.T) {
		b.anode("peers", "block", "a")
		b.reasonIs(a, overlay.ReasonBlocked)
		if a.pings(b) {
			t.Error("it is answered")
		}
		b.anode("peers", "unblock", "a")
		a.meets(b)
		lets(t, "unblocked")
	}, a, b)
	step(t, "restarted", func(t *testing.T) {
		b.anode("peers", "remove", "a")
		b.down(syscall.SIGKILL)
		b.up()
		a.meets(b)
		refuses(t, "restarted")
	}, a, b)
}

// TestNetReasonSecret: two secrets, or one and none, are named on both sides.
func TestNetReasonSecret(t *testing.T) {
	for _, both := range []bool{true, false} {
		t.Run(fmt.Sprint("both have one: ", both), func(t *testing.T) {
			a, b := pair(t)
			flags := func(h *host) []string {
				h.run(h.bin, "config", "secret", h.dir+"/secret")
				return []string{"--set", "secret=file:" + h.dir + "/secret"}
			}
			a.up(flags(a)...)
			if both {
				b.up(flags(b)...)
			} else {
				b.up()
			}
			if out, code := a.tryAnode("ping", "b", "-c1"); code != 5 || !strings.Contains(out, "secret") {
				t.Errorf("anode ping: exit code %d, %s", code, out)
			}
			a.reasonIs(b, overlay.ReasonOtherSecret)
			b.reasonIs(a, overlay.ReasonOtherSecret)
			if s := a.status(); !s.Secret || b.status().Secret != both || s.Open || !s.Relay {
				t.Errorf("secret %v, open %v, relay %v", s.Secret, s.Open, s.Relay)
			}
		})
	}
}

// TestNetReasonSilence: what keeps packets from b, by the words and codes that a has for it.
// Beacons are dropped, so that what a knows is the endpoint that it was given. Neither takes
// connections, which would lead to b in another way.
func TestNetReasonSilence(t *testing.T) {
	out := func(rule string) string {
		return "table inet f { chain out { type filter hook output priority 0; " + rule + "; } }"
	}
	in := func(rule string) string {
		return "table inet f { chain in { type filter hook input priority 0; " + rule + "; } }"
	}
	for _, c := range []struct {
		name     string
		endpoint string
		a, b     string // rulesets
		down     bool   // b's daemon does not run
		want     overlay.Reason
		words    string
	}{
		{"b drops UDP", "10.0.1.2", "", in("udp dport 8737 drop"), false, overlay.ReasonNoAnswer, "it does not answer (udp:10.0.1.2:8737)"},
		{"b does not run", "10.0.1.2", "", "", true, overlay.ReasonNotRunning, "anode is not running there"},
		{"b rejects", "10.0.1.2", "", in("udp dport 8737 reject with icmpx admin-prohibited"), false, overlay.ReasonRejected, "rejects"},
		{"nobody has the address", "10.0.1.77", "", "", true, overlay.ReasonNoMachine, "no machine answers"},
		{"a does not let UDP out", "10.0.1.2", out("udp dport 8737 drop"), "", false, overlay.ReasonSendRefused, "refuses to send"},
		{"no route", "192.0.2.7", "", "", true, overlay.ReasonNoRoute, "no route"},
		{"no endpoint", "", "", "", true, overlay.ReasonNoEndpoint, "nobody knows where it is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newHost(t, "a"), newHost(t, "b")
			join(1, a, b)
			for _, h := range []*host{a, b} {
				h.sysctl("ipv6/conf/eth1/disable_ipv6=1")
			}
			add := []string{a.bin, "peers", "add", b.address.String(), "b", "--state", a.state()}
			if c.endpoint != "" {
				add = append(add, "--endpoint", "udp:"+c.endpoint+":8737")
			}
			a.run(add...)
			b.add(a)
			if c.a != "" {
				a.nft(c.a)
			}
			if c.b != "" {
				b.nft(c.b)
			}
			const unconnected = "listen.tcp="
			a.up("--set", unconnected)
			if !c.down {
				b.up("--set", unconnected)
			}
			text, code := a.tryAnode("ping", "b", "-c1", "-W10")
			if code != 5 || !strings.Contains(text, c.words) {
				t.Errorf("exit code %d, %s; want %q", code, text, c.words)
			}
			a.reasonIs(b, c.want)
			if p := a.peer(b); c.endpoint != "" && p.ReasonAt != "udp:"+c.endpoint+":8737" {
				t.Errorf("the reason is about %q", p.ReasonAt)
			}
			if c.endpoint != "10.0.1.2" {
				return
			}
			for h, rules := range map[*host]string{a: c.a, b: c.b} {
				if rules != "" {
					h.nft("")
				}
			}
			if c.down {
				b.up("--set", unconnected)
			}
			a.meets(b)
			a.reasonIs(b, overlay.NoReason)
		})
	}
}
