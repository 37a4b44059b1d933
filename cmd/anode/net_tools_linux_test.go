package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// random gives bytes that a seed determines.
func random(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// echoUDP sends back what comes to a UDP port of the host, with the traffic class
// that it came with left to the system's default.
func (h *host) echoUDP(port int) {
	c := h.udp(port)
	go func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return // closed by the end of the test
			}
			c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
}

// echoTCP sends back what comes to a TCP port of the host.
func (h *host) echoTCP(port int) {
	l := h.listen(port)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed by the end of the test
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

// transfer sends n random bytes over one TCP connection, and compares the SHA-256 of
// what went and what came. It gives the rate in Gbit/s.
func transfer(t *testing.T, from, to *host, n int) float64 {
	t.Helper()
	l := to.listen(0)
	defer l.Close()
	type result struct {
		sum string
		err error
	}
	came := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			came <- result{"", err}
			return
		}
		defer c.Close()
		sum := sha256.New()
		_, err = io.Copy(sum, c)
		came <- result{fmt.Sprintf("%x", sum.Sum(nil)), err}
	}()
	c, err := from.dial(to, l.Addr().(*net.TCPAddr).Port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	start := time.Now()
	sum := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte(random(uint64(n), 32))), int64(n))
	if _, err := io.CopyBuffer(struct{ io.Writer }{c}, io.TeeReader(source, sum), make([]byte, 1<<17)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	select {
	case r := <-came:
		if want := fmt.Sprintf("%x", sum.Sum(nil)); r.err != nil || r.sum != want {
			t.Errorf("%s to %s: SHA-256 %s, %v; want %s", from.name, to.name, r.sum, r.err, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s to %s: the end did not come in a minute", from.name, to.name)
	}
	return float64(n) * 8 / time.Since(start).Seconds() / 1e9
}

// exchange sends a packet on a connected or raw socket and waits for its echo.
func exchange(c net.Conn, packet []byte) error {
	if _, err := c.Write(packet); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(dialWait))
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err == nil && !bytes.Equal(buf[:n], packet) {
		return fmt.Errorf("%d bytes came back of %d, or others", n, len(packet))
	}
	return err
}

// dialUDP makes a connected UDP socket.
func (h *host) dialUDP(to *host, port int) *net.UDPConn {
	h.t.Helper()
	c, err := in(h, func() (*net.UDPConn, error) {
		return net.DialUDP("udp6", &net.UDPAddr{IP: h.ula[:]}, &net.UDPAddr{IP: to.ula[:], Port: port})
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

// everySize sends UDP of every payload size that fits the adapter's MTU, there and
// back.
func everySize(t *testing.T, from, to *host, step int) {
	t.Helper()
	const mtu, headers = 1440, 40 + 8
	const port = 17 // which no test takes for another echo
	to.echoUDP(port)
	c := from.dialUDP(to, port)
	data := random(1, mtu)
	for size := 0; ; size += step {
		size = min(size, mtu-headers)
		if err := exchange(c, data[:size]); err != nil {
			t.Errorf("UDP of %d bytes: %v", size, err)
		}
		if t.Failed() || size == mtu-headers {
			break
		}
	}
}

// capture is a running tcpdump.
type capture struct {
	*process
	file string
}

// capture begins to record what crosses an interface.
func (h *host) capture(dev string) *capture {
	h.t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		need(h.t, "tcpdump")
	}
	file := filepath.Join(h.dir, dev+".pcap")
	c := &capture{h.start("tcpdump", "-i", dev, "-s0", "-U", "--immediate-mode", "-B", "65536", "-Z", "root", "-w", file), file}
	within(h.t, dialWait, "tcpdump", func() bool { return strings.Contains(c.output(), "listening on") })
	return c
}

// stop gives the packets, with the header of their link, if it has one.
func (c *capture) stop() (packets [][]byte) {
	c.t.Helper()
	// What was sent is delivered already; tcpdump has to read it.
	last := int64(-1)
	within(c.t, dialWait, "tcpdump to write", func() bool {
		<-time.After(100 * time.Millisecond)
		info, err := os.Stat(c.file)
		same := err == nil && info.Size() == last
		if err == nil {
			last = info.Size()
		}
		return same
	})
	c.end(syscall.SIGTERM)
	b, err := os.ReadFile(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	const fileHeader, packetHeader, length = 24, 16, 8
	for b = b[fileHeader:]; len(b) >= packetHeader; {
		n := binary.LittleEndian.Uint32(b[length:])
		packets = append(packets, b[packetHeader:packetHeader+n])
		b = b[packetHeader+n:]
	}
	return packets
}

// proc reads a value of the daemon's from a file of /proc/PID: kB, or a number.
func (h *host) proc(file, key string) (sum int) {
	h.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/%s", h.node.cmd.Process.Pid, file))
	if err != nil || len(files) == 0 {
		h.t.Fatalf("the daemon of %s has no %s: %v\n%s", h.name, file, err, h.node.output())
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		for _, line := range strings.Split(string(b), "\n") {
			if rest, ok := strings.CutPrefix(line, key+":"); ok {
				n, err := strconv.Atoi(strings.Fields(rest)[0])
				if err != nil {
					h.t.Fatal(err)
				}
				sum += n
			}
		}
	}
	return sum
}

// resident is the daemon's memory in kB.
func (h *host) resident() int { return h.proc("status", "VmRSS") }

// kernel gives the host's counters of IPv6, TCP and UDP, as nstat names them.
func (h *host) kernel() map[string]int {
	h.t.Helper()
	m := map[string]int{}
	for _, file := range []string{"snmp6", "snmp", "netstat"} {
		b, err := in(h, func() ([]byte, error) { return os.ReadFile("/proc/thread-self/net/" + file) })
		if err != nil {
			h.t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if file == "snmp6" { // name value
			for _, l := range lines {
				f := strings.Fields(l)
				m[f[0]], _ = strconv.Atoi(f[1])
			}
			continue
		}
		for i := 0; i+1 < len(lines); i += 2 { // Group: names, Group: values
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < len(names); j++ {
				m[strings.TrimSuffix(names[0], ":")+names[j]], _ = strconv.Atoi(values[j])
			}
		}
	}
	return m
}

// sound checks that no kernel found a packet of the adapter's damaged.
func sound(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		k := h.kernel()
		for _, name := range []string{"TcpInCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors", "Ip6InHdrErrors", "Ip6InTruncatedPkts"} {
			if n, ok := k[name]; !ok || n != 0 {
				t.Errorf("%s: %s is %d", h.name, name, n)
			}
		}
	}
}

// linkLocal tells what the system adds by itself, a while after a link comes up.
func linkLocal(s string) bool { return strings.Contains(s, "fe80::") || strings.Contains(s, "ff00::") }

// network lists what a daemon puts into the host's kernel: interfaces, addresses,
// routes and rules.
func (h *host) network() (all []string) {
	h.t.Helper()
	for _, list := range []string{"-brief link", "-brief addr", "-4 route show table all", "-6 route show table all", "-4 rule", "-6 rule"} {
		for _, line := range strings.Split(strings.TrimSpace(h.run(append([]string{"ip"}, strings.Fields(list)...)...)), "\n") {
			f := strings.Fields(line)
			switch {
			case list == "-brief link":
				line = f[0] // the rest says how the cable is
			case list == "-brief addr":
				f = slices.Delete(f, 1, 2)
				line = strings.Join(slices.DeleteFunc(f, linkLocal), " ")
			case linkLocal(line):
				continue
			}
			all = append(all, line)
		}
	}
	return all
}
