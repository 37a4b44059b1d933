package link

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSingles: on each rung trains of one packet leave as single datagrams, even many in
// one Write to one endpoint. A packet socket at the other end shows what was on the link.
func TestSingles(t *testing.T) {
	const size, packets, headers = 1000, 8, 20 + 8
	for _, rung := range allRungs {
		t.Run(rung, func(t *testing.T) {
			a, b := cable(t)
			var fd int
			var err error
			b.do(func() {
				network := uint16(unix.ETH_P_IP>>8 | unix.ETH_P_IP<<8&0xff00)
				if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
					return
				}
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: 0})
			})
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			from, dst := a.listen(&System{Rung: rung}, 0), b.listen(&System{Rung: rung}, 0)
			w, in := from.NewWriter(), newInbox(t, dst)
			e := on(neighbour[0], dst.LocalPort(), a.index())
			seen := func() (lengths []int) {
				for buf := make([]byte, ReadSize); ; {
					n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
					if err != nil {
						return lengths
					}
					if n > size/2 && buf[9] == unix.IPPROTO_UDP {
						lengths = append(lengths, n)
					}
				}
			}
			buf := filled(packets*size, 1)
			var singles []Train
			for off := 0; off < len(buf); off += size {
				singles = append(singles, Train{Buf: buf[off : off+size], Size: size, Endpoint: e})
			}
			for _, c := range []struct {
				ts   []Train
				want []int // on rung gso
			}{
				{singles, slices.Repeat([]int{size + headers}, packets)},
				{[]Train{{Buf: buf, Size: size, Endpoint: e}}, []int{packets*size + headers}},
			} {
				write(t, w, c.ts...)
				for off := 0; off < len(buf); off += size {
					in.want(buf[off : off+size])
				}
				if rung != RungGSO {
					c.want = slices.Repeat([]int{size + headers}, packets)
				}
				if got := seen(); !slices.Equal(got, c.want) {
					t.Errorf("%d trains: datagrams of %v bytes on the link, want %v", len(c.ts), got, c.want)
				}
			}
		})
	}
}
