package main_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// diagnosis is what doctor --json prints.
type diagnosis struct {
	Schema   int
	Findings []struct{ Check, Verdict, Says, Try, Code string }
	exit     int
}

// has reports whether there is a finding, as in "bad adapter_down".
func (d diagnosis) has(finding string) bool {
	return slices.Contains(d.list(), finding)
}

func (d diagnosis) list() (list []string) {
	for _, f := range d.Findings {
		list = append(list, f.Verdict+" "+f.Code)
	}
	return list
}

// ill lists what is not fine.
func (d diagnosis) ill() []string {
	return slices.DeleteFunc(d.list(), func(s string) bool { return strings.HasPrefix(s, "fine ") })
}

// doctor runs doctor with the words before it, such as those of unshare(1).
func (h *host) doctor(before []string, flags ...string) (d diagnosis) {
	h.t.Helper()
	args := append(slices.Clone(before), h.bin, "doctor", "--json", "--state", h.state(), "--socket", h.socket())
	out, exit := h.try(append(args, flags...)...)
	if err := json.Unmarshal([]byte(out), &d); err != nil || d.Schema != 1 || len(d.Findings) == 0 {
		h.t.Fatalf("doctor on %s: %v: exit code %d, %s", h.name, err, exit, out)
	}
	d.exit = exit
	return d
}

// finds runs doctor, which must have the finding and an exit code.
func (h *host) finds(finding string, exit int, flags ...string) {
	h.t.Helper()
	h.diagnosed(h.doctor(nil, flags...), finding, exit)
}

func (h *host) diagnosed(d diagnosis, finding string, exit int) {
	h.t.Helper()
	if !d.has(finding) || d.exit != exit {
		h.t.Errorf("%s: exit code %d, want %d; want %q in %+v", h.name, d.exit, exit, finding, d.Findings)
	}
}

// TestNetDoctorAlone: without a daemon, doctor says why there is none, or that one could
// start, and makes nothing.
func TestNetDoctorAlone(t *testing.T) {
	a, b := newMachine(t, "a"), newMachine(t, "b")
	join(1, a, b)
	a.sysctl("ipv6/conf/default/disable_ipv6=1") // the adapter has it all the same
	d := a.doctor(nil)
	if d.exit != 3 || !slices.Equal(d.ill(), []string{"warn no_daemon"}) {
		t.Errorf("exit code %d, %+v", d.exit, d.Findings)
	}
	for _, finding := range []string{"fine rights", "fine tun", "fine adapter_name_free", "fine ipv6_adapter_only", "fine port_free", "fine identity_none", "fine state_none"} {
		if !d.has(finding) {
			t.Errorf("no %q in %q", finding, d.list())
		}
	}
	if _, err := os.Stat(a.state()); err == nil {
		t.Error("doctor has made a state directory")
	}

	step(t, "no adapter can be made", func(t *testing.T) {
		hidden := []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs none /dev/net && exec "$@"`, "sh"}
		a.diagnosed(a.doctor(hidden), "bad no_tun_device", 1)
		a.diagnosed(a.doctor([]string{"setpriv", "--bounding-set=-net_admin"}), "bad no_net_admin", 1)
		a.finds("fine tun", 3) // as before
		a.ip("link add anode0 type bridge")
		a.finds("bad adapter_name_taken", 1)
		a.ip("link del anode0")
	}, a)
	step(t, "the port is taken", func(t *testing.T) {
		c, err := in(a, func() (net.PacketConn, error) { return net.ListenPacket("udp", ":8737") })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		a.finds("bad port_taken", 1)
	}, a)
	step(t, "the configuration is damaged", func(t *testing.T) {
		file := filepath.Join(a.dir, "anode.toml")
		if err := os.WriteFile(file, []byte("[listen]\nprot = 1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.finds("bad config_invalid", 1, "--config", file)
		pipe := filepath.Join(a.dir, "pipe")
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		a.finds("bad config_invalid", 1, "--config", pipe) // and it does not hang
	}, a)
	step(t, "the state is damaged", func(t *testing.T) {
		a.identify()
		a.add(newHost(t, "c"))
		identity := filepath.Join(a.state(), "identity")
		if err := os.Chmod(identity, 0o644); err != nil {
			t.Fatal(err)
		}
		a.finds("bad identity_bad", 1)
		if err := os.Remove(identity); err != nil {
			t.Fatal(err)
		}
		a.finds("bad identity_lost", 1)
		if err := os.Truncate(filepath.Join(a.state(), "state.db"), 5000); err != nil {
			t.Fatal(err)
		}
		a.finds("bad state_damaged", 1)
	}, a)
	step(t, "something else is in the socket's place", func(t *testing.T) {
		if err := os.WriteFile(a.socket(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		a.finds("bad socket_not_socket", 1)
	}, a)
}

// TestNetDoctorWell: of two machines that are well, doctor finds nothing, although IPv6 is
// switched off for new interfaces; and it says so of what people switched on.
func TestNetDoctorWell(t *testing.T) {
	a, b := pair(t)
	a.sysctl("ipv6/conf/default/disable_ipv6=1")
	a.up("--set", "names.enabled=false") // no system is here whose programs could find names
	b.up("--set", "names.enabled=false", "--open")
	a.meets(b)
	if d := a.doctor(nil); d.exit != 0 || len(d.ill()) > 0 || !d.has("fine firewall_own_packets") || !d.has("fine port") || !d.has("fine routes") {
		t.Errorf("exit code %d, %+v", d.exit, d.Findings)
	}
	if d := b.doctor(nil); d.exit != 0 || !slices.Equal(d.ill(), []string{"warn open"}) {
		t.Errorf("exit code %d, %+v", d.exit, d.Findings)
	}
	out, code := a.tryAnode("why", "b")
	if code != 0 || !strings.Contains(out, "b ("+b.id.String()+") can be reached.") {
		t.Errorf("exit code %d, %s", code, out)
	}
	if out, code := a.tryAnode("why", "nobody"); code != 4 {
		t.Errorf("exit code %d, %s", code, out)
	}

	b.node.cmd.Process.Signal(syscall.SIGSTOP)
	b.finds("bad daemon_silent", 1)
	b.node.cmd.Process.Signal(syscall.SIGCONT)
	b.finds("fine daemon", 0)
	b.down(syscall.SIGKILL)
	d := b.doctor(nil)
	b.diagnosed(d, "fine socket_stale", 3)
	b.diagnosed(d, "warn no_daemon", 3)
}

// TestNetDoctorSystem: what the system can do to a daemon that runs.
func TestNetDoctorSystem(t *testing.T) {
	a, b := upPair(t)
	// The daemon may mend it before doctor looks; then it is broken again.
	broken := func(finding string, breakIt func()) {
		a.t.Helper()
		within(a.t, 20*time.Second, finding, func() bool {
			breakIt()
			return a.doctor(nil).has(finding)
		})
	}
	step(t, "adapter", func(*testing.T) {
		broken("bad adapter_down", func() { a.ip("link set anode0 down") })
	}, a, b)
	a.down(syscall.SIGTERM)
	a.up()
	step(t, "IPv6", func(*testing.T) {
		broken("bad ipv6_off_adapter", func() { a.sysctl("ipv6/conf/anode0/disable_ipv6=1") })
	}, a, b)
	a.down(syscall.SIGTERM)
	a.up()
	a.meets(b)
	step(t, "own address", func(t *testing.T) {
		a.sysctl("ipv6/conf/lo/disable_ipv6=1")
		a.finds("warn ipv6_off_loopback", 0)
		a.meets(b) // as it says
		if out, code := a.try("ping", "-6", "-c1", "-W0.2", a.ula.String()); code == 0 {
			t.Errorf("a reaches itself: %s", out)
		}
		a.sysctl("ipv6/conf/lo/disable_ipv6=0")
	}, a, b)
	step(t, "routes", func(t *testing.T) {
		lan := b.ula.String()[:strings.LastIndex(b.ula.String(), ":")] + ":0/112 dev eth1"
		a.ip("-6 route add "+lan,
			"-6 rule add to "+b.ula.String()+" lookup 77 pref 100", "-6 route add "+b.ula.String()+" dev eth1 table 77")
		d := a.doctor(nil)
		a.diagnosed(d, "bad route_stolen", 1)
		a.diagnosed(d, "warn lan_covers", 1)
		out, code := a.tryAnode("why", "b", "--json")
		if code != 5 || !strings.Contains(out, `"code": "route_stolen"`) || !strings.Contains(out, `"interface": "eth1"`) {
			t.Errorf("exit code %d, %s", code, out)
		}
		a.ip("-6 rule del to "+b.ula.String()+" lookup 77 pref 100", "-6 route del "+lan)
	}, a, b)
	step(t, "source", func(*testing.T) {
		a.ip("-6 route add default via fe80::1 dev eth1")
		a.finds("warn source_taken", 0)
		a.ip("-6 route del default via fe80::1 dev eth1")
	}, a, b)
}

// TestNetDoctorFirewall: packets that a firewall drops, here and there.
func TestNetDoctorFirewall(t *testing.T) {
	a, b := upPair(t)
	if _, err := os.Stat("/usr/sbin/nft"); err != nil {
		need(t, "nft")
	}
	for _, c := range []struct {
		name, rule, finding string
		exit                int
	}{
		{"the port", "udp dport 8737 drop", "bad firewall_rule_drops", 1},
		{"the port by one interface", `iifname "eth1" udp dport 8737 drop`, "warn firewall_rule_drops_some", 0},
		{"another port", "udp dport 53 drop", "fine firewall_own_packets", 0},
		{"what this machine sends itself", `iifname "lo" udp dport 8737 drop`, "bad firewall_drops", 1},
	} {
		step(t, c.name, func(*testing.T) {
			a.run("nft", "add table inet filter; add chain inet filter input { type filter hook input priority 0; }; add rule inet filter input "+c.rule)
			a.finds(c.finding, c.exit)
			a.run("nft", "delete table inet filter")
		}, a, b)
	}
	step(t, "by policy", func(*testing.T) {
		a.run("nft", `add table inet filter; add chain inet filter input { type filter hook input priority 0; policy drop; }; add rule inet filter input iif lo accept; add rule inet filter input ct state established,related accept`)
		a.finds("warn firewall_port_not_allowed", 0)
		a.run("nft", "delete table inet filter")
	}, a, b)
	step(t, "on the other machine", func(t *testing.T) {
		b.run("nft", "add table inet filter; add chain inet filter input { type filter hook input priority 0; }; add rule inet filter input udp dport 8737 drop")
		a.down(syscall.SIGTERM)
		a.up()
		out, code := a.tryAnode("why", "b")
		if code != 5 || strings.Contains(out, "can be reached") {
			t.Errorf("exit code %d, %s", code, out)
		}
		t.Log(out)
		var d diagnosis
		within(t, 20*time.Second, "a finding about b", func() bool {
			a.tryAnode("ping", "b", "-c1", "-W1")
			d = a.doctor(nil)
			return slices.ContainsFunc(d.Findings, func(f struct{ Check, Verdict, Says, Try, Code string }) bool {
				return f.Check == "peer b" && f.Verdict != "fine"
			})
		})
		t.Logf("%+v", d.Findings[len(d.Findings)-1])
	}, a, b)
}

// TestNetDoctorPeers: a peer that has not added this machine is told from one that is well.
func TestNetDoctorPeers(t *testing.T) {
	a, b := upPair(t)
	b.anode("peers", "remove", "a")
	within(t, 20*time.Second, "a to hear that b has removed it", func() bool {
		a.tryAnode("ping", "b", "-c1", "-W1")
		return a.doctor(nil).has("bad not_added_there")
	})
	out, code := a.tryAnode("why", "b")
	if code != 5 || !strings.Contains(out, "has not added this machine") || !strings.Contains(out, "anode peers add") {
		t.Errorf("exit code %d, %s", code, out)
	}
}
