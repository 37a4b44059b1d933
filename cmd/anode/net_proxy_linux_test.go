package main_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// upAsNobody starts the daemon without an adapter, as a user without rights, as in a container.
// From now on the host's directory is that user's.
func (h *host) upAsNobody(flags ...string) {
	h.t.Helper()
	for _, tool := range []string{"setpriv", "install"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(h.t, tool)
		}
	}
	bin := filepath.Join(h.dir, "anode")
	h.run("install", "-m", "0755", h.bin, bin) // the tests' own is where only root gets
	err := filepath.WalkDir(h.dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, nobody, nobody)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	id := strconv.Itoa(nobody)
	h.node = h.start(append([]string{"setpriv", "--reuid=" + id, "--regid=" + id, "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
		bin, "daemon", "--tun", "none", "--state", h.state(), "--socket", h.socket()}, flags...)...)
	h.ready()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.node.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, want := range []string{"\nUid:\t65534\t65534\t65534\t65534\n", "\nCapEff:\t0000000000000000\n", "\nCapBnd:\t0000000000000000\n", "\nNoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), want) {
			h.t.Fatalf("the daemon is not without rights:\n%s", status)
		}
	}
}

// loopback opens a listener on the host's own 127.0.0.1.
func (h *host) loopback(port int) net.Listener {
	h.t.Helper()
	l, err := in(h, func() (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	return l
}

// association is a SOCKS5 association of datagrams (RFC 1928, 7).
type association struct{ control, port net.Conn }

// associate asks a proxy for one.
func (h *host) associate(proxy string) *association {
	h.t.Helper()
	s := new(association)
	var err error
	dial := func(network, to string) net.Conn {
		c, derr := in(h, func() (net.Conn, error) { return net.Dial(network, to) })
		if derr != nil {
			h.t.Fatal(derr)
		}
		h.t.Cleanup(func() { c.Close() })
		return c
	}
	s.control = dial("tcp", proxy)
	s.control.SetDeadline(time.Now().Add(dialWait))
	io.WriteString(s.control, "\x05\x01\x00"+"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	var answer [12]byte
	if _, err = io.ReadFull(s.control, answer[:]); err != nil || string(answer[:6]) != "\x05\x00\x05\x00\x00\x01" {
		h.t.Fatalf("% x, %v", answer, err)
	}
	ip, _ := netip.AddrFromSlice(answer[6:10])
	s.port = dial("udp", netip.AddrPortFrom(ip, binary.BigEndian.Uint16(answer[10:])).String())
	return s
}

// asks sends a datagram to a port of a peer until an answer comes.
func (s *association) asks(t *testing.T, host string, port uint16, text string) {
	t.Helper()
	q := append([]byte{0, 0, 0, 3, byte(len(host))}, host...)
	if ip, err := netip.ParseAddr(host); err == nil {
		q = append([]byte{0, 0, 0, 4}, ip.AsSlice()...)
	}
	q = append(binary.BigEndian.AppendUint16(q, port), text...)
	const head = 4 + 16 + 2 // with the ULA
	b := make([]byte, 1<<16)
	within(t, dialWait, fmt.Sprintf("an answer of %d bytes from port %d of %s", len(text), port, host), func() bool {
		s.port.Write(q)
		s.port.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := s.port.Read(b)
			if err != nil {
				return false
			}
			if n > head && string(b[head:n]) == "re: "+text {
				return true
			}
		}
	})
}

// echoes answers datagrams on the host's own 127.0.0.1.
func (h *host) echoes(port int) {
	h.t.Helper()
	h.echoesAt(fmt.Sprintf("127.0.0.1:%d", port))
}

// echoesAt answers datagrams at an address.
func (h *host) echoesAt(at string) {
	h.t.Helper()
	p, err := in(h, func() (net.PacketConn, error) { return net.ListenPacket("udp", at) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo(append([]byte("re: "), b[:n]...), from)
		}
	}()
}

// asks sends a datagram until an answer comes.
func (h *host) asks(to, text string) {
	h.t.Helper()
	c, err := in(h, func() (net.Conn, error) { return net.Dial("udp", to) })
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 2000)
	within(h.t, dialWait, "an answer from "+to, func() bool {
		io.WriteString(c, text)
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := c.Read(b)
		return err == nil && string(b[:n]) == "re: "+text
	})
}

// says waits for a line of a program.
func (p *process) says(text string) {
	p.t.Helper()
	within(p.t, dialWait, fmt.Sprintf("%q", text), func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("%v ended: %s", p.cmd.Args, p.output())
		default:
		}
		return strings.Contains(p.output(), text)
	})
}

// repository makes a bare repository that plain HTTP serves, and returns its commit.
func (h *host) repository(dir string) (commit string) {
	h.t.Helper()
	work := filepath.Join(h.dir, "work")
	git := func(args ...string) string {
		return h.run(append([]string{"git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "safe.directory=*", "-c", "init.defaultBranch=main"}, args...)...)
	}
	git("init", "-q", work)
	if err := os.WriteFile(filepath.Join(work, "file"), []byte(strings.Repeat("some text\n", 100_000)), 0o644); err != nil {
		h.t.Fatal(err)
	}
	git("-C", work, "add", "file")
	git("-C", work, "commit", "-q", "-m", "A file")
	git("clone", "-q", "--bare", work, dir)
	git("-C", dir, "update-server-info")
	return strings.TrimSpace(git("-C", work, "rev-parse", "HEAD"))
}

// TestNetNoRoot: two nodes of users without rights, as in containers, and ordinary programs that
// reach services of the one through the other.
func TestNetNoRoot(t *testing.T) {
	for _, tool := range []string{"curl", "git", "ssh", "sshd", "ssh-keygen", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
	a, b, c, d := newHost(t, "a"), newHost(t, "b"), newHost(t, "c"), newHost(t, "d")
	join(1, a, b, c, d)
	for _, pair := range [][2]*host{{a, b}, {a, c}, {b, c}, {a, d}} {
		pair[0].add(pair[1])
		pair[1].add(pair[0])
	}
	before := a.network()
	a.upAsNobody("--socks", "1080", "--http-proxy", "8118", "--forward", "9080=b:80", "--forward", "udp:5353=b:53", "--set", "local.anywhere=false")
	b.upAsNobody("--expose", "80=127.0.0.1:8000", "--expose", "udp:53=127.0.0.1:5354", "--expose", "22=127.0.0.1:2222@a")
	c.upAsNobody("--socks", "unix:"+filepath.Join(c.dir, "socks"))
	d.up() // with an adapter
	site := filepath.Join(b.dir, "site")
	commit := b.repository(filepath.Join(site, "repo.git"))
	page := strings.Repeat("a page ", 500_000)
	if err := os.WriteFile(filepath.Join(site, "page"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	go http.Serve(b.loopback(8000), http.FileServer(http.Dir(site)))
	go http.Serve(b.loopback(8001), http.FileServer(http.Dir(site))) // which is not exposed
	b.echoes(5354)
	a.anode("wait", "b")
	curl := func(h *host, args ...string) (string, int) {
		return h.try(append([]string{"curl", "-sS", "--max-time", "20"}, args...)...)
	}
	fetches := func(t *testing.T, h *host, args ...string) {
		t.Helper()
		if out, code := curl(h, args...); code != 0 || out != page {
			t.Errorf("curl %v: exit code %d, %d bytes, %.200s", args, code, len(out), out)
		}
	}

	step(t, "proxies", func(t *testing.T) {
		for _, host := range []string{"b", "b.anode.internal", "www.b.anode.internal", "[" + b.ula.String() + "]"} {
			fetches(t, a, "--socks5-hostname", "127.0.0.1:1080", "http://"+host+"/page")
			fetches(t, a, "--proxytunnel", "-x", "http://127.0.0.1:8118", "http://"+host+"/page")
		}
		fetches(t, c, "-x", "socks5h://localhost"+filepath.Join(c.dir, "socks"), "http://b/page")
		fetches(t, a, "http://127.0.0.1:9080/page")
		a.asks("127.0.0.1:5353", "a question")
	}, a, b, c)
	step(t, "refused", func(t *testing.T) {
		for url, reply := range map[string]string{
			"http://127.0.0.1:9080/": "(2)", "http://localhost:9080/": "(2)", "http://10.0.1.2/": "(2)", "http://x/": "(2)", // no peers
			"http://b:8001/": "(5)", "http://b:22/": "", "http://b:8000/": "(5)", // not exposed
		} {
			out, code := curl(a, "--socks5-hostname", "127.0.0.1:1080", url)
			if url == "http://b:22/" { // exposed, but the service is not there
				if code == 0 {
					t.Errorf("%s: %s", url, out)
				}
				continue
			}
			if code != 97 || !strings.Contains(out, reply) {
				t.Errorf("%s: exit code %d, %s", url, code, out)
			}
		}
		if out, _ := curl(a, "-x", "http://127.0.0.1:8118", "http://b/page"); !strings.Contains(out, "only CONNECT") {
			t.Errorf("a GET through the proxy: %.200s", out)
		}
		// Programs of the other machines do not reach the proxy.
		for _, port := range []int{1080, 8118, 9080} {
			if c, err := in(b, func() (net.Conn, error) { return net.DialTimeout("tcp", fmt.Sprintf("10.0.1.1:%d", port), dialWait) }); err == nil {
				c.Close()
				t.Errorf("port %d is open to others", port)
			}
		}
		// Another user of c has no way to its unix socket.
		if err := c.as(1000, func() error { _, err := net.Dial("unix", filepath.Join(c.dir, "socks")); return err }); err == nil {
			t.Error("another user connects to the socket of the proxy")
		}
		out, code := a.tryAnode("forward", "0.0.0.0:9999", "b:80")
		if code != 2 || !strings.Contains(out, "not a loopback address") || !strings.Contains(out, "--anywhere") {
			t.Errorf("exit code %d, %s", code, out)
		}
		if out, code := a.tryAnode("forward", "1080", "b:80"); code != 1 || !strings.Contains(out, "in use") {
			t.Errorf("exit code %d, %s", code, out)
		}
	}, a, b, c)
	step(t, "git", func(t *testing.T) {
		to := filepath.Join(a.dir, "clone")
		a.run("git", "-c", "http.proxy=socks5h://127.0.0.1:1080", "clone", "-q", "http://b/repo.git", to)
		if got := strings.TrimSpace(a.run("git", "-C", to, "rev-parse", "HEAD")); got != commit {
			t.Errorf("%s instead of %s", got, commit)
		}
	}, a, b)
	step(t, "nc", func(t *testing.T) {
		nc := func(h *host, args string) (string, int) {
			return h.try("sh", "-c", fmt.Sprintf("%s nc %s --socket %s", h.bin, args, h.socket()))
		}
		if out, code := nc(a, "b 81 < /dev/null"); code != 1 || !strings.Contains(out, "refused") {
			t.Errorf("exit code %d, %s", code, out)
		}
		out, code := a.try("sh", "-c", fmt.Sprintf("printf 'GET /page HTTP/1.0\\r\\n\\r\\n' | %s nc b 80 --socket %s", a.bin, a.socket()))
		if code != 0 || !strings.HasSuffix(out, page) {
			t.Errorf("exit code %d, %d bytes", code, len(out))
		}
		if out, code := nc(a, "nobody 80"); code != 4 {
			t.Errorf("exit code %d, %s", code, out)
		}
		if out, code := nc(a, "b 0"); code != 2 {
			t.Errorf("exit code %d, %s", code, out)
		}
	}, a, b)
	step(t, "datagrams", func(t *testing.T) {
		d.echoesAt(fmt.Sprintf("[%v]:7", d.ula))
		s := a.associate("127.0.0.1:1080")
		for _, peer := range []*host{b, d} { // without an adapter, and with one
			port := map[*host]uint16{b: 53, d: 7}[peer]
			for _, host := range []string{peer.name, peer.name + ".anode.internal", peer.ula.String()} {
				for _, n := range []int{1, 1200, 4000, 30000} {
					s.asks(t, host, port, strings.Repeat("x", n))
				}
			}
		}
		for _, try := range []struct{ args, out string }{
			{"b 53", "re: hello\n"}, {"d 7", "re: hello\n"},
			{"b 54", "connection refused"}, {"d 8", "connection refused"}, // nobody listens
		} {
			out, code := a.try("sh", "-c", fmt.Sprintf("echo hello | %s nc --udp %s --socket %s", a.bin, try.args, a.socket()))
			if refused := strings.Contains(try.out, "refused"); !strings.Contains(out, try.out) || (code == 1) != refused {
				t.Errorf("nc --udp %s: exit code %d, %s", try.args, code, out)
			}
		}
		// A program of the machine with an adapter asks a port that is not exposed.
		q, err := in(d, func() (net.Conn, error) { return net.Dial("udp", fmt.Sprintf("[%v]:54", a.ula)) })
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		io.WriteString(q, "x")
		q.SetReadDeadline(time.Now().Add(dialWait))
		if _, err := q.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port of a node without an adapter: %v", err)
		}
	}, a, b, d)
	step(t, "ssh", func(t *testing.T) { sshByNC(t, a, b, c) }, a, b, c)
	step(t, "commands", func(t *testing.T) {
		f := a.start(a.bin, "forward", "0", "b:80", "--socket", a.socket())
		f.says("forwarding 127.0.0.1:")
		port := strings.Fields(strings.TrimPrefix(f.output(), "forwarding "))[0]
		fetches(t, a, "http://"+port+"/page")
		if list := a.anode("forward"); strings.Count(list, " to TCP port 80 of b") != 2 || !strings.Contains(list, "UDP port 53 of b") {
			t.Error(list)
		}
		e := b.start(b.bin, "expose", "82", "--to", "8001", "--only", "c", "--socket", b.socket())
		e.says("exposing TCP port 82 to c (")
		if out, code := curl(a, "--socks5-hostname", "127.0.0.1:1080", "http://b:82/page"); code == 0 {
			t.Errorf("a peer that is not named got %.100s", out)
		}
		fetches(t, c, "-x", "socks5h://localhost"+filepath.Join(c.dir, "socks"), "http://b:82/page")
		if list := b.anode("expose"); !strings.Contains(list, "TCP port 82 to 127.0.0.1:8001, only for c") || !strings.Contains(list, "TCP port 22 to 127.0.0.1:2222, only for a") {
			t.Error(list)
		}
		for _, p := range []*process{f, e} {
			if code := p.end(syscall.SIGINT); code != 0 {
				t.Errorf("%v: exit code %d, %s", p.cmd.Args, code, p.output())
			}
		}
		within(t, dialWait, "the forwarded port to close", func() bool { _, code := curl(a, "http://"+port+"/"); return code == 7 })
		within(t, dialWait, "the exposed port to close", func() bool { return !strings.Contains(b.anode("expose"), "port 82") })
	}, a, b, c)
	step(t, "reports", func(t *testing.T) {
		text := a.anode("status")
		for _, want := range []string{"adapter   none; programs use SOCKS5 at 127.0.0.1:1080, HTTP CONNECT at", "forward   127.0.0.1:9080 to TCP port 80 of b"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		var s struct {
			Tun   any
			Local []struct{ Kind, Listen, Owner string }
		}
		b.decode(b.anode("status", "--json"), &s)
		if s.Tun != nil || len(s.Local) != 3 || s.Local[0].Kind != "expose" || s.Local[0].Owner != "configuration" {
			t.Errorf("%+v", s)
		}
		out, _ := a.tryAnode("doctor", "--all", "--state", a.state())
		if !strings.Contains(out, "fine  adapter     none, as it is configured") {
			t.Error(out)
		}
		if after := a.network(); !equalLines(before, after) {
			t.Errorf("the network of a was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}, a, b)
	step(t, "anywhere", func(t *testing.T) {
		f := a.start(a.bin, "forward", "--anywhere", "10.0.1.1:9081", "b:80", "--socket", a.socket())
		f.says("forwarding 10.0.1.1:9081")
		fetches(t, c, "http://10.0.1.1:9081/page")
		const want = "everybody who reaches 10.0.1.1:9081 can use the network as this machine"
		if out := strings.Join(strings.Fields(a.anode("status")), " "); !strings.Contains(out, "warning: "+want) {
			t.Error(out)
		}
		out, _ := a.tryAnode("doctor", "--state", a.state())
		if out = strings.Join(strings.Fields(out), " "); !strings.Contains(out, "warn settings "+want) {
			t.Error(out)
		}
		f.end(syscall.SIGINT)
	}, a, c)
	step(t, "completion", func(t *testing.T) {
		if out := a.run(a.bin, "__complete", "forward", "--socket", a.socket(), "80", ""); !strings.Contains(out, "b:\t") {
			t.Error(out)
		}
	}, a)
	step(t, "end", func(t *testing.T) {
		f := a.start(a.bin, "forward", "0", "b:80", "--socket", a.socket())
		f.says("forwarding")
		if code := a.down(syscall.SIGTERM); code != 0 {
			t.Errorf("the daemon ends with %d", code)
		}
		if code := f.wait(dialWait); code != 3 {
			t.Errorf("forward ends with %d: %s", code, f.output())
		}
	}, a)
}

func equalLines(a, b []string) bool { return strings.Join(a, "\n") == strings.Join(b, "\n") }

// sshByNC logs in from a on b by "anode nc", which is not let in from c.
func sshByNC(t *testing.T, a, b, c *host) {
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd wants it
		t.Fatal(err)
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		t.Fatal(err)
	}
	key, user := filepath.Join(b.dir, "host"), filepath.Join(a.dir, "user")
	for _, file := range []string{key, user} {
		a.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file)
	}
	server := b.start(sshd, "-D", "-e", "-f", "/dev/null", "-h", key, "-o", "ListenAddress=127.0.0.1:2222", "-o", "AuthorizedKeysFile="+user+".pub",
		"-o", "PidFile=none", "-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes")
	server.says("listening")
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(a.dir, "known")
	if err := os.WriteFile(known, fmt.Appendf(nil, "b.anode.internal %s", public), 0o600); err != nil {
		t.Fatal(err)
	}
	login := func(h *host) (string, int) {
		return h.try("ssh", "-F", "none", "-i", user, "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
			"-o", fmt.Sprintf("ProxyCommand=%s nc %%h %%p --socket %s", h.bin, h.socket()),
			"root@b.anode.internal", "head -c 10000000 /dev/zero | wc -c")
	}
	if out, code := login(a); code != 0 || strings.TrimSpace(out) != "10000000" {
		t.Errorf("exit code %d, %s\n%s", code, out, server.output())
	}
	if out, code := login(c); code != 255 || strings.Contains(out, "10000000") {
		t.Errorf("from c: exit code %d, %s", code, out)
	}
}

// TestNetProxyAdapter: the same commands on nodes with adapters, by the system's sockets.
func TestNetProxyAdapter(t *testing.T) {
	a, b := upPair(t, "--socks", "1080", "--expose", "83=127.0.0.1:8000", "--expose", "udp:53=127.0.0.1:5354")
	const page = "a page"
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })
	go http.Serve(b.loopback(8000), answer)
	go http.Serve(b.listen(80), answer)
	b.echoes(5354)
	get := func(args ...string) {
		t.Helper()
		if out := a.run(append([]string{"curl", "-sS", "--max-time", "20"}, args...)...); out != page {
			t.Errorf("curl %v: %s", args, out)
		}
	}
	get("http://" + b.at(83) + "/")
	get("--socks5-hostname", "127.0.0.1:1080", "http://b:83/")
	get("--socks5-hostname", "127.0.0.1:1080", "http://b.anode.internal/")
	a.asks(b.at(53), "a question")
	f := a.start(a.bin, "forward", "9080", "b:80", "--socket", a.socket())
	f.says("forwarding 127.0.0.1:9080 to TCP port 80 of b")
	get("http://127.0.0.1:9080/")
	out, code := a.try("sh", "-c", fmt.Sprintf("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | %s nc b 80 --socket %s", a.bin, a.socket()))
	if code != 0 || !strings.HasSuffix(out, "\r\n\r\n"+page) {
		t.Errorf("exit code %d, %s", code, out)
	}
	if out, code := a.tryAnode("nc", "b", "81"); code != 1 || !strings.Contains(out, "refused") {
		t.Errorf("exit code %d, %s", code, out)
	}
	if e, code := b.tryAnode("expose", "80"); code != 1 || !strings.Contains(e, "in use") {
		t.Errorf("exit code %d, %s", code, e)
	}
	if out := a.anode("status"); !strings.Contains(out, "proxies   SOCKS5 at 127.0.0.1:1080") {
		t.Error(out)
	}
	a.ends(syscall.SIGTERM, 0)
	if code := f.wait(dialWait); code != 3 {
		t.Errorf("forward ends with %d: %s", code, f.output())
	}
}
