package main_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// invitation is what "invite --json" says.
type invitation struct {
	Link      string
	ID        string
	Reachable string
}

// invites issues an invitation.
func (h *host) invites(args ...string) (v invitation) {
	h.t.Helper()
	h.decode(h.anode(append([]string{"invite", "--json"}, args...)...), &v)
	return v
}

// reachable waits until a guest from elsewhere can come by an invitation, and issues one.
func (h *host) reachable(how string, args ...string) (v invitation) {
	h.t.Helper()
	within(h.t, 30*time.Second, h.name+"'s invitation to be reachable by "+how, func() bool {
		v = h.invites(args...)
		if v.Reachable == how {
			return true
		}
		h.anode("invite", "revoke", v.ID)
		time.Sleep(200 * time.Millisecond)
		return false
	})
	return v
}

// fresh starts the daemon of a machine that was never used.
func (h *host) fresh(flags ...string) {
	h.t.Helper()
	h.up(flags...)
	h.identify()
}

// joins uses a link, and gives the time until a ping by name is answered.
func (h *host) joins(link, name string, args ...string) time.Duration {
	h.t.Helper()
	start := time.Now()
	h.anode(append([]string{"join", link, "--as", name}, args...)...)
	within(h.t, 10*time.Second, "a ping by name", func() bool {
		_, code := h.tryAnode("ping", "-c1", "-W1", name+".anode.internal")
		return code == 0
	})
	return time.Since(start)
}

// TestNetInvite: two machines that were never used meet by one line that is pasted.
func TestNetInvite(t *testing.T) {
	const limit = 10 * time.Second
	for _, c := range []struct {
		name, a, b, reachable string
		want                  way
	}{
		{"mapped by PCP", "pcp", "home", "direct", direct},
		{"mapped by UPnP", "upnp", "random", "direct", direct},
		{"public", "router", "random", "direct", direct},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t)
			l.a, l.b = newMachine(t, "a"), newMachine(t, "b")
			l.put(l.a, behind(c.a), 1, nil)
			l.put(l.b, behind(c.b), 2, nil)
			l.rules()
			l.a.fresh(debugging...)
			l.b.fresh(debugging...)
			link := l.a.reachable(c.reachable, "b").Link
			took := l.b.joins(link, "a")
			if took > limit {
				t.Errorf("the first ping came after %v", took)
			}
			if got := l.way(l.b, l.a); got != c.want {
				t.Errorf("the path is %s", got)
			}
			l.a.meets(l.b)
			t.Logf("from the link to the first ping by name: %v", took)
		})
	}
}

// TestNetInviteRelay: both are behind symmetric NATs, and the issuer's zone has a relay. It goes on
// after both start again.
func TestNetInviteRelay(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	r := newMachine(t, "r")
	l.a, l.b = newMachine(t, "a"), newMachine(t, "b")
	l.put(l.a, behind("random"), 1, nil)
	l.put(l.b, behind("random"), 2, nil)
	l.put(r, centre, firstRelay, nil)
	l.rules()
	r.joinZone("--relay", "--set", "log.level=debug")
	within(t, dialWait, "the zone file to be served", func() bool { return r.zoneFile().Served == zoneIP+":80" })
	l.a.joinZone("--set", "log.level=debug")
	l.b.fresh(debugging...)
	link := l.a.reachable("relay", "b").Link
	took := l.b.joins(link, "a")
	t.Logf("from the link to the first ping by name: %v", took)
	if took > 10*time.Second {
		t.Errorf("the first ping came after %v", took)
	}
	if got := l.way(l.b, l.a); got != relay {
		t.Errorf("the path is %s", got)
	}
	l.a.meets(l.b)
	for _, h := range []*host{l.a, l.b} {
		h.down(syscall.SIGKILL)
	}
	l.a.joinZone()
	l.b.up(debugging...)
	l.b.meets(l.a)
}

// TestNetInviteSecret: a network with a secret takes a guest in, who is given the secret, and keeps it.
func TestNetInviteSecret(t *testing.T) {
	t.Parallel()
	a, b, c := newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "c")
	join(1, a, b, c)
	secret := filepath.Join(a.dir, "secret")
	a.run(a.bin, "config", "secret", secret)
	a.fresh(append(debugging, "--set", "secret=file:"+secret)...)
	b.fresh(debugging...)
	c.fresh(debugging...)
	t.Logf("from the link to the first ping by name: %v", b.joins(a.invites("b").Link, "a"))
	a.meets(b)
	b.down(syscall.SIGKILL)
	b.up(debugging...)
	b.meets(a)
	// Whoever has no link gets no answer.
	c.add(a)
	if c.pings(a) {
		t.Error("a stranger without the secret gets an answer")
	}
}

// TestNetInviteWords: links that let nobody in say why, and nothing is lost.
func TestNetInviteWords(t *testing.T) {
	t.Parallel()
	a, b, c := newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "c")
	join(1, a, b, c)
	for _, h := range []*host{a, b, c} {
		h.fresh(debugging...)
	}
	link := a.invites("b").Link
	for _, x := range []struct {
		name, link, want string
		by               *host
		code             int
	}{
		{"own", link, "your own", a, 2},
		{"cut off", link[:len(link)-5], "cut off", b, 2},
		{"a character changed", mistype(link), "wrong", b, 2},
	} {
		if out, code := x.by.tryAnode("join", x.link); code != x.code || !strings.Contains(out, x.want) {
			t.Errorf("%s: %d: %s", x.name, code, out)
		}
	}
	broken := link[:40] + "\n  " + link[40:100] + "\r\n" + link[100:] + " \n"
	b.joins(broken, "a")
	if out, _ := c.tryAnode("join", link, "--as", "a", "--timeout", "5s"); !strings.Contains(out, "used") {
		t.Errorf("a link that was used: %s", out)
	}
	if out := a.anode("invite", "list"); !strings.Contains(out, "used") {
		t.Errorf("the issuer is not told that somebody else came: %s", out)
	}
	short := a.invites("c", "--for", "2s").Link
	time.Sleep(2100 * time.Millisecond)
	if out, code := c.tryAnode("join", short, "--as", "a"); code == 0 || !strings.Contains(out, "expired") {
		t.Errorf("an expired link: %d: %s", code, out)
	}
	gone := a.invites("c")
	a.anode("invite", "revoke", gone.ID)
	if out, _ := c.tryAnode("join", gone.Link, "--as", "a", "--timeout", "5s"); !strings.Contains(out, "revoked") {
		t.Errorf("a link that was revoked: %s", out)
	}
}

// mistype changes a character of a link's payload.
func mistype(link string) string {
	i := len(link) - 20
	c := byte('a')
	if link[i] == c {
		c = 'b'
	}
	return link[:i] + string(c) + link[i+1:]
}
