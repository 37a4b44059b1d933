package main_test

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"anodenet/platform"
)

// TestNetAdapterKept: what other programs do to the adapter does not last, and the log has
// a line about it.
func TestNetAdapterKept(t *testing.T) {
	a, b := upPair(t)
	for _, c := range []struct {
		name  string
		lines []string // for ip(8), or a sysctl
	}{
		{"down and up", []string{"link set anode0 down", "link set anode0 up"}},
		{"down", []string{"link set anode0 down"}},
		{"addresses flushed", []string{"-6 addr flush dev anode0"}},
		{"routes flushed", []string{"-6 route flush dev anode0"}},
		{"IPv6 off", []string{"ipv6/conf/all/disable_ipv6=1"}},
		{"IPv6 on", []string{"ipv6/conf/all/disable_ipv6=0"}},
		{"small MTU", []string{"link set anode0 mtu 1000"}},
		{"small MTU and back", []string{"link set anode0 mtu 1000", "link set anode0 mtu 1440"}},
		{"large MTU", []string{"link set anode0 mtu 9000"}},
		{"link-local addresses", []string{"link set anode0 addrgenmode random"}},
		{"renamed", []string{"link set anode0 name other"}},
	} {
		step(t, c.name, func(t *testing.T) {
			for _, line := range c.lines {
				if strings.Contains(line, "=") {
					a.sysctl(line)
				} else {
					a.ip(line)
				}
			}
			name := "anode0"
			if c.name == "renamed" {
				name = "other"
			}
			took := within(t, dialWait, "the adapter to be as it was", func() bool {
				out := a.run("ip", "addr", "show", "dev", name) + a.run("ip", "-d", "link", "show", "dev", name)
				return strings.Contains(out, "mtu 1440") && strings.Contains(out, ",UP") && strings.Contains(out, a.ula.String()+"/128") &&
					strings.Contains(out, "addrgenmode none") && strings.Count(out, "inet6 ") == 1 && !strings.Contains(out, "tentative")
			})
			a.meets(b)
			b.meets(a)
			t.Logf("back after %v", took)
			within(t, dialWait, "the status to say so", func() bool {
				s := a.status().Tun
				return s.Name == name && len(s.Problems) == 0 && s.Index != 0
			})
		}, a, b)
	}
	if n := strings.Count(a.node.output(), "another program changed the adapter"); n < 8 || n > 30 {
		t.Errorf("%d lines in the log", n)
	}

	// Renamed, it takes peers of other zones as before, and gives them up.
	far := newMachine(t, "far")
	far.run(far.bin, "id", "--state", far.state(), "--zone", "deadbeef")
	far.identify()
	a.add(far)
	within(t, dialWait, "the routes of another zone", func() bool {
		out := a.run("ip", "-6", "route", "show", "dev", "other")
		return strings.Contains(out, "fdde:adbe:ef00::/40") && strings.Contains(out, far.ula.String()+" ")
	})
	a.anode("peers", "block", "far")
	within(t, dialWait, "the routes to go", func() bool { return !strings.Contains(a.run("ip", "-6", "route"), "fdde:adbe") })
	a.anode("peers", "unblock", "far")
	within(t, dialWait, "the routes to come back", func() bool {
		return strings.Count(a.run("ip", "-6", "route", "show", "dev", "other"), "fdde:adbe") == 2
	})
}

// TestNetAdapterGone: an adapter that is taken away ends the daemon, with the reason.
func TestNetAdapterGone(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"link del anode0", "removed"},
		{"link set anode0 netns %d", "another network namespace"},
	} {
		t.Run(c.says, func(t *testing.T) {
			a, elsewhere := newHost(t, "a"), newMachine(t, "elsewhere")
			a.up()
			if strings.Contains(c.line, "%d") {
				c.line = fmt.Sprintf(c.line, elsewhere.tid)
			}
			a.ip(c.line)
			if code := a.node.wait(dialWait); code != 1 {
				t.Errorf("exit code %d", code)
			}
			out := a.node.output()
			if last := out[strings.LastIndex(out, "anode: "):]; !strings.Contains(last, c.says) {
				t.Errorf("it ends with %q", last)
			}
		})
	}
}

// TestNetAdapterKill: a killed daemon leaves nothing, not even in nf_tables.
func TestNetAdapterKill(t *testing.T) {
	a, b := upPair(t)
	if out := a.run("nft", "list", "ruleset"); !strings.Contains(out, b.ula.String()) || !strings.Contains(out, a.ula.String()) {
		t.Errorf("the guard is\n%s", out)
	}
	a.down(syscall.SIGKILL)
	if out := a.run("nft", "list", "ruleset") + a.run("ip", "-6", "rule"); strings.Contains(out, "table ip6") || strings.Contains(out, "proto 97") {
		t.Errorf("left behind:\n%s", out)
	}
	if out := a.run(a.bin, "cleanup"); out != "nothing to remove\n" {
		t.Errorf("cleanup says %q", out)
	}
}

// TestNetAdapterWithoutNftables: the kernel refuses nf_tables. That is told, routes of
// others still lead nothing elsewhere, and what a kill leaves is removed.
func TestNetAdapterWithoutNftables(t *testing.T) {
	if flag.Arg(0) == withoutNftables {
		t.Fatal(execWithoutNftables(flag.Args()[1:])) // as the daemon of the test below
	}
	a, b := pair(t)
	b.up()
	launch := func() {
		a.node = a.start(os.Args[0], "-test.run=^TestNetAdapterWithoutNftables$", "--", withoutNftables,
			a.bin, "daemon", "--state", a.state(), "--socket", a.socket())
		a.ready()
		a.meets(b)
	}
	rules := func() int { return strings.Count(a.run("ip", "-6", "rule"), "proto 97") }
	launch()
	if p := a.problems(); !slices.Equal(p, []string{platform.ProblemGuard}) {
		t.Errorf("problems %v", p)
	}
	if !strings.Contains(a.node.output(), "nf_tables is not available") || rules() != 1 {
		t.Errorf("%d rules", rules())
	}
	a.ip("-6 route replace "+b.ula.String()+"/128 dev eth1 metric 1", "-6 route add "+b.ula.String()+"/128 dev eth1 metric 2")
	b.echoTCP(80)
	for range 5 {
		if err := talk(a, b, 80); err != nil {
			t.Error(err)
		}
	}
	a.ip("-6 rule del pref 97")
	within(t, dialWait, "the rule to be back", func() bool { return rules() == 1 })

	a.down(syscall.SIGTERM)
	if rules() != 0 {
		t.Error("an orderly end leaves a rule")
	}
	launch()
	a.down(syscall.SIGKILL)
	if rules() != 1 {
		t.Errorf("%d rules after a kill", rules())
	}
	a.up() // with nf_tables, as after a new kernel
	if rules() != 0 {
		t.Error("the rule of the killed is still there")
	}
	a.down(syscall.SIGTERM)
	launch()
	if out := a.run(a.bin, "cleanup"); out != "nothing to remove\n" {
		t.Errorf("while it runs, cleanup says %q", out)
	}
	a.down(syscall.SIGKILL)
	if out := a.run(a.bin, "cleanup"); !strings.Contains(out, "removed policy rule") || rules() != 0 {
		t.Errorf("cleanup says %q", out)
	}
	if out := a.run(a.bin, "cleanup"); out != "nothing to remove\n" {
		t.Errorf("cleanup again says %q", out)
	}
}

const withoutNftables = "without-nftables"

// execWithoutNftables becomes another program, to which the kernel gives no socket of
// NETLINK_NETFILTER.
func execWithoutNftables(args []string) error {
	runtime.LockOSThread()
	const (
		number, first, third = 0, 16, 32 // offsets in struct seccomp_data
		equal                = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		load                 = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		refuse               = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
	)
	filter := []unix.SockFilter{
		{Code: load, K: number}, {Code: equal, Jf: 5, K: unix.SYS_SOCKET},
		{Code: load, K: first}, {Code: equal, Jf: 3, K: unix.AF_NETLINK},
		{Code: load, K: third}, {Code: equal, Jf: 1, K: unix.NETLINK_NETFILTER},
		{Code: unix.BPF_RET, K: refuse},
		{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ())
}
