package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/platform"
)

// A machine with the user land of Debian 12 or 13, systemd-resolved on a bus of its own, and beside it a
// LAN with the DNS server that it asked before:
//
//	getent, dig, Python, Go, musl -- 127.0.0.53 -- resolved --+-- anode0: a node, or what stands in for one
//	                                                          '-- eth1: 10.0.1.2, answers everything
//
// Its /usr and /etc are those of packages in .cache (scripts/fetch-debian), and /run is its own. /etc
// is an overlay and is watched. The kernel, init and logind are not Debian's: there is no init.

// debian is a version of Debian that scripts/fetch-debian fetches.
type debian struct{ name, suite, systemd string }

// eachDebian has a test run in each.
func eachDebian(t *testing.T, f func(t *testing.T, d debian)) {
	for _, d := range []debian{{"Debian 12", "bookworm", "systemd 252"}, {"Debian 13", "trixie", "systemd 257"}} {
		t.Run(d.name, func(t *testing.T) { f(t, d) })
	}
}

// tree is where its /usr and /etc are.
func (d debian) tree(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", ".cache", "debian", d.suite))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "packages")); err != nil {
		need(t, d.name+"'s systemd-resolved; try: ./scripts/fetch-debian")
	}
	return dir
}

// resolving is the machine. Its daemons are started by the tests.
type resolving struct {
	*host
	test      *testing.T // in whose steps the machine is used
	lan       *host
	elsewhere *questions // that the LAN's server was asked
	bus       *process
	resolved  *process
	musl      string // a program that prints a name's addresses, linked with musl
}

// questions is what a DNS server was asked, as "north.anode.internal. AAAA".
type questions struct {
	mu   sync.Mutex
	list []string
}

func (q *questions) add(line string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.list = append(q.list, line)
}

// about returns those with a word in them.
func (q *questions) about(word string) (list []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, line := range q.list {
		if strings.Contains(line, word) {
			list = append(list, line)
		}
	}
	return list
}

// newResolving makes the machine with the configuration of resolved, such as "DNSSEC=yes".
func newResolving(t *testing.T, d debian, settings ...string) *resolving {
	t.Helper()
	tree := d.tree(t)
	if _, err := exec.LookPath("musl-gcc"); err != nil {
		need(t, "musl-gcc")
	}
	r := &resolving{host: newMachine(t, "names"), test: t, lan: newMachine(t, "lan")}
	join(1, r.host, r.lan)
	r.sysctl("ipv6/conf/eth1/disable_ipv6=1") // an address that comes a second later would change what resolved says
	r.musl = muslProgram(t, r.dir)
	r.ownMounts()
	r.run("sh", "-euc", resolvingMounts, "sh", filepath.Join(r.dir, "over"), tree, strings.Join(append([]string{"[Resolve]", "FallbackDNS="}, settings...), "\n"))
	if v := r.run("resolvectl", "--version"); !strings.HasPrefix(v, d.systemd+" ") {
		t.Fatalf("%s has %s", d.name, v)
	}
	r.elsewhere = r.lan.answersAll("10.0.1.2:53")
	r.startBus()
	r.startResolved()
	r.run("resolvectl", "dns", "eth1", "10.0.1.2")
	return r
}

// resolvingMounts gives the machine its own /usr, /etc, /run and bus, with what the packages' scripts
// would have made. No service is activated.
const resolvingMounts = `
over=$1 tree=$2 settings=$3
mkdir "$over"; mount -t tmpfs -o mode=755 tmpfs "$over"; mkdir "$over/etc" "$over/work"
mount --bind "$tree/usr" /usr; mount -o remount,bind,ro /usr
mount -t overlay overlay -o "lowerdir=$tree/etc,upperdir=$over/etc,workdir=$over/work" /etc
mount -t tmpfs tmpfs /usr/share/dbus-1/system-services
mount -t tmpfs -o mode=755 tmpfs /run
echo root:x:0: >/etc/group
printf "%s\n" root:x:0:0::/root:/bin/bash nobody:x:65534:65534::/:/usr/sbin/nologin >/etc/passwd
n=64100
for u in messagebus systemd-resolve polkitd sshd anode; do
	n=$((n + 1))
	echo "$u:x:$n:" >>/etc/group
	echo "$u:x:$n:$n::/:/usr/sbin/nologin" >>/etc/passwd
done
mkdir -p /run/dbus /run/systemd/resolve /etc/systemd /etc/polkit-1/rules.d
chown systemd-resolve: /run/systemd/resolve
rm -rf /etc/systemd/resolved.conf.d /etc/dbus-1/system-local.conf
echo "$settings" >/etc/systemd/resolved.conf
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >/etc/nsswitch.conf
printf '%s\n' '127.0.0.1 localhost' '::1 localhost' >/etc/hosts
ln -sfn ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
`

// lasting is start for what outlives a step of the test.
func (r *resolving) lasting(args ...string) *process {
	defer func(t *testing.T) { r.t = t }(r.t)
	r.t = r.test
	return r.start(args...)
}

func (r *resolving) startBus() {
	r.t.Helper()
	r.bus = r.lasting("dbus-daemon", "--config-file=/usr/share/dbus-1/system.conf", "--nofork", "--nopidfile")
	within(r.t, dialWait, "the bus", func() bool {
		_, code := r.try("test", "-S", "/run/dbus/system_bus_socket")
		return code == 0
	})
}

// stopBus ends the bus, as a crash would.
func (r *resolving) stopBus() {
	r.bus.end(syscall.SIGKILL)
	r.run("rm", "-f", "/run/dbus/system_bus_socket")
}

func (r *resolving) startResolved() {
	r.t.Helper()
	r.launchResolved()
	within(r.t, dialWait, "resolved", func() bool {
		_, code := r.try("resolvectl", "status")
		return code == 0
	})
}

func (r *resolving) launchResolved() {
	r.resolved = r.lasting("/usr/lib/systemd/systemd-resolved")
}

// stopResolved ends resolved; what it had stored of links goes too, so that somebody must tell it again.
func (r *resolving) stopResolved() {
	r.t.Helper()
	r.resolved.end(syscall.SIGTERM)
	r.run("rm", "-rf", "/run/systemd/resolve/netif")
}

// others is what resolved says of everything but the adapter.
func (r *resolving) others() string {
	r.t.Helper()
	return r.run("sh", "-c", `resolvectl status eth1 | sed '1s/([^)]*)//; /Current DNS Server/d; s/^ *//'; resolvectl status | sed '/^Link/,$d; /^$/d'`)
}

// answersAll serves DNS: 192.0.2.7 and 2001:db8::7 for every name.
func (h *host) answersAll(at string) *questions {
	h.t.Helper()
	q := &questions{}
	h.serveDNS(at, q, func(x dnsmessage.Question) (dnsmessage.ResourceBody, dnsmessage.RCode) {
		switch x.Type {
		case dnsmessage.TypeA:
			return &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}}, dnsmessage.RCodeSuccess
		case dnsmessage.TypeAAAA:
			return &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 7}}, dnsmessage.RCodeSuccess
		}
		return nil, dnsmessage.RCodeSuccess
	})
	return q
}

func (h *host) serveDNS(at string, q *questions, answer dnsAnswer) {
	h.t.Helper()
	c, err := in(h, func() (net.PacketConn, error) { return net.ListenPacket("udp", at) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	go serveDNS(c, q.add, answer)
}

// dnsAnswer returns an answer; nil: none.
type dnsAnswer func(dnsmessage.Question) (dnsmessage.ResourceBody, dnsmessage.RCode)

// serveDNS answers until the socket is closed.
func serveDNS(c net.PacketConn, asked func(string), answer dnsAnswer) {
	buf := make([]byte, 2000)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || m.Response || len(m.Questions) != 1 {
			continue
		}
		x := m.Questions[0]
		asked(fmt.Sprint(x.Name, " ", strings.TrimPrefix(x.Type.String(), "Type")))
		body, code := answer(x)
		m.Header = dnsmessage.Header{ID: m.ID, Response: true, Authoritative: true, RecursionDesired: m.RecursionDesired, RecursionAvailable: true, RCode: code}
		m.Additionals = nil
		if body != nil {
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: x.Name, Class: x.Class, TTL: 1}, Body: body}}
		}
		b, err := m.Pack()
		if err == nil {
			c.WriteTo(b, from)
		}
	}
}

// muslProgram compiles a program that resolves as programs of Alpine do.
func muslProgram(t *testing.T, dir string) string {
	t.Helper()
	source, file := filepath.Join(dir, "resolve.c"), filepath.Join(dir, "resolve")
	text := `
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int main(int argc, char **argv) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
	int err = getaddrinfo(argv[1], 0, &hints, &list);
	if (err) { fprintf(stderr, "%s\n", gai_strerror(err)); return 1; }
	for (; list; list = list->ai_next) {
		char text[100];
		getnameinfo(list->ai_addr, list->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST);
		puts(text);
	}
}`
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("musl-gcc", "-static", "-o", file, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}

// cgoProgram builds a program in Go that has libc look names up. As with program, the path leads to it
// for as long as this process runs.
var cgoProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anode-cgo")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	source, file := filepath.Join(dir, "main.go"), filepath.Join(dir, "resolve")
	const text = `package main

import (
	"fmt"
	"net"
	"os"
)

func main() {
	list, err := net.LookupHost(os.Args[1])
	if fmt.Println(list, err); err != nil {
		os.Exit(1)
	}
}
`
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-tags", "netcgo", "-o", file, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return held(file)
})

// namesNode is what stands in for a node: an adapter, a DNS server, platform.Names.
type namesNode struct {
	*process
	r *resolving
}

// serveNames starts it. Words: see TestNetResolvedProgram.
func (r *resolving) serveNames(words ...string) *namesNode {
	r.t.Helper()
	n := &namesNode{r.start(r.programArgs("serve", words...)...), r}
	within(r.t, dialWait, "the adapter's names", func() bool { return n.report() != platform.NameReport{} })
	return n
}

// programArgs runs a part of TestNetResolvedProgram.
func (r *resolving) programArgs(verb string, words ...string) []string {
	r.t.Helper()
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	return []string{"env", namesProgram + "=" + strings.Join(append([]string{verb}, words...), " "), self, "-test.run=^TestNetResolvedProgram$", "-test.timeout=5m"}
}

// report is the last one that the node wrote.
func (n *namesNode) report() (last platform.NameReport) {
	out := n.output()
	if at := strings.LastIndex(out, "REPORT "); at >= 0 {
		line, _, whole := strings.Cut(out[at+len("REPORT "):], "\n")
		if whole {
			n.r.decode(line, &last)
		}
	}
	return last
}

// asked lists what the node's server was asked.
func (n *namesNode) asked() (list []string) {
	for line := range strings.Lines(n.output()) {
		if q, ok := strings.CutPrefix(line, "ASKED "); ok {
			list = append(list, strings.TrimSpace(q))
		}
	}
	return list
}

// becomes waits until the node says so.
func (n *namesNode) becomes(limit time.Duration, what string, f func(platform.NameReport) bool) time.Duration {
	n.r.t.Helper()
	return within(n.r.t, limit, what+"; it says "+fmt.Sprintf("%+v", n.report()), func() bool { return f(n.report()) })
}

func applied(r platform.NameReport) bool { return r.Applied }
