package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"anodenet/anode/wire"
)

// Whatever the packets are, and however the stream of bytes is cut, each comes out whole, in
// order, in trains that a Writer takes.
func TestFramesComeOutAsTheyWentIn(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var sent [][]byte
		var b []byte
		for range 1 + random.IntN(20) {
			size := wire.MinPacket + random.IntN(1400)
			train := Train{Size: size}
			for k := range 1 + random.IntN(8) {
				n := size
				if k > 0 && random.IntN(8) == 0 {
					n = wire.MinPacket + random.IntN(size-wire.MinPacket+1)
				}
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(random.Uint32())
				}
				sent = append(sent, p)
				train.Buf = append(train.Buf, p...)
				if n < size {
					break
				}
			}
			if random.IntN(4) == 0 {
				b = append(b, 0, 0)
			}
			b = appendFrames(b, &train)
		}
		var got [][]byte
		buf, have := make([]byte, largeBuffer), 0
		for len(b) > 0 {
			n := copy(buf[have:], b[:1+random.IntN(len(b))])
			b, have = b[n:], have+n
			ts, used, err := cutFrames(nil, buf[:have], 1<<16, Endpoint{})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range ts {
				if len(x.Buf) > MaxTrain || x.Packets() > MaxSegments {
					t.Fatalf("a train of %d packets, %d bytes", x.Packets(), len(x.Buf))
				}
				for p := x.Buf; len(p) > 0; p = p[min(x.Size, len(p)):] {
					got = append(got, bytes.Clone(p[:min(x.Size, len(p))]))
				}
			}
			have = copy(buf, buf[used:have])
		}
		if have != 0 || len(got) != len(sent) {
			t.Fatalf("%d packets of %d, %d bytes left", len(got), len(sent), have)
		}
		for i := range got {
			if !bytes.Equal(got[i], sent[i]) {
				t.Fatalf("packet %d differs", i)
			}
		}
	}
}

func TestFramesThatAreNone(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01", "\x00\x01x", "SSH-2.0-"} {
		_, _, err := cutFrames(nil, []byte(text), smallBuffer-frameHeader, Endpoint{})
		if !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzCutFrames(f *testing.F) {
	f.Add(appendFrames(nil, &Train{Buf: make([]byte, 100), Size: 40}), 4094)
	f.Add([]byte{0, 0, 0, 30, 1}, 1<<16)
	f.Fuzz(func(t *testing.T, b []byte, most int) {
		want := 0 // bytes of packets
		for in := b; len(in) >= 2; {
			n := int(binary.BigEndian.Uint16(in))
			if n > most || n > 0 && n < wire.MinPacket || len(in) < 2+n {
				break
			}
			want += n
			in = in[2+n:]
		}
		ts, used, _ := cutFrames(nil, bytes.Clone(b), most, Endpoint{})
		got := 0
		for _, x := range ts {
			got += len(x.Buf)
		}
		if used > len(b) || got != want {
			t.Errorf("used %d of %d, %d bytes of packets, want %d", used, len(b), got, want)
		}
	})
}
