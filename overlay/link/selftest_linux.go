package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// climb chooses the rung for a new socket: the one asked for, or the highest whose
// self-test does not fail.
func (s *System) climb() string {
	if s.Rung != "" && s.Rung != RungAuto {
		return s.Rung
	}
	for _, rung := range []string{RungGSO, RungBatch} {
		err := s.selfTest(rung)
		switch {
		case err == nil:
			return rung
		case errors.Is(err, errUntested):
			s.log().Debug("no self-test possible; the kernel is trusted", "rung", rung, "err", err)
			return rung
		}
		s.log().Warn("self-test failed, going down a rung", "rung", rung, "err", err)
	}
	return RungPlain
}

var loopbackAddr = netip.AddrFrom4([4]byte{127, 0, 0, 1})

var errOtherBytes = errors.New("other packets arrived than were sent")

// errUntested: not even a single packet went over the loopback interface, as in a network
// namespace where it is down. It shows nothing about the rung.
var errUntested = errors.New("no loopback")

// testTimeout bounds each of the self-test's reads. A packet over the loopback
// interface is there when the write returns, except on an overloaded machine.
const testTimeout = 250 * time.Millisecond

// selfTest sends trains from one socket to another over the loopback interface, and
// looks at what arrives: on the rung itself, and as single packets on the one below.
func (s *System) selfTest(rung string) error {
	from, err := s.testSocket(rung)
	if err != nil {
		return err
	}
	defer from.Close()
	for _, r := range []string{rung, RungPlain} {
		to, err := s.testSocket(r)
		if err != nil {
			return err
		}
		err = exchange(from, to)
		to.Close()
		if err != nil {
			return err
		}
	}
	if from.Counters()["tx_split"] != 0 {
		return errors.New("trains only go as single packets")
	}
	return nil
}

func (s *System) testSocket(rung string) (prober, error) {
	c, err := s.open(netip.AddrPortFrom(loopbackAddr, 0), rung, false)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, fmt.Errorf("%w: %w", errUntested, err)
	}
	return c, err
}

// exchange sends a single packet, and then trains whose last packet is as long as
// the others, shorter, and alone.
func exchange(from, to prober) error {
	dst := Endpoint{Addr: netip.AddrPortFrom(loopbackAddr, to.LocalPort())}
	w := from.NewWriter()
	buf := make([]byte, 4*1200)
	for i := range buf {
		buf[i] = byte(i * 7 >> 3)
	}
	first := []Train{{Buf: buf[:32], Size: 32, Endpoint: dst}}
	if _, err := w.Write(first); err != nil {
		return errors.Join(errUntested, err)
	}
	if err := expect(from, to, buf[:32], 32); err != nil {
		return errors.Join(errUntested, err)
	}
	for _, n := range []int{4 * 1200, 2*1200 + 77, 1} {
		if _, err := w.Write([]Train{{Buf: buf[:n], Size: 1200, Endpoint: dst}}); err != nil {
			return err
		}
		if err := expect(from, to, buf[:n], 1200); err != nil {
			return err
		}
	}
	return nil
}

// expect reads packets of size from another socket until they amount to want. Any local
// program can send packets too, which are skipped.
func expect(from, to prober, want []byte, size int) error {
	sender := netip.AddrPortFrom(loopbackAddr, from.LocalPort())
	if err := to.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		return err
	}
	ts := make([]Train, readPackets)
	for len(want) > 0 {
		n, err := to.read(ts)
		if err != nil {
			return err
		}
		for _, t := range ts[:n] {
			if t.Endpoint.Addr != sender {
				continue
			}
			for off, end := 0, 0; off < len(t.Buf); off = end {
				end = t.next(off)
				k := min(size, len(want))
				if !bytes.Equal(t.Buf[off:end], want[:k]) {
					return errOtherBytes
				}
				want = want[k:]
			}
		}
	}
	return nil
}
