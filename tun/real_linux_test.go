package tun

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

func hosts(t testing.TB, offload Offload) (a, b *host) {
	a, b = newHost(t, "an0", 1, offload), newHost(t, "an1", 2, offload)
	pump(t, a, b, true)
	return a, b
}

func TestPing(t *testing.T) {
	a, b := hosts(t, OffloadAuto)
	t.Log(a.dev.Offload())
	t.Log(a.run("ping", "-6", "-c", "3", "-i", "0.01", "-W", "2", b.ula.String()))
	t.Log(a.dev.Counters(), b.dev.Counters())
}

// TestTransfer moves 64 MiB by the kernels' TCP and compares hashes.
func TestTransfer(t *testing.T) {
	for _, offload := range []Offload{OffloadAuto, OffloadOff} {
		t.Run(string(offload), func(t *testing.T) {
			a, b := hosts(t, offload)
			transfer(t, a, b, 64<<20)
			for _, h := range []*host{a, b} {
				s := h.snmp()
				t.Log(s["TcpInCsumErrors"], s["Udp6InCsumErrors"], s["Icmp6InCsumErrors"], s["TcpRetransSegs"], h.dev.Counters())
			}
		})
	}
}

func transfer(t testing.TB, a, b *host, size int64) {
	t.Helper()
	var l net.Listener
	b.do(func() {
		var err error
		if l, err = net.Listen("tcp6", "[::]:0"); err != nil {
			t.Error(err)
		}
	})
	if l == nil {
		t.FailNow()
	}
	defer l.Close()
	got := make(chan [32]byte)
	go func() {
		var sum [32]byte
		defer func() { got <- sum }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		h := sha256.New()
		n, err := io.Copy(h, c)
		if err != nil || n != size {
			t.Errorf("received %d of %d bytes: %v", n, size, err)
		}
		h.Sum(sum[:0])
	}()
	a.do(func() {
		c, err := net.Dial("tcp6", net.JoinHostPort(b.ula.String(), strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			t.Error(err)
			l.Close()
			return
		}
		defer c.Close()
		h := sha256.New()
		r := rand.NewChaCha8([32]byte{1})
		if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(r, size)); err != nil {
			t.Error(err)
		}
		c.(*net.TCPConn).CloseWrite()
		if sum := <-got; sum != [32]byte(h.Sum(nil)) {
			t.Error("the hashes differ")
		}
	})
}
