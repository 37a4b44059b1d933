package tun

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// TestPortable runs the device of other systems over one of channels.
func TestPortable(t *testing.T) {
	c := tuntest.NewChannelTUN()
	p := newPortable(c.TUN())
	d := newDevice(Config{MTU: 1440, Self: alice, Now: time.Now}, opened{name: "x", ports: []port{p}, errors: p, incoming: p, inject: p, close: p.close})
	q := d.Queues()[0]

	out := left(packet(alice, bob, 6<<28, protoUDP, 64, udpBytes(1, 2, []byte("abc"))), protoUDP, ip6Size)
	out = withChecksum(out, protoUDP, ip6Size, udpChecksum)
	if _, ok, err := q.Read(false); ok || err != nil {
		t.Errorf("without waiting: %v, %v", ok, err)
	}
	go func() { c.Outbound <- out }()
	to, ok, err := q.Read(true)
	if to != bob || !ok || err != nil {
		t.Fatalf("Read: %v, %v, %v", to, ok, err)
	}
	m := bytes.Clone(q.Next())
	if !bytes.Equal(m, []byte("\x09\x00\x01\x00\x02abc")) || q.Next() != nil {
		t.Fatalf("message %x", m)
	}

	go func() {
		for range 2 {
			q.Put(bob, true, append(q.Slot(len(m))[:0], m...))
		}
		q.Flush()
		d.NoRoute(bob, m)
	}()
	for range 2 {
		in := withChecksum(packet(bob, alice, 6<<28, protoUDP, 64, udpBytes(1, 2, []byte("abc"))), protoUDP, ip6Size, udpChecksum)
		if got := <-c.Inbound; !bytes.Equal(got, in) {
			t.Errorf("packet\n%x\nwant\n%x", got, in)
		}
	}
	if got := <-c.Inbound; got[6] != protoICMP {
		t.Errorf("error %x", got)
	}

	ended := make(chan error)
	go func() {
		_, _, err := q.Read(true)
		ended <- err
	}()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if d.Offload() != "off" || d.Name() != "x" || d.Counters()["tun_in_messages"] != 2 {
		t.Errorf("%s, %s, %v", d.Offload(), d.Name(), d.Counters())
	}
}
