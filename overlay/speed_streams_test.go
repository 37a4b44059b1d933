package overlay_test

import (
	"io"
	"net"
	"testing"
)

// BenchmarkStream copies 64 MiB between two nodes of this process, by sockets on loopback. The
// CPU time of both ends is in it.
func BenchmarkStream(b *testing.B) {
	server, client, stop := twoNodes()
	defer stop()
	l, err := server.Listen("tcp", ":80")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			go func(c net.Conn) {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}(c)
		}
	}()
	c, err := client.Dial(b.Context(), "tcp", "server:80")
	if err != nil {
		b.Fatal(err)
	}
	const size = 64 << 20
	b.SetBytes(size)
	buf := make([]byte, 256<<10)
	for b.Loop() {
		for range size / len(buf) {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.StopTimer()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Read(buf); err != io.EOF {
		b.Fatal(err)
	}
}
