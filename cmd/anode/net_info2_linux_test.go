package main_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anodenet/cmd/internal/control"
)

// What the verbs of Info2 print as JSON.
type (
	talkStatus = control.Info2Status
	talkLog    struct{ Messages []control.Entry }
)

// talks gives what a host has heard and said.
func (h *host) talks() (l talkLog) {
	h.t.Helper()
	h.decode(h.anode("info2", "log", "--json", "-n", "2000"), &l)
	return l
}

// heard counts a text in what a host has heard and said.
func (h *host) heard(text string) (n int) {
	h.t.Helper()
	for _, m := range h.talks().Messages {
		if m.Text == text {
			n++
		}
	}
	return n
}

// linked lists the hosts that a host is linked with on a network.
func (h *host) linked(network string) (list []string) {
	h.t.Helper()
	var s talkStatus
	h.decode(h.anode("info2", "status", "--json"), &s)
	for _, n := range s.Networks {
		for _, l := range n.Links {
			if n.Network == network && l.State == "open" {
				list = append(list, l.Name)
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// trio is three hosts on a LAN that have all added each other.
func trio(t *testing.T, flags ...string) (all [3]*host) {
	t.Helper()
	for i, name := range []string{"north", "south", "east"} {
		all[i] = newHost(t, name)
	}
	join(1, all[:]...)
	for _, h := range all {
		for _, other := range all {
			if h != other {
				h.add(other)
			}
		}
		h.up(flags...)
	}
	for _, h := range all {
		within(t, dialWait, h.name+" to be linked with both", func() bool { return len(h.linked("adapter")) == 2 })
	}
	return all
}

// TestNetInfo2: what one says, all hear, once; a peer that is removed hears no more.
func TestNetInfo2(t *testing.T) {
	all := trio(t)
	north, south, east := all[0], all[1], all[2]
	if got := strings.Join(north.linked("adapter"), ","); got != "east,south" {
		t.Errorf("north is linked with %s", got)
	}
	for _, h := range all {
		h.anode("say", "hello from", h.name, "\x1b[2J")
	}
	for _, h := range all {
		for _, by := range all {
			text := "hello from " + by.name + " ␛[2J"
			within(t, dialWait, h.name+" to hear "+by.name, func() bool { return h.heard(text) > 0 })
		}
	}
	north.anode("say", "the last")
	for _, h := range all {
		within(t, dialWait, h.name+" to hear the last", func() bool { return h.heard("the last") > 0 })
		l := h.talks()
		if len(l.Messages) != len(all)+1 {
			t.Errorf("%s has %d texts: %+v", h.name, len(l.Messages), l.Messages)
		}
		for _, m := range l.Messages {
			own := strings.HasPrefix(m.Text, "hello from "+h.name) || h == north && m.Text == "the last"
			if m.Own != own || !own && m.Name == "" || m.Network != control.NetworkAdapter {
				t.Errorf("%s has %+v", h.name, m)
			}
		}
	}

	for _, h := range all[:2] { // but not east
		h.anode("peers", "remove", "east")
	}
	within(t, dialWait, "east to be alone", func() bool { return len(east.linked("adapter")) == 0 })
	east.tryAnode("say", "anybody?") // an error if it knows already that nobody is there
	north.anode("say", "between us")
	within(t, dialWait, "south to hear north", func() bool { return south.heard("between us") > 0 })
	if east.heard("between us")+north.heard("anybody?")+south.heard("anybody?") > 0 {
		t.Error("east still takes part")
	}

	// The history is there after a restart, and so are the links.
	north.anode("down")
	north.node = nil
	north.up()
	if north.heard("the last") != 1 {
		t.Error("the history is lost")
	}
	within(t, dialWait, "north to be linked again", func() bool { return len(north.linked("adapter")) == 1 })
	south.anode("say", "welcome back")
	within(t, dialWait, "north to hear it", func() bool { return north.heard("welcome back") > 0 })
}

// TestNetInfo2Bare: a stranger with netcat joins the bare network and no other, and a
// program runs for what comes.
func TestNetInfo2Bare(t *testing.T) {
	if _, err := exec.LookPath("nc"); err != nil {
		need(t, "nc")
	}
	all := trio(t, "--info2-bare")
	north, south, east := all[0], all[1], all[2]
	script := filepath.Join(east.dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$ANODE_NAME: $(cat)\" >> "+script+".out\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	follower := east.start(east.bin, "info2", "log", "-f", "-n", "0", "--exec", script, "--socket", east.socket())

	nc := south.start("sh", "-c", `printf 'INFO2 CONNECT/0.6\n\n' | nc 10.0.1.1 26000`)
	within(t, dialWait, "OK", func() bool { return strings.HasPrefix(nc.output(), "INFO2 OK\n\n") })
	within(t, dialWait, "the stranger's link", func() bool { return len(north.linked("bare")) == 1 })
	north.anode("say", "--network", "bare", "hello stranger")
	within(t, dialWait, "the stranger to hear", func() bool {
		return strings.Contains(nc.output(), "SEND ") && strings.HasSuffix(nc.output(), " hello stranger\n\n")
	})

	c, err := in(south, func() (net.Conn, error) { return net.Dial("tcp4", "10.0.1.1:26000") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "INFO2 CONNECT/0.6\n\n")
	within(t, dialWait, "the second link", func() bool {
		var s talkStatus
		north.decode(north.anode("info2", "status", "--json"), &s)
		return len(s.Networks[1].Links) == 2
	})
	fmt.Fprint(c, "SEND 123456 hello peers\n\n")
	within(t, dialWait, "north to hear the stranger", func() bool { return north.heard("hello peers") > 0 })
	for _, m := range north.talks().Messages {
		if m.Network != control.NetworkBare || !m.Own && m.From != netip.MustParseAddr("10.0.1.2") {
			t.Errorf("%+v", m)
		}
	}

	// The adapter is another network: none of this is heard there.
	south.anode("say", "among peers")
	within(t, dialWait, "east to hear south", func() bool { return east.heard("among peers") > 0 })
	if n := len(east.talks().Messages); n != 1 {
		t.Errorf("east has %d texts", n)
	}
	within(t, dialWait, "the program to run", func() bool {
		b, err := os.ReadFile(script + ".out")
		return err == nil && strings.HasSuffix(string(b), ": among peers\n")
	})
	if !strings.Contains(follower.output(), "\tadapter\t") || !strings.Contains(follower.output(), "\tamong peers\n") {
		t.Errorf("got %q", follower.output())
	}
	if strings.Contains(nc.output(), "among peers") {
		t.Error("what was said on the adapter became clear text")
	}
}

// TestNetInfo2Bridge: with a bridge, and only then, texts go from one to the other.
func TestNetInfo2Bridge(t *testing.T) {
	north, south := pair(t)
	north.up("--info2-bare", "--set", "info2.bridge=true")
	south.up()
	within(t, dialWait, "the link", func() bool { return len(north.linked("adapter")) == 1 })
	c, err := in(south, func() (net.Conn, error) { return net.Dial("tcp4", "10.0.1.1:26000") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "INFO2 CONNECT/0.6\n\n")
	within(t, dialWait, "the stranger's link", func() bool { return len(north.linked("bare")) == 1 })
	fmt.Fprint(c, "SEND 123456 across\n\n")
	within(t, dialWait, "south to hear the stranger", func() bool { return south.heard("across") > 0 })
	if n := north.heard("across"); n != 1 {
		t.Errorf("north has it %d times", n)
	}
}

// TestNetInfo2PortTaken: another program on the port costs the chat, and nothing else.
func TestNetInfo2PortTaken(t *testing.T) {
	a, b := pair(t)
	l, err := in(a, func() (net.Listener, error) { return net.Listen("tcp6", "[::]:26000") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a.up()
	b.up()
	a.meets(b)
	if out := a.anode("info2", "status"); !strings.Contains(out, "in use by another program") {
		t.Errorf("got %q", out)
	}
	if out, code := a.tryAnode("say", "x"); code != 1 || !strings.Contains(out, "does not run") {
		t.Errorf("%d, %q", code, out)
	}
}

// TestNetInfo2Later: two that could not reach each other for a while are linked as soon
// as one of them has something to say.
func TestNetInfo2Later(t *testing.T) {
	a, b, wall := newHost(t, "a"), newHost(t, "b"), newMachine(t, "wall")
	join(1, a, wall)
	join(2, wall, b)
	a.add(b)
	b.add(a)
	a.up()
	b.up()
	// The dials have failed, and pause, when a way comes that no cable tells of.
	within(t, 2*dialWait, "the dials to fail", func() bool {
		return !strings.Contains(a.anode("info2", "friends"), "\t0\t-") && !strings.Contains(b.anode("info2", "friends"), "\t0\t-")
	})
	wall.ip("addr flush dev eth1", "addr flush dev eth2", "link add br0 type bridge", "link set br0 up",
		"link set eth1 master br0", "link set eth2 master br0")
	within(t, dialWait, "a to have a path to b", func() bool {
		a.tryAnode("ping", "-c", "1", "-W", "0.5", "b")
		return a.peer(b).State == "up"
	})
	a.anode("say", "finally")
	within(t, dialWait, "b to hear it", func() bool { return b.heard("finally") == 1 })
}
