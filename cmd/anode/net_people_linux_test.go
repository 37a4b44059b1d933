package main_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
)

// without is how guests run of which no adapter is wanted: there may be many.
var without = append([]string{"--tun", "none"}, debugging...)

// issued is what "invite list" says of an invitation.
func (h *host) issued(id string) (v control.Invitation) {
	h.t.Helper()
	var list control.Invitations
	h.decode(h.anode("invite", "list", "--json"), &list)
	for _, x := range list.Invitations {
		if x.ID == id {
			return x
		}
	}
	h.t.Errorf("%s does not list the invitation %s", h.name, id)
	return v
}

// stateOf is the state of another host here; empty: a stranger's.
func (h *host) stateOf(other *host) string {
	h.t.Helper()
	var list struct {
		Peers []struct{ Address, Relation string }
	}
	h.decode(h.anode("peers", "list", "--json"), &list)
	for _, p := range list.Peers {
		if p.Address == other.address.String() {
			return p.Relation
		}
	}
	return ""
}

// atOnce runs a function for each host beside each other.
func atOnce(hosts []*host, f func(i int, h *host)) {
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() { f(i, h) })
	}
	all.Wait()
}

// crowdWith makes hosts on one link with a first one, whose daemons run without adapters.
func crowdWith(t *testing.T, first *host, n int) (guests []*host) {
	t.Helper()
	for i := range n {
		guests = append(guests, newHost(t, fmt.Sprintf("g%d", i)))
	}
	join(1, append([]*host{first}, guests...)...)
	for _, g := range guests {
		g.launch(without...)
	}
	for _, g := range guests {
		g.ready()
	}
	return guests
}

// TestNetPeopleOneUse: twenty guests come at once with a link for one. One is let in, and nineteen are
// told that the link was used: the first eight of them in so many words.
func TestNetPeopleOneUse(t *testing.T) {
	t.Parallel()
	issuer := newHost(t, "a")
	guests := crowdWith(t, issuer, 20)
	issuer.up(without...)
	v := issuer.invites("--uses", "1")
	outs, codes := make([]string, len(guests)), make([]int, len(guests))
	start := time.Now()
	atOnce(guests, func(i int, g *host) { outs[i], codes[i] = g.tryAnode("join", v.Link, "--as", "a", "--timeout", "55s") })
	t.Logf("all know after %v", time.Since(start))
	in, used, exactly := 0, 0, 0
	for i, g := range guests {
		switch state := issuer.stateOf(g); {
		case codes[i] == 0 && state == "friend":
			in++
		case codes[i] == 1 && strings.Contains(outs[i], "the link was used") && state != "friend" && state != "approved":
			used++
			if strings.Contains(outs[i], "used by somebody else") {
				exactly++
			}
		default:
			t.Errorf("%s: exit code %d, %q at the issuer: %s", g.name, codes[i], state, outs[i])
		}
	}
	list := issuer.issued(v.ID)
	t.Logf("%d in, %d told, %d of them that it was somebody else; %d late ones are shown", in, used, exactly, len(list.Late))
	if in != 1 || exactly < 8 || len(list.Guests) != 1 || list.Uses != 0 || len(list.Late) == 0 {
		t.Errorf("%d let in; %+v", in, list)
	}
}

// TestNetPeopleKilled: the issuer is killed while guests come. Uses and peers agree after each start, and
// all guests get in, without another command.
func TestNetPeopleKilled(t *testing.T) {
	t.Parallel()
	rounds := 4
	if long() {
		rounds = 20
	}
	issuer := newHost(t, "a")
	guests := crowdWith(t, issuer, 3)
	issuer.up(without...)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	var worst time.Duration
	for round := range rounds {
		v := issuer.invites("--uses", "3")
		var codes [3]int
		var outs [3]string
		done := make(chan struct{})
		go func() {
			defer close(done)
			atOnce(guests, func(i int, g *host) { outs[i], codes[i] = g.tryAnode("join", v.Link, "--timeout", "50s") })
		}()
		pause := time.Duration(r.IntN(300)) * time.Millisecond
		time.Sleep(pause)
		issuer.down(syscall.SIGKILL)
		time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
		issuer.up(without...)
		back := time.Now()
		checkUses(t, issuer, v.ID, guests)
		<-done
		took := time.Since(back)
		worst = max(worst, took)
		for i, g := range guests {
			if codes[i] != 0 || issuer.stateOf(g) != "friend" {
				t.Errorf("round %d, killed after %v: %s: exit code %d, %q: %s", round, pause, g.name, codes[i], issuer.stateOf(g), outs[i])
			}
		}
		checkUses(t, issuer, v.ID, guests)
		if got := issuer.issued(v.ID); got.Uses != 0 {
			t.Errorf("round %d: %d uses are left", round, got.Uses)
		}
		for i, g := range guests { // they are strangers again
			issuer.anode("peers", "remove", g.address.String())
			g.anode("peers", "remove", issuer.address.String())
			if s := issuer.stateOf(g); s == "friend" || s == "approved" {
				t.Errorf("guest %d is %s after it was removed", i, s)
			}
		}
	}
	t.Logf("%d rounds; after the start, all were in within %v", rounds, worst)
	if worst > 20*time.Second {
		t.Errorf("after the issuer's start, the last guest was in after %v", worst)
	}
}

// checkUses compares what an invitation has spent with who was let in.
func checkUses(t *testing.T, issuer *host, id string, guests []*host) {
	t.Helper()
	v, in := issuer.issued(id), 0
	for _, g := range guests {
		if s := issuer.stateOf(g); s == "friend" || s == "approved" {
			in++
		}
	}
	// A guest may come between the two looks, so the second comes again.
	if now := issuer.issued(id); v.Of-v.Uses > in || now.Of-now.Uses < in || len(v.Guests) != v.Of-v.Uses {
		t.Errorf("%d to %d uses are spent, %d guests listed, and %d let in", v.Of-v.Uses, now.Of-now.Uses, len(v.Guests), in)
	}
}

// TestNetPeopleLocalUser: what another local user sees of a link and its token.
func TestNetPeopleLocalUser(t *testing.T) {
	t.Parallel()
	a, b := newHost(t, "a"), newHost(t, "b")
	join(1, a, b)
	secret := filepath.Join(a.dir, "secret")
	a.run(a.bin, "config", "secret", secret)
	a.up(append(without, "--set", "secret=file:"+secret)...)
	b.up(without...)
	for _, h := range []*host{a, b} {
		if err := os.Chmod(h.dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	v := a.invites("b")
	file := filepath.Join(b.dir, "link")
	if err := os.WriteFile(file, []byte(v.Link+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	payload := v.Link[strings.Index(v.Link, "/")+1:]
	b.anode("join", "file:"+file, "--as", "a")
	b.tryAnode("join", "--as", "x", v.Link[:len(v.Link)-6]) // a broken one
	network, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*host{a, b} {
		within(t, dialWait, "the network's secret to be kept", func() bool {
			_, err := os.Stat(filepath.Join(b.state(), "secret"))
			return err == nil
		})
		filepath.Walk(h.state(), func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().Perm()&0o077 != 0 && info.Mode()&os.ModeType == 0 {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
			return nil
		})
		log := strings.ToLower(h.node.output())
		for _, text := range []string{payload[:24], payload[len(payload)-24:], strings.TrimSpace(string(network))} {
			if strings.Contains(log, strings.ToLower(text)) {
				t.Errorf("the log of %s has %q", h.name, text)
			}
		}
		h.denied("read "+h.name+"'s state", func() error { _, err := os.ReadDir(h.state()); return err })
		h.denied("ask "+h.name+" for invitations", func() error { _, err := net.Dial("unix", h.socket()); return err })
	}
}
