package main_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNetReload changes the configuration of a daemon that runs: its peers, and what else
// needs no restart. a has added b; b has only a configuration.
func TestNetReload(t *testing.T) {
	const moment = 700 * time.Millisecond // to show that nothing comes
	a, b := newHost(t, "a"), newHost(t, "b")
	join(1, a, b)
	a.add(b)
	config := b.dir + "/anode.toml"
	reload := func(t *testing.T, text, says string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		hangup(t, b, says)
	}
	peer := func(name string) string {
		return "[[peers]]\naddress = \"" + a.address.String() + "\"\nname = \"" + name + "\"\n"
	}
	if err := os.WriteFile(config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.up()
	b.up("--config", config)
	b.echoTCP(7)
	let := func(t *testing.T) {
		t.Helper()
		deadline := time.Now().Add(dialWait)
		for {
			errno, took := a.refusal(b, 7, dialWait)
			if errno == 0 {
				return
			}
			if errno != syscall.EACCES || time.Now().After(deadline) { // a has not heard yet that it is let in
				t.Errorf("a is a peer, and gets %v after %v", errno, took)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	shut := func(t *testing.T) {
		t.Helper()
		if errno, took := a.refusal(b, 7, moment); errno == 0 {
			t.Errorf("a is no peer, and was let in after %v", took)
		}
	}
	step(t, "nobody", shut, a, b)
	step(t, "added", func(t *testing.T) {
		reload(t, peer("a"), "peer added")
		let(t)
	}, a, b)
	step(t, "nothing", func(t *testing.T) { reload(t, peer("a"), "nothing changed") }, a, b)
	step(t, "renamed", func(t *testing.T) {
		reload(t, peer("alpha"), "peer renamed")
		if got := strings.TrimSpace(b.anode("ip", "alpha")); got != a.ula.String() {
			t.Errorf("alpha is %s, want %s", got, a.ula)
		}
		let(t)
	}, a, b)
	step(t, "broken", func(t *testing.T) {
		reload(t, "[[peers]]\naddress = 1\n[tun]\nmtu = 1\n", "not reloaded")
		let(t)
	}, a, b)
	step(t, "restart", func(t *testing.T) {
		reload(t, peer("alpha")+"[tun]\nmtu = 1400\n", "key=tun.mtu running=1440 configured=1400")
		let(t)
	}, a, b)
	step(t, "texts", func(t *testing.T) {
		reload(t, peer("alpha")+"[info2]\nenabled = false\n", "key=info2.enabled old=true new=false")
		if out, code := b.tryAnode("say", "hello"); code == 0 {
			t.Errorf("info2 is off, and said: %s", out)
		}
		reload(t, peer("alpha"), "key=info2.enabled old=false new=true")
		within(t, dialWait, "b's text at a", func() bool {
			b.tryAnode("say", "hello again")
			return strings.Contains(a.anode("info2", "log"), "hello again")
		})
	}, a, b)
	step(t, "removed", func(t *testing.T) {
		reload(t, "", "peer removed")
		shut(t)
	}, a, b)
	if code := b.down(syscall.SIGTERM); code != 0 {
		t.Errorf("b ended with %d", code)
	}
}
