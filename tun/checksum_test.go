package tun

import (
	"math/rand/v2"
	"testing"
)

// slowSum is RFC 1071 to the letter, a word at a time.
func slowSum(b []byte, initial uint16) uint16 {
	s := uint32(initial)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSum(t *testing.T) {
	// The example of RFC 1071, section 3.
	if s := sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0); s != 0xddf2 {
		t.Errorf("sum of the RFC's example: %04x, want ddf2", s)
	}
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 300)
	for n := range b {
		for range 20 {
			for i := range b {
				b[i] = byte(r.Uint32())
				if r.IntN(3) == 0 {
					b[i] = 0xff // many carries
				}
			}
			initial := uint16(r.Uint32())
			if got, want := sum(b[:n], initial), slowSum(b[:n], initial); got != want {
				t.Fatalf("sum of %d bytes: %04x, want %04x", n, got, want)
			}
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(0xffff))
	f.Fuzz(func(t *testing.T, b []byte, initial uint16) {
		if got, want := sum(b, initial), slowSum(b, initial); got != want {
			t.Fatalf("%04x, want %04x", got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	p := make([]byte, 1400)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		sum(p, 0)
	}
}
