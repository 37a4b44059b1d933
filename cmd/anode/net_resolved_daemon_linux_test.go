package main_test

import (
	"strings"
	"syscall"
	"testing"
)

// TestNetResolvedDaemon: the daemon itself, from its start to its end.
func TestNetResolvedDaemon(t *testing.T) { eachDebian(t, resolvedDaemon) }

func resolvedDaemon(t *testing.T, d debian) {
	r, other := newResolving(t, d), newHost(t, "north")
	before, etc := r.others(), r.watchEtc()
	r.identify()
	r.add(other)
	r.up()
	ready := func(name string, want string) func() bool {
		return func() bool {
			out, _ := r.soon("getent", "ahostsv6", name+"."+namesSuffix)
			return strings.Contains(out, want)
		}
	}
	took := within(t, reapplied, "north", ready("north", other.ula.String()))
	t.Logf("names after %v", took)
	within(t, reapplied, "self", ready("self", r.ula.String()))
	if d := r.doctor(nil); !d.has("fine names") {
		t.Errorf("doctor: %v", d.list())
	}
	step(t, "renamed", func(t *testing.T) {
		r.anode("peers", "rename", "north", "south")
		within(t, reapplied, "the new name", ready("south", other.ula.String()))
		within(t, reapplied, "the end of the old one", func() bool { return !ready("north", other.ula.String())() })
	}, r.host)
	step(t, "resolved restarts", func(t *testing.T) {
		r.stopResolved()
		r.launchResolved()
		within(t, reapplied, "south", ready("south", other.ula.String()))
		r.run("resolvectl", "dns", "eth1", "10.0.1.2")
	}, r.host)
	step(t, "link down", func(t *testing.T) {
		r.ip("link set anode0 down")
		within(t, reapplied, "south", ready("south", other.ula.String()))
	}, r.host)
	if now := r.others(); now != before {
		t.Errorf("resolved's other settings were\n%s\nand are\n%s", before, now)
	}
	etc.untouched(t)
	step(t, "programs do not ask resolved", func(t *testing.T) {
		r.run("sh", "-c", "rm /etc/resolv.conf; echo nameserver 10.0.1.2 >/etc/resolv.conf")
		d := r.doctor(nil)
		r.run("ln", "-sfn", "../run/systemd/resolve/stub-resolv.conf", "/etc/resolv.conf")
		if !d.has("bad names_other") && !d.has("warn names_resolv_conf") { // the LAN's server answers everything
			t.Errorf("doctor: %v", d.list())
		}
	}, r.host)
	etc = r.watchEtc()
	r.anode("dns")
	r.down(syscall.SIGTERM)
	etc.untouched(t)
}
