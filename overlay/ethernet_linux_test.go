package overlay

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

// bareEnv makes this test binary a node in a namespace of its own, for TestEthernetAlone.
const bareEnv = "ANODE_TEST_BARE"

// bareNode is a node in a process and network namespace of its own, which do what is asked on a
// pipe, line by line.
type bareNode struct {
	t       *testing.T
	name    string
	ask     io.WriteCloser
	answers *bufio.Scanner
	pid     int
	address anode.Address
}

// startBare starts one.
func startBare(t *testing.T, name string) *bareNode {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestEthernetAlone$")
	c.Env = append(os.Environ(), bareEnv+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	c.Stderr = os.Stderr
	ask, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	n := &bareNode{t: t, name: name, ask: ask, answers: bufio.NewScanner(answers), pid: c.Process.Pid}
	t.Cleanup(func() {
		ask.Close() // it ends then
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	return n
}

// do has the node do something, and returns its answer.
func (n *bareNode) do(words ...any) string {
	n.t.Helper()
	fmt.Fprintln(n.ask, words...)
	if !n.answers.Scan() {
		n.t.Fatalf("%s: no answer to %v", n.name, words)
	}
	return n.answers.Text()
}

// beBare is the process of startBare.
func beBare(in io.Reader, out io.Writer) error {
	var n *Node
	dev := newFakeDevice()
	dev.strictly = true // it refuses what comes from who was not added
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for lines := bufio.NewScanner(in); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch words[0] {
		case "up": // with all that a node needs; with a word more, it shows itself to friends alone
			var err error
			if n, err = bareUp(dev, len(words) > 1); err != nil {
				return err
			}
			go func() { ended <- n.Run(ctx) }()
			fmt.Fprintln(out, n.address)
		case "add", "ping":
			a, err := anode.ParseAddress(words[1])
			if err == nil && words[0] == "add" {
				_, err = n.AddPeer(ctx, Peer{Address: a})
			} else if err == nil {
				var r PingReply
				limit, stop := context.WithTimeout(ctx, 5*time.Second)
				if r, err = n.Ping(limit, a, MaxPing); err == nil {
					err = fmt.Errorf("%d bytes by %s", r.Size, r.Path.Endpoint)
				}
				stop()
			}
			fmt.Fprintln(out, err)
		case "say":
			a, err := anode.ParseAddress(words[1])
			if err == nil {
				dev.out <- outgoing{a.ULA(), [][]byte{ip6(strings.Repeat(words[2], 1300/len(words[2])))}}
			}
			fmt.Fprintln(out, err)
		case "heard": // the words that came, or those that are awaited for some seconds
			count := func() (n int) {
				for _, d := range dev.delivered() {
					if strings.Contains(d.msg, strings.Repeat(words[1], 1300/len(words[1]))) {
						n++
					}
				}
				return n
			}
			for tries := 0; tries < 1000 && count() == 0 && len(words) > 2; tries++ {
				time.Sleep(5 * time.Millisecond)
			}
			fmt.Fprintln(out, count())
		case "counter":
			fmt.Fprintln(out, n.mux.Counters()[words[1]])
		}
	}
	cancel()
	if n == nil {
		return nil
	}
	return <-ended
}

// bareUp makes the node of a namespace in which there is an interface lan, and no address.
func bareUp(dev *fakeDevice, friends bool) (*Node, error) {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/lan/disable_ipv6", []byte("1"), 0); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if out, err := exec.Command("ip", "link", "set", "lan", "up").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ip: %w: %s", err, out)
	}
	id, err := anode.NewIdentity(0)
	if err != nil {
		return nil, err
	}
	b, _, err := book.Open(id.Address(), book.NewMemory(), nil)
	if err != nil {
		return nil, err
	}
	return New(Config{Identity: id, Book: b, Network: new(link.System), Port: link.Port, Ethernet: []string{"lan"}, Version: "test",
		Discovery: Discovery{Friends: friends}, Device: dev, Queues: []Queue{dev}, Incoming: &fakeIncoming{fakeDevice: dev}})
}

// Nodes on a network without any IP address find each other by beacons, and packets of full size
// go there and back. Who was not added gets nothing. Frames of others do no harm.
func TestEthernetAlone(t *testing.T) {
	if os.Getenv(bareEnv) != "" {
		if err := beBare(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces take root")
		}
		t.Skip("network namespaces take root")
	}
	bridge := newBridge(t)
	a, b, c := startBare(t, "a"), startBare(t, "b"), startBare(t, "c")
	for _, n := range []*bareNode{a, b, c} {
		bridge.join(n)
		var err error
		if n.address, err = anode.ParseAddress(n.do("up")); err != nil {
			t.Fatal(err)
		}
	}
	flood := bridge.flood()
	a.do("add", b.address)
	b.do("add", a.address)
	c.do("add", a.address)
	c.do("add", b.address)
	reaches := func(from, to *bareNode) string {
		t.Helper()
		want, got := fmt.Sprintf("%d bytes by eth:", MaxPing), ""
		for range 6 { // the kernel drops frames for some time after a link is up
			if got = from.do("ping", to.address); strings.HasPrefix(got, want) {
				return got
			}
		}
		t.Fatalf("%s to %s: %s, want %s", from.name, to.name, got, want)
		return ""
	}
	t.Log(reaches(a, b))
	reaches(b, a)
	a.do("say", b.address, "letter")
	c.do("ping", b.address) // so that it has a session, as strangers may
	c.do("say", b.address, "spam")
	c.do("ping", b.address) // comes later than what was said
	if got := b.do("heard", "letter", "await"); got != "1" {
		t.Errorf("b heard a %s times", got)
	}
	if got := b.do("heard", "spam"); got != "0" {
		t.Errorf("b heard c, which it has not added, %s times", got)
	}
	if got := c.do("heard", "letter"); got != "0" {
		t.Errorf("c heard what a said to b, %s times", got)
	}
	close(flood.stop)
	if err := <-flood.ended; err != nil {
		t.Error(err)
	}
	if got := a.do("counter", "rx_ethernet_bad"); got == "0" {
		t.Error("no frames of the flood arrived")
	}
	reaches(a, b)

	bridge.ip("link set port2 down")
	if got := a.do("ping", b.address); strings.Contains(got, " bytes by ") {
		t.Errorf("without a cable: %s", got)
	}
	bridge.ip("link set port2 up")
	reaches(a, b)
	reaches(b, a)
}

// Those who show themselves to friends alone are found by frames as well, which have the MAC as their source.
func TestEthernetFriends(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces take root")
		}
		t.Skip("network namespaces take root")
	}
	bridge := newBridge(t)
	nodes := []*bareNode{startBare(t, "a"), startBare(t, "b"), startBare(t, "stranger")}
	for _, n := range nodes {
		bridge.join(n)
		var err error
		if n.address, err = anode.ParseAddress(n.do("up", "friends")); err != nil {
			t.Fatal(err)
		}
	}
	a, b, stranger := nodes[0], nodes[1], nodes[2]
	a.do("add", b.address)
	b.do("add", a.address)
	stranger.do("add", a.address)
	got := ""
	for range 6 { // the kernel drops frames for some time after a link is up
		if got = a.do("ping", b.address); strings.Contains(got, " bytes by eth:") {
			break
		}
	}
	if !strings.Contains(got, " bytes by eth:") {
		t.Errorf("a to b: %s", got)
	}
	if got := stranger.do("ping", a.address); strings.Contains(got, " bytes by ") {
		t.Errorf("the stranger to a: %s", got)
	}
}

// bridge is a namespace with a bridge that joins those of nodes.
type bridge struct {
	t     *testing.T
	work  chan func()
	ports int
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{t: t, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		made <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range b.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(b.work) })
	b.ip("link add bridge type bridge", "link set bridge up")
	return b
}

// ip runs ip(8) with the words of each line.
func (b *bridge) ip(lines ...string) {
	b.t.Helper()
	for _, line := range lines {
		var out []byte
		var err error
		b.do(func() { out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput() })
		if err != nil {
			b.t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

func (b *bridge) do(f func()) {
	done := make(chan struct{})
	b.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// join gives a node a cable to the bridge.
func (b *bridge) join(n *bareNode) {
	b.t.Helper()
	b.ports++
	port := fmt.Sprintf("port%d", b.ports)
	b.ip(fmt.Sprintf("link add %s type veth peer name lan netns %d", port, n.pid),
		fmt.Sprintf("link set %s master bridge", port), fmt.Sprintf("link set %s up", port))
}

// flooding sends frames of our type that hold no packets, to everyone.
type flooding struct {
	stop  chan struct{}
	ended chan error
}

func (b *bridge) flood() *flooding {
	b.t.Helper()
	var fd, index int
	var err error
	b.do(func() {
		var i []byte
		if i, err = exec.Command("ip", "-o", "link", "show", "bridge").Output(); err != nil {
			return
		}
		fmt.Sscan(string(i), &index)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	frames := binary.NativeEndian.Uint16([]byte{0x88, 0xb5})
	to := &unix.SockaddrLinklayer{Protocol: frames, Ifindex: index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	x := &flooding{stop: make(chan struct{}), ended: make(chan error, 1)}
	go func() {
		defer unix.Close(fd)
		noise := []byte(strings.Repeat("\x05\xdcnoise", 100))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-x.stop:
				x.ended <- nil
				return
			case <-tick.C:
			}
			for range 10 {
				if err := unix.Sendto(fd, noise, 0, to); err != nil {
					x.ended <- err
					return
				}
			}
		}
	}()
	return x
}
