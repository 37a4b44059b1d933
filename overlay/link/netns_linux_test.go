package link

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace of its own, that lives as long as the thread
// which runs do.
type namespace struct {
	t    testing.TB
	tid  int
	work chan func()
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces take root")
		}
		t.Skip("network namespaces take root")
	}
	n := &namespace{t: t, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		n.tid = unix.Gettid()
		made <- err
		for f := range n.work {
			f()
		}
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n.work) })
	return n
}

// do runs f in the namespace. f must not end the test.
func (n *namespace) do(f func()) {
	done := make(chan struct{})
	n.work <- func() {
		defer close(done)
		f()
	}
	<-done
}

// ip runs ip(8) with the words of each line.
func (n *namespace) ip(lines ...string) {
	n.t.Helper()
	for _, line := range lines {
		var out []byte
		var err error
		n.do(func() { out, err = exec.Command("ip", strings.Fields(line)...).CombinedOutput() })
		if err != nil {
			n.t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
}

// listen opens a socket in the namespace.
func (n *namespace) listen(s *System, port uint16) Conn {
	n.t.Helper()
	var c Conn
	var err error
	n.do(func() { c, err = s.Listen(port) })
	return n.closing(c, err)
}

func (n *namespace) listenBeacons() Conn {
	n.t.Helper()
	var c Conn
	var err error
	n.do(func() { c, err = new(System).ListenBeacons() })
	return n.closing(c, err)
}

func (n *namespace) closing(c Conn, err error) Conn {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { c.Close() })
	return c
}

// state looks at the links in the namespace.
func (n *namespace) state(s *System) (st State) {
	n.t.Helper()
	var err error
	n.do(func() { st, err = s.State() })
	if err != nil {
		n.t.Fatal(err)
	}
	return st
}

// index is that of the namespace's interface lan.
func (n *namespace) index() (index int) {
	n.t.Helper()
	list := n.state(new(System)).Interfaces
	for _, i := range list {
		if i.Name == "lan" {
			index = i.Index
		}
	}
	if index == 0 {
		n.t.Fatalf("no interface lan among %+v", list)
	}
	return index
}

// cable joins two new namespaces by a link with nothing but their own subnet on it:
// 10.77.0.1 and .2, fe80::1 and ::2, fd77::1 and ::2.
func cable(t testing.TB) (a, b *namespace) {
	t.Helper()
	a, b = newNamespace(t), newNamespace(t)
	a.ip(fmt.Sprintf("link add lan type veth peer name lan netns %d", b.tid))
	for i, n := range []*namespace{a, b} {
		n.ip("link set lan addrgenmode none",
			fmt.Sprintf("addr add 10.77.0.%d/24 brd 10.77.0.255 dev lan", i+1),
			fmt.Sprintf("addr add fe80::%d/64 dev lan nodad", i+1),
			fmt.Sprintf("addr add fd77::%d/64 dev lan nodad", i+1))
	}
	a.ip("link set lan up")
	b.ip("link set lan up")
	awake(t, a, b)
	awake(t, b, a)
	return a, b
}

// awake waits until multicast gets through from a to b: for about a second after
// link-up the kernel drops it.
func awake(t testing.TB, a, b *namespace) {
	from, to := a.listen(&System{Rung: RungPlain}, 0), b.listen(&System{Rung: RungPlain}, 0)
	stop := make(chan struct{})
	e := on(allNodes, to.LocalPort(), a.index())
	var sender sync.WaitGroup
	sender.Go(func() {
		w := from.NewWriter()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			w.Write([]Train{{Buf: []byte("awake?"), Size: 6, Endpoint: e}})
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	newInbox(t, to).want([]byte("awake?"))
	close(stop)
	sender.Wait()
}
