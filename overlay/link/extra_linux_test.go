package link

import (
	"net/netip"
	"testing"
)

// A second socket has a port of its own, and carries packets both ways.
func TestListenExtra(t *testing.T) {
	s := &System{}
	a, err := ListenExtra(s)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := ListenExtra(s)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.LocalPort() == b.LocalPort() || a.Rung() != RungPlain {
		t.Errorf("ports %d and %d, rung %s", a.LocalPort(), b.LocalPort(), a.Rung())
	}
	to := Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), b.LocalPort())}
	if _, err := a.NewWriter().Write([]Train{{Buf: []byte("extra"), Size: 5, Endpoint: to}}); err != nil {
		t.Fatal(err)
	}
	trains := make([]Train, 4)
	n, err := b.Read(trains)
	if err != nil || n != 1 || string(trains[0].Buf) != "extra" || trains[0].Endpoint.Addr.Port() != a.LocalPort() {
		t.Errorf("%d, %v: %+v", n, err, trains[0])
	}
}
