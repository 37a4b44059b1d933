package portmap

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/overlay/link"
)

// The test runs a router of the real world, miniupnpd, and sends packets through what it
// opens:
//
//	host ──────── lan router wan ──────── internet
//	192.168.77.2   .1        5.6.7.8      5.6.7.1
//	2001:db8:1::2  fe80::1   2001:db8:2::7 2001:db8:2::1
//
// Each is a network namespace. The host is this program again, as a process of its own,
// since any thread may open a socket; so is who sends from the internet.
const (
	inHost     = "PORTMAP_TEST_HOST"
	inInternet = "PORTMAP_TEST_INTERNET" // the place to send to
)

// rig is the three namespaces. They have no names, and end with the processes in them.
type rig struct {
	t   *testing.T
	pid map[string]int
	dir string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	missing := ""
	for _, tool := range []string{"ip", "nft", "miniupnpd", "nsenter", "sysctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = tool
		}
	}
	if os.Getuid() != 0 {
		missing = "root"
	}
	if missing != "" && os.Getenv("CI") != "" {
		t.Fatalf("needs %s", missing)
	} else if missing != "" {
		t.Skipf("needs %s", missing)
	}
	r := &rig{t: t, pid: make(map[string]int), dir: t.TempDir()}
	for _, name := range []string{"host", "router", "internet"} {
		c := exec.Command("cat") // until its input ends
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		in, err := c.StdinPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); c.Wait() })
		r.pid[name] = c.Process.Pid
	}
	return r
}

// command runs a program in a namespace.
func (r *rig) command(name string, args ...string) *exec.Cmd {
	c := exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", r.pid[name]), "--"}, args...)...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

func (r *rig) run(name, stdin string, lines ...string) {
	r.t.Helper()
	for _, line := range lines {
		c := r.command(name, strings.Fields(line)...)
		c.Stdin = strings.NewReader(stdin)
		if out, err := c.CombinedOutput(); err != nil {
			r.t.Fatalf("%s: %s: %v: %s", name, line, err, out)
		}
	}
}

const rules = `table inet filter {
	chain input { type filter hook input priority 0; %s; }
	chain miniupnpd { }
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump miniupnpd; }
	chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
	chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; ip saddr 192.168.77.0/24 oifname "wan" masquerade; }
}`

// wire connects the namespaces. input are rules about what the router itself receives.
func (r *rig) wire(input string) {
	r.t.Helper()
	r.run("router", "",
		fmt.Sprintf("ip link add lan type veth peer name eth0 netns %d", r.pid["host"]),
		fmt.Sprintf("ip link add wan type veth peer name eth0 netns %d", r.pid["internet"]),
		"ip link set lo up", "ip link set lan addrgenmode none", "ip link set lan up", "ip link set wan up",
		"ip addr add 192.168.77.1/24 dev lan", "ip addr add 5.6.7.8/24 dev wan", "ip addr add fe80::1/64 dev lan nodad",
		"ip addr add 2001:db8:1::1/64 dev lan nodad", "ip addr add 2001:db8:2::7/64 dev wan nodad",
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
	)
	r.run("router", fmt.Sprintf(rules, input), "nft -f -")
	r.run("host", "", "ip link set lo up", "ip link set eth0 addrgenmode none", "ip link set eth0 up",
		"ip addr add 192.168.77.2/24 dev eth0", "ip addr add 2001:db8:1::2/64 dev eth0 nodad", "ip addr add fe80::2/64 dev eth0 nodad",
		"ip route add default via 192.168.77.1", "ip -6 route add default via fe80::1 dev eth0")
	r.run("internet", "", "ip link set lo up", "ip link set eth0 up",
		"ip addr add 5.6.7.1/24 dev eth0", "ip addr add 2001:db8:2::1/64 dev eth0 nodad", "ip -6 route add default via 2001:db8:2::7")
}

// miniupnpd starts the router's daemon and waits until it listens. kill ends it as a power
// failure would.
func (r *rig) miniupnpd() (kill func()) {
	r.t.Helper()
	file := filepath.Join(r.dir, "miniupnpd.conf")
	conf := "ext_ifname=wan\nlistening_ip=lan\nport=0\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\nupnp_nat_table_name=filter\n" +
		"uuid=9a1b1d3c-0000-4000-8000-0123456789ab\nallow 1024-65535 192.168.77.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		r.t.Fatal(err)
	}
	c := r.command("router", "miniupnpd", "-d", "-f", file, "-P", filepath.Join(r.dir, "pid"))
	said, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	listens, ended := make(chan bool, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(said); lines.Scan(); {
			if os.Getenv("MINIUPNPD_LOG") != "" {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
			if strings.Contains(lines.Text(), "Listening for NAT-PMP") {
				listens <- true
			}
		}
	}()
	r.t.Cleanup(func() { c.Process.Signal(syscall.SIGTERM); <-ended; c.Wait() })
	select {
	case <-listens:
	case <-ended:
		r.t.Fatal("miniupnpd has ended")
	case <-time.After(10 * time.Second):
		r.t.Fatal("miniupnpd does not listen")
	}
	return func() {
		c.Process.Kill()
		<-ended
		os.Remove(filepath.Join(r.dir, "pid"))
		r.run("router", "", "nft flush chain inet filter miniupnpd", "nft flush chain inet filter prerouting_miniupnpd")
	}
}

// mapped is the host with a Mapper.
type mapped struct {
	t      *testing.T
	stop   func()
	ended  chan error
	states chan State
}

func (r *rig) host() *mapped {
	r.t.Helper()
	c := r.command("host", os.Args[0], "-test.run", "^TestMiniupnpd$")
	c.Env = append(os.Environ(), inHost+"=1")
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	m := &mapped{t: r.t, stop: func() { in.Close() }, ended: make(chan error, 1), states: make(chan State, 100)}
	go func() {
		for d := json.NewDecoder(out); ; {
			var st State
			if d.Decode(&st) != nil {
				break // it ends, or says PASS
			}
			m.states <- st
		}
		m.ended <- c.Wait()
	}()
	r.t.Cleanup(m.stop)
	return m
}

// until waits for a state.
func (m *mapped) until(what string, ok func(State) bool) (st State) {
	m.t.Helper()
	for late := time.After(15 * time.Second); ; {
		select {
		case st = <-m.states:
			if ok(st) {
				return st
			}
		case err := <-m.ended:
			m.t.Fatalf("the host has ended: %v", err)
		case <-late:
			m.t.Fatalf("%s did not come: %+v", what, st)
		}
	}
}

// runHost is the host's process: a Mapper that prints its states, and a socket that
// returns each packet, until the input ends.
func runHost(t *testing.T) {
	c, err := net.ListenPacket("udp", fmt.Sprintf(":%d", ourPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	out := json.NewEncoder(os.Stdout)
	m, err := New(Config{Port: ourPort, Changed: func(st State) { out.Encode(st) }, Network: func() (n Network, err error) {
		st, err := new(link.System).State()
		for _, i := range st.Interfaces {
			if i.Index == st.Route4.If {
				n.Route4 = Route{st.Route4.Via, st.Route4.Source, i.Name, i.Index}
			}
			if i.Index == st.Route6.If {
				n.Route6 = Route{st.Route6.Via, st.Route6.Source, i.Name, i.Index}
			}
		}
		return n, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	m.Run(ctx)
}

// reaches reports whether the host answers a packet from the internet.
func (r *rig) reaches(to netip.AddrPort) bool {
	r.t.Helper()
	c := r.command("internet", os.Args[0], "-test.run", "^TestMiniupnpd$")
	c.Env = append(os.Environ(), inInternet+"="+to.String())
	return c.Run() == nil
}

// reachesSoon reports whether it answers within a few seconds.
func (r *rig) reachesSoon(to netip.AddrPort) bool {
	r.t.Helper()
	for late := time.Now().Add(10 * time.Second); time.Now().Before(late); {
		if r.reaches(to) {
			return true
		}
	}
	return false
}

// runInternet is the process on the internet: it sends packets to a place, and fails if none
// comes back.
func runInternet(t *testing.T, to string) {
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		c.Write([]byte("hello"))
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := c.Read(make([]byte, 9)); err == nil && n == 5 {
			return
		}
	}
	t.Fatal("no answer")
}

// left returns the router's rules about our port, after some patience. One does not count:
// miniupnpd 2.3.1 refuses to remove an IPv6 pinhole of PCP that was renewed, as if the
// nonce were another one, and removes it when its time is over.
func (r *rig) left(k Kind) (rules string) {
	r.t.Helper()
	for late := time.Now().Add(3 * time.Second); time.Now().Before(late); time.Sleep(50 * time.Millisecond) {
		out, err := r.command("router", "nft", "list", "ruleset").Output()
		if err != nil {
			r.t.Fatal(err)
		}
		rules = ""
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "8737") && !(k == PCP && strings.Contains(line, "0x20010db8000100000000000000000002")) {
				rules += line
			}
		}
		if rules == "" {
			return ""
		}
	}
	return rules
}

// TestMiniupnpd: packets from the internet get in through what miniupnpd opens, and no
// longer after the end.
func TestMiniupnpd(t *testing.T) {
	if to := os.Getenv(inInternet); to != "" {
		runInternet(t, to)
		return
	}
	if os.Getenv(inHost) != "" {
		runHost(t)
		return
	}
	for _, c := range []struct {
		input string
		want  Kind
	}{{"accept", PCP}, {"udp dport 5351 reject", UPnP}} {
		t.Run(string(c.want), func(t *testing.T) {
			r := newRig(t)
			r.wire(c.input)
			places := []netip.AddrPort{netip.MustParseAddrPort("5.6.7.8:8737"), netip.MustParseAddrPort("[2001:db8:1::2]:8737")}
			kill := r.miniupnpd()
			for _, to := range places {
				if r.reaches(to) {
					t.Errorf("%s was open before", to)
				}
			}
			m := r.host()
			st := m.until("two mappings", func(st State) bool { return len(st.Mappings()) == 2 })
			for i, got := range st.Mappings() {
				if got.Kind != c.want || got.External != places[i] || got.Doubtful || st.IPv4.Code != Mapped || st.IPv6[0].Code != Mapped {
					t.Errorf("%+v", st)
				}
				if !r.reachesSoon(places[i]) {
					t.Errorf("no packet from the internet reaches %s", places[i])
				}
			}
			if c.want == PCP { // which announces restarts
				kill()
				r.miniupnpd()
				for _, to := range places {
					if !r.reachesSoon(to) {
						t.Errorf("no packet from the internet reaches %s after a restart of the router", to)
					}
				}
			}
			m.stop()
			if err := <-m.ended; err != nil {
				t.Errorf("the host's process: %v", err)
			}
			if left := r.left(c.want); left != "" {
				t.Errorf("something is left: %s", left)
			}
		})
	}
}
