package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// namesFresh is within what time names must be right after a daemon's first start.
const namesFresh = 30 * time.Second

// finds reports whether libc finds a machine under a name.
func (r *resolving) finds(name string, other *host) bool {
	r.t.Helper()
	out, code := r.soon("getent", "hosts", name+"."+namesSuffix)
	return code == 0 && strings.HasPrefix(out, other.ula.String()+" ")
}

// findsSoon waits until it does.
func (r *resolving) findsSoon(when, name string, other *host) {
	r.t.Helper()
	took := within(r.t, reapplied, name+" after "+when, func() bool { return r.finds(name, other) })
	r.t.Logf("%s: right after %v", when, took.Round(time.Millisecond))
}

// servesNames has a machine answer by HTTP, and let root in by SSH. It returns what ssh(1) needs to get
// in under any of the names.
func (h *host) servesNames(dir string, names ...string) (ssh []string) {
	h.t.Helper()
	go http.Serve(h.listen(80), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, "host ", q.Host) }))
	user, known := filepath.Join(dir, "user"), filepath.Join(dir, "known")
	h.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", user)
	_, public := h.sshd(user + ".pub")
	if err := os.WriteFile(known, fmt.Appendf(nil, "%s %s", strings.ToLower(strings.Join(names, ",")), public), 0o600); err != nil {
		h.t.Fatal(err)
	}
	// Debian's configuration, and not that of root's home directory here.
	return []string{"ssh", "-F", "/etc/ssh/ssh_config", "-i", user, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + known,
		"-o", "StrictHostKeyChecking=yes", "-o", "CheckHostIP=no", "-o", "BatchMode=yes", "-o", "ConnectTimeout=9"}
}

// TestNetResolvedFresh: two machines that were never used, of which one joins the other by a link. All
// programs find it by its name, and all else by the servers that they asked before.
func TestNetResolvedFresh(t *testing.T) { eachDebian(t, resolvedFresh) }

func resolvedFresh(t *testing.T, d debian) {
	r, north := newResolving(t, d), newMachine(t, "north")
	join(2, r.host, north)
	r.linkLocalOf("eth2") // until there is an IPv6 address, libc asks for IPv4 alone
	const elsewhere = "www.example.com"
	before, etc, internet := r.others(), r.watchEtc(), r.run("getent", "ahosts", elsewhere)
	north.fresh()
	link := north.invites("guest").Link
	start := time.Now()
	r.fresh()
	r.anode("join", link, "--as", "north")
	// Until resolved was told, it would ask the LAN's server.
	within(t, namesFresh, "resolved to be told", func() bool { return r.names().Resolver.Applied })
	within(t, namesFresh, "north", func() bool { return r.finds("north", north) })
	t.Logf("from the daemon's start to the name: %v", time.Since(start).Round(time.Millisecond))
	all := []string{"north." + namesSuffix, "x.north." + namesSuffix, "NORTH." + namesSuffix, "a.b.north." + namesSuffix}
	ssh := north.servesNames(r.dir, all...)
	for _, name := range all {
		step(t, name, func(t *testing.T) { r.everyProgram(name, north, ssh) }, r.host)
	}
	if out := r.run("getent", "hosts", north.ula.String()); !strings.Contains(out, "north."+namesSuffix) {
		t.Errorf("the reverse: %q", out)
	}
	if now := r.run("getent", "ahosts", elsewhere); now != internet {
		t.Errorf("%s was\n%s\nand is\n%s", elsewhere, internet, now)
	}
	if now := r.others(); now != before {
		t.Errorf("resolved's other settings were\n%s\nand are\n%s", before, now)
	}
	if asked := r.elsewhere.about(namesSuffix); len(asked) > 0 {
		t.Errorf("the LAN's server was asked %v", asked)
	}
	step(t, "by the commands", func(t *testing.T) {
		id := north.id.String()
		for _, name := range []string{"north." + namesSuffix, "north." + namesSuffix + ".", "NORTH.Anode.Internal", "x.north." + namesSuffix, id + ".id." + namesSuffix} {
			for _, args := range [][]string{{"ip"}, {"ping", "-c", "1"}, {"whois"}, {"why"}} {
				if out, code := r.tryAnode(append(args, name)...); code != 0 {
					t.Errorf("%v %s: %d\n%s", args, name, code, out)
				}
			}
		}
		for _, name := range []string{"self", "self." + namesSuffix, "SELF." + namesSuffix + ".", "www.self." + namesSuffix} {
			for _, args := range [][]string{{"ip"}, {"whois"}, {"ping", "-c", "1"}, {"why"}} {
				out, code := r.tryAnode(append(args, name)...)
				t.Logf("%v %s: %d %s", args, name, code, strings.TrimSpace(out))
			}
		}
	}, r.host, north)
	r.down(syscall.SIGTERM)
	etc.untouched(t)
	if out := r.run("resolvectl", "status"); strings.Contains(out, namesSuffix) {
		t.Errorf("after the end: %s", out)
	}
}

// everyProgram has programs of many kinds look a name up, and use it.
func (r *resolving) everyProgram(name string, other *host, ssh []string) {
	r.t.Helper()
	r.everyLookup(name, other.ula.String())
	for _, c := range []struct {
		want string
		args []string
	}{
		{" 0% packet loss", []string{"ping", "-c1", "-W2", name}},
		{"host " + name, []string{"curl", "-sS", "-m5", "http://" + name + "/"}},
		// Both ends of the connection, as the other machine's shell sees them.
		{fmt.Sprintf("in: %s ? %s 22", r.ula, other.ula), append(slices.Clone(ssh), name, `set -- $SSH_CONNECTION; echo "in: $1 ? $3 $4"`)},
	} {
		if out, code := r.try(c.args...); code != 0 || !strings.Contains(strings.ToLower(out), strings.ToLower(c.want)) {
			r.t.Errorf("%q: exit code %d: %s", c.args, code, out)
		}
	}
}

// TestNetResolvedLife: two machines, each with its own resolved, through all that may happen to a
// daemon.
func TestNetResolvedLife(t *testing.T) { eachDebian(t, resolvedLife) }

func resolvedLife(t *testing.T, d debian) {
	r, s := newResolving(t, d), newResolving(t, d)
	join(2, r.host, s.host)
	for _, x := range []*resolving{r, s} {
		x.name = map[*resolving]string{r: "r", s: "s"}[x]
		x.identify()
	}
	before, etc := r.others(), r.watchEtc()
	r.add(s.host)
	s.add(r.host)
	r.up()
	s.up()
	r.findsSoon("the start", "s", s.host)
	s.findsSoon("the start", "r", r.host)
	others := func(when string) {
		t.Helper()
		if now := r.others(); now != before {
			t.Errorf("%s: resolved's other settings were\n%s\nand are\n%s", when, before, now)
		}
	}
	for range 3 {
		r.down(syscall.SIGKILL)
		within(t, reapplied, "the settings to be gone", func() bool { return !strings.Contains(r.run("resolvectl", "status"), namesSuffix) })
		others("killed")
		r.up()
		r.findsSoon("kill -9", "s", s.host)
	}
	// One that is stopped answers nobody. Other names do not wait for it.
	r.node.cmd.Process.Signal(syscall.SIGSTOP)
	start := time.Now()
	if out, code := r.try("getent", "ahosts", "www.example.com"); code != 0 || time.Since(start) > time.Second {
		t.Errorf("while the daemon is stopped: %s after %v", out, time.Since(start))
	}
	out, code := r.try("timeout", "9", "getent", "hosts", "s."+namesSuffix)
	t.Logf("a name of ours, while the daemon is stopped: %d %q after %v", code, out, time.Since(start))
	time.Sleep(10*time.Second - time.Since(start))
	r.node.cmd.Process.Signal(syscall.SIGCONT)
	r.findsSoon("a suspension of 10 s", "s", s.host)
	others("suspended")
	start = time.Now()
	last := "s"
	for i := range 100 {
		next := fmt.Sprintf("n%d", i)
		r.anode("peers", "rename", last, next)
		last = next
	}
	t.Logf("100 renames took %v", time.Since(start))
	r.findsSoon("100 renames", last, s.host)
	within(t, reapplied, "the names before to be gone", func() bool { return !r.finds("n98", s.host) && !r.finds("s", s.host) })
	others("renamed")
	for range 5 {
		r.ip("link set anode0 down")
		r.findsSoon("link down", last, s.host)
	}
	others("link down")
	if asked := r.elsewhere.about("n98"); len(asked) > 0 {
		t.Errorf("the LAN's server was asked %v", asked)
	}
	etc.untouched(t)
}
