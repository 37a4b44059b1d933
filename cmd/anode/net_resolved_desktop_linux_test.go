package main_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"anodenet/platform"
)

// agent is what asks a person for a password on a desktop: a polkit authentication agent. It notes what it was to ask for, and says that the person has closed the window.
type agent struct {
	bus *dbus.Conn

	mu    sync.Mutex
	asked []string // actions
}

// dialogue is what polkitd calls.
type dialogue struct{ a *agent }

// BeginAuthentication is of the interface org.freedesktop.PolicyKit1.AuthenticationAgent.
func (d dialogue) BeginAuthentication(action, _, _ string, _ map[string]string, _ string, _ []polkitSubject) *dbus.Error {
	d.a.mu.Lock()
	defer d.a.mu.Unlock()
	d.a.asked = append(d.a.asked, action)
	return &dbus.Error{Name: "org.freedesktop.PolicyKit1.Error.Cancelled"}
}

// CancelAuthentication is of it too.
func (dialogue) CancelAuthentication(string) *dbus.Error { return nil }

// polkitSubject is (sa{sv}), as identities are.
type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// questions returns the actions that a person was to be asked for.
func (a *agent) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

// newAgent connects to the machine's bus.
func (r *resolving) newAgent() *agent {
	r.t.Helper()
	c, err := in(r.host, func() (net.Conn, error) { return net.Dial("unix", "/run/dbus/system_bus_socket") })
	if err != nil {
		r.t.Fatal(err)
	}
	bus, err := dbus.NewConn(c)
	if err != nil {
		r.t.Fatal(err)
	}
	r.test.Cleanup(func() { bus.Close() })
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal("0")}); err != nil {
		r.t.Fatal(err)
	}
	if err := bus.Hello(); err != nil {
		r.t.Fatal(err)
	}
	a := &agent{bus: bus}
	if err := bus.Export(dialogue{a}, agentPath, "org.freedesktop.PolicyKit1.AuthenticationAgent"); err != nil {
		r.t.Fatal(err)
	}
	return a
}

const agentPath = "/anode/test/agent"

// watches registers the agent for a process, as pkttyagent --process does.
func (a *agent) watches(t *testing.T, p *process, uid int) {
	t.Helper()
	pid := p.cmd.Process.Pid
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	started, err := strconv.ParseUint(strings.Fields(rest)[22-3], 10, 64) // proc_pid_stat(5): starttime is field 22, state is 3
	if err != nil {
		t.Fatal(err)
	}
	subject := polkitSubject{"unix-process", map[string]dbus.Variant{
		"pid": dbus.MakeVariant(uint32(pid)), "start-time": dbus.MakeVariant(started), "uid": dbus.MakeVariant(int32(uid))}}
	ctx, cancel := context.WithTimeout(t.Context(), dialWait)
	defer cancel()
	err = a.bus.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority").CallWithContext(ctx,
		"org.freedesktop.PolicyKit1.Authority.RegisterAuthenticationAgent", 0, subject, "C", agentPath).Err
	if err != nil {
		t.Fatal(err)
	}
}

// startPolkit starts Debian's polkitd.
func (r *resolving) startPolkit() {
	r.t.Helper()
	r.start("/usr/lib/polkit-1/polkitd", "--no-debug")
	within(r.t, dialWait, "polkit", func() bool {
		_, code := r.try("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.PolicyKit1", "/", "org.freedesktop.DBus.Peer.Ping")
		return code == 0
	})
}

// allowAnode installs the package's rule.
func (r *resolving) allowAnode() {
	r.t.Helper()
	rule, err := os.ReadFile("../../scripts/packaging/polkit.rules")
	if err != nil {
		r.t.Fatal(err)
	}
	r.run("sh", "-euc", `printf %s "$1" >/etc/polkit-1/rules.d/50-anode.rules; chmod -R a+rX /etc/polkit-1/rules.d`, "sh", string(rule))
}

// underUnit runs a program as the package's unit does: as the user anode, with the unit's capabilities and no
// new ones. An agent that is given watches the process.
func (r *resolving) underUnit(a *agent, uid int, args ...string) *process {
	r.t.Helper()
	const caps = "net_admin,+net_raw,+net_bind_service"
	ready := filepath.Join(r.dir, "ready")
	r.run("rm", "-f", ready)
	p := r.start(append([]string{"setpriv", "--reuid=anode", "--regid=anode", "--clear-groups", "--no-new-privs",
		"--inh-caps=-all,+" + caps, "--ambient-caps=-all,+" + caps, "--bounding-set=-all,+" + caps,
		"sh", "-c", `while [ ! -e "$0" ]; do sleep 0.02; done; exec "$@"`, ready}, args...)...)
	// The process stays the same as it becomes other programs.
	within(r.t, dialWait, "the user anode", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		return err == nil && strings.Contains(string(b), fmt.Sprintf("Uid:\t%d\t", uid))
	})
	if a != nil {
		a.watches(r.t, p, uid)
	}
	r.run("touch", ready)
	return p
}

// TestNetResolvedDesktop: the daemon itself as the package's unit runs it, on a desktop where an agent stands
// ready to ask for a password. With the package's rule the names work, without it the daemon is refused, and
// in neither case is anybody asked.
//
// A desktop's agent is registered for a session, to which a service does not belong. This one is registered
// for the daemon's very process, which goes further. Resolved before 256 does not bear that without the rule:
// it lets people be asked for whoever calls, whether or not the caller allows it; so there the agent comes
// after the rule. There is no logind and no service manager: the unit's user and capabilities are real, its
// sandbox is not.
func TestNetResolvedDesktop(t *testing.T) { eachDebian(t, resolvedDesktop) }

func resolvedDesktop(t *testing.T, d debian) {
	r := newResolving(t, d)
	uid, err := strconv.Atoi(strings.TrimSpace(r.run("sh", "-c", "getent passwd anode | cut -d: -f3")))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "anode") // that others may run, too
	r.run("cp", r.bin, file)
	r.bin = file
	r.run("chown", "anode:", r.dir)
	r.run("sh", "-euc", `mknod -m 666 "$0" c 10 200; mount --bind "$0" /dev/net/tun`, filepath.Join(r.dir, "tun")) // as udev makes it
	r.startPolkit()
	a, asks := r.newAgent(), d.suite == "bookworm"
	const resolve1, resolve1Path, ethernet, llmnr = "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "2", "org.freedesktop.resolve1.set-llmnr"
	// dbus-send never lets people be asked; busctl does.
	setEthernet := func(args ...string) (string, int) {
		p := r.underUnit(a, uid, args...)
		code := p.wait(dialWait)
		return p.output(), code
	}
	const manager = "org.freedesktop.resolve1.Manager"
	asking := []string{"busctl", "call", resolve1, resolve1Path, manager, "SetLinkLLMNR", "is", ethernet, "no"}
	silent := []string{"dbus-send", "--system", "--print-reply", "--dest=" + resolve1, resolve1Path, manager + ".SetLinkLLMNR", "int32:" + ethernet, "string:no"}
	var known []string
	step(t, "a program that lets people be asked", func(t *testing.T) { // so the agent works
		out, code := setEthernet(asking...)
		if known = a.questions(); code == 0 || len(known) == 0 || known[0] != llmnr {
			t.Fatalf("%d %s; asked for %v", code, out, known)
		}
		if asks {
			return
		}
		if out, code := setEthernet(silent...); code == 0 || len(a.questions()) != len(known) {
			t.Fatalf("%d %s; asked for %v", code, out, a.questions())
		}
	}, r.host)
	known = a.questions()
	r.node = r.underUnit(nil, uid, r.bin, "daemon", "--state", r.state(), "--socket", r.socket())
	r.ready()
	own, _, err := net.SplitHostPort(r.names().Server)
	if err != nil {
		t.Fatal(err)
	}
	told := func() (v struct {
		Resolver platform.NameReport
	}) {
		r.decode(r.anode("dns", "--json"), &v)
		return v
	}
	if !asks {
		a.watches(t, r.node, uid)
	}
	step(t, "without the rule", func(t *testing.T) {
		for range 2 {
			within(t, dialWait, "a refusal", func() bool { return strings.Contains(told().Resolver.Why, "does not let") })
			r.stopResolved() // the daemon asks again
			within(t, dialWait, "resolved to be gone", func() bool { return !strings.Contains(told().Resolver.Why, "does not let") })
			r.startResolved()
		}
		within(t, dialWait, "a refusal", func() bool { return strings.Contains(told().Resolver.Why, "does not let") })
		x := told().Resolver
		if t.Logf("%+v", x); x.Applied || !strings.Contains(x.Try, "polkit") {
			t.Errorf("%+v", x)
		}
	}, r.host)
	step(t, "with the rule", func(t *testing.T) {
		r.allowAnode()
		within(t, 3*dialWait, "the settings", func() bool { // polkit notices new files a moment later
			if told().Resolver.Applied {
				return true
			}
			r.stopResolved()
			r.startResolved()
			time.Sleep(100 * time.Millisecond)
			return told().Resolver.Applied
		})
		if out, _ := r.try("getent", "hosts", "self."+namesSuffix); !strings.Contains(out, own) {
			t.Errorf("self: %q", out)
		}
		if asks {
			a.watches(t, r.node, uid)
		}
		r.stopResolved()
		within(t, dialWait, "resolved to be gone", func() bool { return !told().Resolver.Applied })
		r.startResolved()
		within(t, dialWait, "the settings again", func() bool { return told().Resolver.Applied })
		// Systemd says from 256 on which link it is about, and the rule is for ours.
		if out, code := setEthernet(silent...); (code == 0) != asks {
			t.Errorf("the rule for eth1: %d %s", code, out)
		}
	}, r.host)
	if asked := a.questions()[len(known):]; len(asked) > 0 {
		t.Errorf("people were asked for %v", asked)
	}
}
