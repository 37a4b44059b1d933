package info2

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The real thing: eight servents and four crude clients made of netcat, each in
// a network namespace of its own, on one bridge. A servent is this test binary,
// told by its environment to be one.

const (
	beServent = "INFO2_TEST_SERVENT" // its address, and what it knows
	beCrude   = "INFO2_TEST_CRUDE"   // anything
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(beServent); spec != "" {
		servent(spec)
		return
	}
	if os.Getenv(beCrude) != "" {
		crudeServer()
		return
	}
	os.Exit(m.Run())
}

// servent runs until its input ends: each line is said, each message printed.
func servent(spec string) {
	self, known, _ := strings.Cut(spec, " ")
	cfg := Config{Name: "real", Dial: dialTCP(netip.Addr{}), Listen: listenTCP(netip.Addr{})}
	if known != "" {
		cfg.Known = []netip.Addr{netip.MustParseAddr(known)}
	}
	s, err := New(cfg)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	sub := s.Subscribe(1000)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			if in.Text() == "status" {
				st, _ := s.Status(ctx)
				fmt.Printf("status %d links, inbound %s\n", len(st.Links), st.Inbound)
				continue
			}
			if _, err := s.Say(ctx, in.Text()); err != nil {
				fmt.Println("error", err)
			}
		}
		cancel()
	}()
	go func() {
		for m := range sub.Messages() {
			fmt.Println("heard", m.Text)
		}
	}()
	fmt.Println("started", self)
	if err := s.Run(ctx); err != nil {
		fmt.Println("error", err)
	}
}

// crudeServer answers as seen in the wild: one connection at a time, of which it
// compares one whole read with the hello, and takes one more for a message.
func crudeServer() {
	l, err := net.Listen("tcp", ":26000")
	if err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("started")
	buf := make([]byte, 2048)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		n, _ := c.Read(buf)
		if string(buf[:n]) == helloLine {
			io.WriteString(c, "INFO2 OK\n\nINFO2/OK\n\n")
			n, _ = c.Read(buf)
			fmt.Printf("got <%s>\n", buf[:n])
		} else {
			fmt.Printf("no hello: %q\n", buf[:n])
		}
		c.Close()
	}
}

// requireReal lets the test run only as root with ip and nc; CI must have them.
func requireReal(t *testing.T) {
	t.Helper()
	missing := ""
	if os.Getuid() != 0 {
		missing = "root"
	}
	for _, tool := range []string{"ip", "nc", "sh", "dd"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing += " " + tool
		}
	}
	if missing == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("needs %s", missing)
	}
	t.Skipf("needs %s", missing)
}

// lab is a bridge with namespaces on it.
type lab struct {
	t      *testing.T
	prefix string
	dir    string
}

func newLab(t *testing.T, hosts int) *lab {
	l := &lab{t: t, prefix: fmt.Sprintf("info2t%d", os.Getpid()), dir: t.TempDir()}
	t.Cleanup(func() {
		for i := range hosts + 1 {
			exec.Command("ip", "netns", "del", l.ns(i)).Run()
		}
	})
	l.ip("netns", "add", l.ns(0))
	l.ip("-n", l.ns(0), "link", "add", "br0", "up", "type", "bridge")
	for i := 1; i <= hosts; i++ {
		l.ip("netns", "add", l.ns(i))
		l.ip("-n", l.ns(0), "link", "add", fmt.Sprint("p", i), "up", "master", "br0", "type", "veth", "peer", "name", "eth0", "netns", l.ns(i))
		l.ip("-n", l.ns(i), "addr", "add", l.addr(i)+"/24", "dev", "eth0")
		l.ip("-n", l.ns(i), "link", "set", "eth0", "up")
		l.ip("-n", l.ns(i), "link", "set", "lo", "up")
	}
	return l
}

// ns 0 is the bridge.
func (l *lab) ns(i int) string   { return fmt.Sprintf("%sx%d", l.prefix, i) }
func (l *lab) addr(i int) string { return fmt.Sprintf("10.77.0.%d", i) }

func (l *lab) ip(args ...string) {
	l.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// process is a program in a namespace whose output is searched.
type process struct {
	t     *testing.T
	name  string
	stdin io.WriteCloser

	mu      sync.Mutex
	out     bytes.Buffer
	arrived chan struct{} // something was written
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.Write(b)
	select {
	case p.arrived <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (p *process) count(text string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Count(p.out.String(), text)
}

// expect waits until the output holds the text.
func (p *process) expect(text string) {
	p.t.Helper()
	limit := time.After(30 * time.Second)
	for p.count(text) == 0 {
		select {
		case <-p.arrived:
		case <-limit:
			p.mu.Lock()
			defer p.mu.Unlock()
			p.t.Fatalf("%s: no %q in\n%s", p.name, text, p.out.String())
		}
	}
}

// run starts a program in namespace i; it ends with the test.
func (l *lab) run(i int, env, name string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, name: fmt.Sprint(filepath.Base(name), " in ", l.addr(i)), arrived: make(chan struct{}, 1)}
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.ns(i), name}, args...)...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), env)
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		p.stdin.Close()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	return p
}

// sh runs a shell script that emulates another author's program; its servent is
// number i-4.
func (l *lab) sh(i int, script string) *process {
	return l.run(i, "HUB="+l.addr(i-4), "sh", "-c", script)
}

func TestRealNetwork(t *testing.T) {
	requireReal(t)
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const servents, hosts = 8, 12
	l := newLab(t, hosts)
	var all []*process
	for i := 1; i <= servents; i++ {
		known := l.addr(1)
		if i == 1 {
			known = ""
		}
		p := l.run(i, strings.TrimSpace(beServent+"="+l.addr(i)+" "+known), self)
		p.expect("started")
		all = append(all, p)
	}

	// 1: only greets, and listens; its input ends at once.
	listener := l.sh(9, `until printf 'INFO2 CONNECT/0.6\n\n' | nc $HUB 26000; do :; done`)
	listener.expect("INFO2 OK\n\n")
	// 2: half-closes at once, and goes on listening; no blank line.
	halfClosed := l.sh(10, `printf 'INFO2 CONNECT/0.600000' | nc -N $HUB 26000`)
	halfClosed.expect("INFO2 OK\n\n")
	// 3: stays, with short identifiers, no terminators, NUL and rubbish.
	chatty := l.sh(11, `{ printf 'INFO2 CONNECT/0.7\r\n\r\n'; read go; printf 'SEND 77 chatty one'; read go
		printf 'SEND 078 chatty two\0\0\377rubbish\0'; read go; } | nc $HUB 26000`)
	chatty.expect("INFO2 OK\n\n")
	// 4: a connection for every message, both ways.
	perMessage := l.run(12, beCrude+"=1", self)
	perMessage.expect("started")
	joined := l.sh(12, `{ printf 'INFO2 CONNECT/0.6\n\n'; read go; printf 'BACKCONNECT 10.77.0.12'; } | nc -N $HUB 26000; echo registered`)
	joined.expect("INFO2 OK\n\n")
	io.WriteString(joined.stdin, "\n")
	joined.expect("registered")

	everybody := append(all, listener, halfClosed, chatty)
	speakers := []int{1, 4, servents}
	for _, i := range speakers {
		io.WriteString(all[i-1].stdin, fmt.Sprintf("hello from %d.\n", i))
	}
	for _, i := range speakers {
		text := fmt.Sprintf("hello from %d.", i)
		for _, p := range everybody {
			p.expect(text)
		}
		perMessage.expect(text)
	}

	io.WriteString(chatty.stdin, "\n")
	for _, p := range append(all, listener, halfClosed) {
		p.expect("chatty one")
	}
	io.WriteString(chatty.stdin, "\n")
	perMessage.expect("SEND 000078 chatty two\n\n>")
	said := l.sh(12, `{ printf 'INFO2 CONNECT/0.6\n\n'; read go; printf 'SEND 4711 one connection per message'; } | nc -N $HUB 26000`)
	said.expect("INFO2 OK\n\n")
	io.WriteString(said.stdin, "\n")
	for _, p := range everybody {
		p.expect("one connection per message")
	}
	for _, p := range append(all, listener, halfClosed) {
		p.expect("chatty two")
	}

	// Everybody, once.
	for _, i := range speakers {
		text := fmt.Sprintf("hello from %d.", i)
		for _, p := range everybody {
			if n := p.count(text); n != 1 {
				t.Errorf("%s: %q %d times", p.name, text, n)
			}
		}
	}
	for _, wrong := range []string{"no hello", "FRIEND", "BACKCONNECT", "error"} {
		if perMessage.count(wrong) != 0 {
			t.Errorf("%q: %s", wrong, perMessage.out.String())
		}
	}
	for _, p := range all {
		if n := p.count("error"); n != 0 || p.count("rubbish") != 0 {
			t.Errorf("%s: %s", p.name, p.out.String())
		}
		io.WriteString(p.stdin, "status\n")
		p.expect("status ")
	}

	// The port is taken: say so and stop.
	again := l.run(1, beServent+"="+l.addr(1), self)
	again.expect("port 26000 is in use")

	// One that leaves says so.
	all[11-4-1].stdin.Close()
	chatty.expect("LOGOFF ")
}
