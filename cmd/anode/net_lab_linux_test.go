// Package main_test judges the program from outside, as a stranger with a few
// machines on a network would:
//
//	a ── eth1 ─(10.0.1.0/24)─ eth1 ── b        newHost, join
//	│                                 │
//	anode daemon                      anode daemon   host.up
//	│                                 │
//	ping, ssh, sockets of this test ──┘              host.run, host.listen, host.dial
//
// A machine is a network namespace without a name. It belongs to a thread of this
// process, and all its programs are killed when that thread ends: however a test
// ends, nothing stays behind.
package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/overlay"
)

// program builds anode, and gives a path that leads to it for as long as this
// process runs. The file itself is gone already, and needs no clearing up. Where many
// processes test, ANODENET_PROGRAM is a program that was built for all of them.
var program = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("ANODENET_PROGRAM"); file != "" {
		return held(file)
	}
	dir, err := os.MkdirTemp("", "anode-net")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "anode")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", file, "anodenet/cmd/anode")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return held(file)
})

// held gives a path that leads to a file for as long as this process runs, also if it is removed.
func held(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), err
}

// long asks for the full numbers of repetitions, which take minutes.
func long() bool { return os.Getenv("LONG") != "" }

// bulk is how many bytes a transfer has: n, or a gigabyte if that is asked for.
func bulk(n int) int {
	if long() {
		return 1 << 30
	}
	return n
}

// need says that a test cannot run here, which in CI is a failure.
func need(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", what)
	}
	t.Skipf("needs %s", what)
}

// host is a machine. Once its node was made, the address and its short forms are set.
type host struct {
	t    *testing.T
	name string
	dir  string // state directory, control socket, logs
	bin  string // anode

	tid  int
	work chan func() // to the thread that lives in the namespace

	address anode.Address
	id      anode.ID
	ula     anode.ULA
	node    *process // the daemon, if it runs
}

// newHost makes a machine with an identity and no links.
func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := newMachine(t, name)
	h.identify()
	return h
}

// newMachine makes a machine without an identity.
func newMachine(t *testing.T, name string) *host {
	t.Helper()
	if os.Getuid() != 0 {
		need(t, "root, for network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		need(t, "/dev/net/tun")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "anode-"+name) // not the test's: a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, name: name, dir: dir, bin: bin, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		h.tid = unix.Gettid()
		made <- err
		for f := range h.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(h.work)
		os.RemoveAll(dir)
	})
	h.ip("link set lo up")
	return h
}

// identify makes the node's identity, or reads it.
func (h *host) identify() {
	h.t.Helper()
	var self struct {
		Address anode.Address
		ID      anode.ID
		ULA     anode.ULA
	}
	h.run(h.bin, "id", "--state", h.state()) // says that it makes one
	h.decode(h.run(h.bin, "id", "--json", "--state", h.state()), &self)
	h.address, h.id, h.ula = self.Address, self.ID, self.ULA
}

func (h *host) state() string  { return filepath.Join(h.dir, "state") }
func (h *host) socket() string { return filepath.Join(h.dir, "anode.sock") }

// at is an address of the host's adapter, with a port.
func (h *host) at(port int) string { return net.JoinHostPort(h.ula.String(), strconv.Itoa(port)) }

func (h *host) decode(text string, v any) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		h.t.Fatalf("%v: %s", err, text)
	}
}

// step is a subtest with hosts of the test's.
func step(t *testing.T, name string, f func(t *testing.T), hosts ...*host) {
	t.Run(name, func(sub *testing.T) {
		for _, h := range hosts {
			h.t = sub
			defer func() { h.t = t }()
		}
		f(sub)
	})
}

// do runs f on the host's thread: sockets, devices and processes that it makes are
// the host's. f must not end the test.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// in is do for what gives a value.
func in[T any](h *host, f func() (T, error)) (v T, err error) {
	h.do(func() { v, err = f() })
	return v, err
}

// process is a program that runs on a host.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string        // its output's file
	done chan struct{} // closed when it has ended
}

// start runs a program until the test ends. It dies with the host's thread.
func (h *host) start(args ...string) *process {
	h.t.Helper()
	log, err := os.CreateTemp(h.dir, "log")
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	p := &process{t: h.t, log: log.Name(), done: make(chan struct{})}
	h.do(func() { // here, where the program is looked for in the host's own mounts
		p.cmd = exec.Command(args[0], args[1:]...)
		p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = log, log, h.dir
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = p.cmd.Start()
	})
	if err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	h.t.Cleanup(func() {
		if h.t.Failed() && args[0] == h.bin && len(args) > 1 && args[1] == "daemon" {
			h.t.Logf("the log of %s:\n%s", h.name, p.output())
		}
		p.end(syscall.SIGKILL)
	})
	return p
}

// output is what the program has written.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(b)
}

// end sends a signal and waits until the program is gone. It gives its exit code,
// -1 after a signal that it did not handle.
func (p *process) end(s syscall.Signal) int {
	p.t.Helper()
	p.cmd.Process.Signal(s) // an error: it has ended already
	return p.wait(15 * time.Second)
}

// wait waits for the end of a program, and kills it when it takes too long.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Errorf("%s still runs after %v:\n%s", strings.Join(p.cmd.Args, " "), limit, p.output())
		p.cmd.Process.Kill()
		<-p.done
	}
	return p.cmd.ProcessState.ExitCode()
}

// try runs a program for at most a minute, and gives its output and exit code.
func (h *host) try(args ...string) (string, int) {
	h.t.Helper()
	p := h.start(args...)
	code := p.wait(time.Minute)
	return p.output(), code
}

// run is try for a program that must not fail.
func (h *host) run(args ...string) string {
	h.t.Helper()
	out, code := h.try(args...)
	if code != 0 {
		h.t.Fatalf("%s: %s: exit code %d\n%s", h.name, strings.Join(args, " "), code, out)
	}
	return out
}

// iperf runs iperf3 with a server of its own, which would refuse a client that comes before the last one's run has
// ended there. It gives what the server, or the client with -R, received in bits per second.
func (h *host) iperf(to *host, args ...string) float64 {
	h.t.Helper()
	server := to.start("iperf3", "-s", "-1", "--forceflush", "-B", to.ula.String())
	defer server.end(syscall.SIGTERM)
	within(h.t, dialWait, "iperf3", func() bool { return strings.Contains(server.output(), "listening") })
	var result struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if h.decode(h.run(append([]string{"iperf3", "-J", "-c", to.ula.String()}, args...)...), &result); result.Error != "" { // with exit code 0
		h.t.Fatal("iperf3: " + result.Error)
	}
	return result.End.Received.Rate
}

// ip runs ip(8) with the words of each line.
func (h *host) ip(lines ...string) {
	h.t.Helper()
	for _, line := range lines {
		h.run(append([]string{"ip"}, strings.Fields(line)...)...)
	}
}

// sysctl sets a key of net, as in "ipv6/conf/eth1/disable_ipv6=1".
func (h *host) sysctl(setting string) {
	h.t.Helper()
	key, value, _ := strings.Cut(setting, "=")
	_, err := in(h, func() (struct{}, error) {
		return struct{}{}, os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// anode runs a verb against the host's daemon.
func (h *host) anode(args ...string) string {
	h.t.Helper()
	return h.run(append(append([]string{h.bin}, args...), "--socket", h.socket())...)
}

// tryAnode is anode for a verb that may fail.
func (h *host) tryAnode(args ...string) (out string, code int) {
	h.t.Helper()
	return h.try(append(append([]string{h.bin}, args...), "--socket", h.socket())...)
}

// add adds a peer under its host's name, to the daemon if one runs.
func (h *host) add(other *host) {
	h.t.Helper()
	if h.node != nil {
		h.anode("peers", "add", other.address.String(), other.name)
	} else {
		h.run(h.bin, "peers", "add", other.address.String(), other.name, "--state", h.state())
	}
}

// up starts the daemon and waits until all of it runs.
func (h *host) up(flags ...string) {
	h.t.Helper()
	h.launch(flags...)
	h.ready()
}

// launch starts the daemon.
func (h *host) launch(flags ...string) {
	h.t.Helper()
	h.node = h.start(append([]string{h.bin, "daemon", "--state", h.state(), "--socket", h.socket()}, flags...)...)
}

// ready waits until the daemon tells its status.
func (h *host) ready() {
	h.t.Helper()
	within(h.t, dialWait, h.name+"'s daemon to answer", func() bool {
		select {
		case <-h.node.done:
			h.t.Fatalf("the daemon of %s has ended:\n%s", h.name, h.node.output())
		default:
		}
		_, code := h.tryAnode("status")
		return code == 0
	})
}

// down ends the daemon by a signal and gives its exit code.
func (h *host) down(s syscall.Signal) int {
	h.t.Helper()
	code := h.node.end(s)
	h.node = nil
	return code
}

func (h *host) status() (s overlay.Status) {
	h.t.Helper()
	h.decode(h.anode("status", "--json"), &s)
	return s
}

// peer is what the daemon says of another host.
func (h *host) peer(other *host) overlay.PeerStatus {
	h.t.Helper()
	for _, p := range h.status().Peers {
		if p.Address == other.address {
			return p
		}
	}
	return overlay.PeerStatus{}
}

// join puts hosts on a link of their own: 10.0.N.1/24 and so on, on ethN. More than
// two share a switch.
func join(n int, hosts ...*host) {
	t, dev := hosts[0].t, fmt.Sprintf("eth%d", n)
	t.Helper()
	if len(hosts) == 2 {
		hosts[0].ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", dev, dev, hosts[1].tid))
	} else {
		s := newMachine(t, "switch")
		s.ip("link add br0 type bridge", "link set br0 up")
		for i, h := range hosts {
			s.ip(fmt.Sprintf("link add port%d type veth peer name %s netns %d", i, dev, h.tid),
				fmt.Sprintf("link set port%d master br0 up", i))
		}
	}
	for i, h := range hosts {
		h.ip(fmt.Sprintf("addr add 10.0.%d.%d/24 brd + dev %s", n, i+1, dev), "link set "+dev+" up")
	}
}

// pair is two hosts on one link that have added each other, not yet up.
func pair(t *testing.T) (a, b *host) {
	t.Helper()
	a, b = newHost(t, "a"), newHost(t, "b")
	join(1, a, b)
	a.add(b)
	b.add(a)
	return a, b
}

// upPair is a pair whose daemons run, and have found each other.
func upPair(t *testing.T, flags ...string) (a, b *host) {
	t.Helper()
	a, b = pair(t)
	a.up(flags...)
	b.up(flags...)
	a.meets(b)
	return a, b
}

// meets waits until a ping gets through to another host, and gives the time.
func (h *host) meets(other *host) time.Duration {
	h.t.Helper()
	return within(h.t, 10*time.Second, "a ping from "+h.name+" to "+other.name, func() bool { return h.pings(other) })
}

// pings sends one echo request, and waits for the reply a moment.
func (h *host) pings(other *host) bool {
	h.t.Helper()
	_, code := h.try("ping", "-6", "-n", "-q", "-c1", "-W0.2", other.ula.String())
	return code == 0
}

// within waits until f is true, and gives the time that it took.
func within(t *testing.T, limit time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Since(start) > limit {
			t.Fatalf("waited %v for %s", limit, what)
		}
		<-tick.C
	}
	return time.Since(start)
}

// listen opens a TCP listener on the host's adapter.
func (h *host) listen(port int) net.Listener {
	h.t.Helper()
	l, err := in(h, func() (net.Listener, error) { return net.Listen("tcp6", h.at(port)) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	return l
}

// dialWait bounds connecting, and each wait for a packet that must come.
const dialWait = 10 * time.Second

// dial opens a TCP connection over the adapter.
func (h *host) dial(to *host, port int) (net.Conn, error) {
	return in(h, func() (net.Conn, error) { return net.DialTimeout("tcp6", to.at(port), dialWait) })
}

// refusal gives the system's error of a connection that cannot be made, 0 if it
// can, ETIMEDOUT if nothing comes within the limit, and the time that it took.
func (h *host) refusal(to *host, port int, limit time.Duration) (syscall.Errno, time.Duration) {
	h.t.Helper()
	start := time.Now()
	c, err := in(h, func() (net.Conn, error) { return net.DialTimeout("tcp6", to.at(port), limit) })
	took := time.Since(start)
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case err == nil:
		c.Close()
	case errors.As(err, &errno):
	case errors.As(err, &timeout) && timeout.Timeout():
		errno = syscall.ETIMEDOUT
	default:
		h.t.Fatal(err)
	}
	return errno, took
}

// udp opens a UDP socket on the host's adapter.
func (h *host) udp(port int) *net.UDPConn {
	h.t.Helper()
	c, err := in(h, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp6", &net.UDPAddr{IP: h.ula[:], Port: port})
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}
