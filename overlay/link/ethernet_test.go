package link

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"anodenet/anode/wire"
)

// frameOf returns a packet as a frame, padded as short frames are.
func frameOf(p []byte) []byte {
	f := append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
	return append(f, make([]byte, max(0, 46-len(f)))...)
}

func TestCutEthernet(t *testing.T) {
	p := bytes.Repeat([]byte("p"), wire.MinPacket)
	for name, c := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"padded":        {frameOf(p), true},
		"whole":         {append([]byte{0, byte(len(p))}, p...), true},
		"empty":         {nil, false},
		"half a length": {[]byte{0}, false},
		"too short":     {frameOf(p[1:]), false},
		"cut off":       {append([]byte{0, byte(len(p) + 1)}, p...), false},
		"no packet":     {make([]byte, 46), false},
	} {
		got, ok := cutEthernet(c.frame)
		if ok != c.ok || ok && !bytes.Equal(got, p) {
			t.Errorf("%s: %d bytes, %v", name, len(got), ok)
		}
	}
}

// A broadcast and an ordinary address are their endpoints' addresses again.
func TestAtMAC(t *testing.T) {
	for _, mac := range [][6]byte{{2, 0, 0, 1, 2, 3}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {}} {
		if ep := AtMAC(mac, 7); ep.MAC() != mac || ep.If != 7 || ep.Place() != ep || !ep.Addr.Addr().IsLinkLocalUnicast() {
			t.Errorf("%x: %+v", mac, ep)
		}
	}
}

// FuzzEthernetFrames reads frames of any content, as a batch, and checks what comes of them
// against frames that are read one by one.
func FuzzEthernetFrames(f *testing.F) {
	p := bytes.Repeat([]byte("p"), 40)
	f.Add(slices.Concat(frameOf(p), frameOf(p), frameOf(p[:30])), uint8(46), uint16(0))
	f.Add(slices.Concat(frameOf(p), []byte{0xff, 0xff}), uint8(46), uint16(2))
	f.Fuzz(func(t *testing.T, b []byte, size uint8, who uint16) {
		stride := int(size) + 1
		var frames []etherFrame
		var want [][]byte
		for off := 0; off < len(b) && len(frames) < etherBatch; off += stride {
			at := b[off:min(off+stride, len(b))]
			mac := [6]byte{2, 5: byte(who >> (len(frames) % 16) & 1)}
			if who>>15 == 1 && len(frames)%3 == 0 {
				mac[0] = 1 // a group
			}
			frames = append(frames, etherFrame{size: len(at), from: mac})
			if got, ok := cutEthernet(at); ok && mac[0]&1 == 0 {
				want = append(want, append(bytes.Clone(got), mac[5]))
			}
		}
		ts, bad := etherTrains(nil, bytes.Clone(b), stride, frames, 3)
		var got [][]byte
		for _, x := range ts {
			for off, end := 0, 0; off < len(x.Buf); off = end {
				end = x.next(off)
				got = append(got, append(bytes.Clone(x.Buf[off:end]), x.Endpoint.MAC()[5]))
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) || bad != len(frames)-len(want) {
			t.Errorf("%d packets and %d bad frames of %d, want %d packets", len(got), bad, len(frames), len(want))
		}
	})
}
