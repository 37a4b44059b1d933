package gcm

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkPairs times New's AEAD against NewStandard's in short bursts that take
// turns, and reports medians, so that other work on the machine disturbs both alike
// and little: ns per packet of both, and the ratio std/new.
func BenchmarkPairs(b *testing.B) {
	const burst = 16 // packets
	for _, size := range []int{64, 576, 1400, 8900} {
		for _, sealing := range []bool{true, false} {
			name := "open"
			if sealing {
				name = "seal"
			}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				fast, std := pair(b, [KeySize]byte{1})
				var times [2][]float64
				text := make([]byte, size)
				rand.Read(text)
				var nonce [NonceSize]byte
				ad := make([]byte, 26)
				sealed := fast.Seal(nil, nonce[:], text, ad)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					for i, a := range []*AEAD{std, fast} {
						start := time.Now()
						for range burst {
							if sealing {
								a.Seal(sealed[:0], nonce[:], text, ad)
							} else if _, err := a.Open(text[:0], nonce[:], sealed, ad); err != nil {
								b.Fatal(err)
							}
						}
						times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/burst)
					}
				}
				slices.Sort(times[0])
				slices.Sort(times[1])
				s, f := times[0][len(times[0])/2], times[1][len(times[1])/2]
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(s, "ns/std")
				b.ReportMetric(f, "ns/new")
				b.ReportMetric(float64(size)/f, "GB/s/new")
				b.ReportMetric(s/f, "ratio")
			})
		}
	}
}
