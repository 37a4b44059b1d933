package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"math/rand/v2"
	"sync"
	"testing"
)

// maker makes an AEAD or fails the test.
type maker func(testing.TB, [KeySize]byte) *AEAD

// both runs a test with what New makes and with what NewStandard makes.
func both(t *testing.T, test func(*testing.T, maker)) {
	t.Run("standard", func(t *testing.T) {
		test(t, func(t testing.TB, key [KeySize]byte) *AEAD { _, std := pair(t, key); return std })
	})
	if !available() {
		t.Log("no VAES and VPCLMULQDQ here: New is NewStandard")
		return
	}
	t.Run("new", func(t *testing.T) {
		test(t, func(t testing.TB, key [KeySize]byte) *AEAD { fast, _ := pair(t, key); return fast })
	})
}

// pair makes both AEADs of a key.
func pair(t testing.TB, key [KeySize]byte) (fast, std *AEAD) {
	t.Helper()
	fast, err := New(&key)
	if err != nil {
		t.Fatal(err)
	}
	std, err = NewStandard(&key)
	if err != nil {
		t.Fatal(err)
	}
	return fast, std
}

// reference is crypto/cipher's AEAD of a key.
func reference(t testing.TB, key [KeySize]byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key[:])
	if err != nil {
		t.Fatal(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// source makes the same random bytes every time.
func source() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{'g', 'c', 'm'}) }

func random(r *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	r.Read(b)
	return b
}

// longest is past several chunks, and every kind of tail, of the kernel.
const longest = 2100

// A bench is room to seal and open in at any alignment, with bytes around it that
// must stay as they are.
type bench struct{ room [longest + 3*64]byte }

const canary = 0xa5

var canaries = bytes.Repeat([]byte{canary}, len(bench{}.room))

// place returns n bytes of room that begin at the alignment, with no spare capacity
// after them, and refills all with canaries.
func (b *bench) place(align, n int) []byte {
	copy(b.room[:], canaries)
	at := 64 + align
	return b.room[at : at+n : at+n]
}

// intact reports whether nothing around the n bytes at the alignment was written.
func (b *bench) intact(align, n int) bool {
	at := 64 + align
	return bytes.HasPrefix(canaries, b.room[:at]) && bytes.HasPrefix(canaries, b.room[at+n:])
}

// compare seals and opens a text at the alignments, apart and in place, and compares
// with the reference's result.
func compare(t *testing.T, a *AEAD, in, out *bench, nonce, ad, text, want []byte, from, to int) {
	t.Helper()
	n := len(text)
	check := func(what string, got, want []byte, b *bench, align int) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes at %d to %d, ad %d: got %x, want %x", what, n, from, to, len(ad), got, want)
		}
		if len(got) > 0 && &got[0] != &b.room[64+align] {
			t.Fatalf("%s: %d bytes: not in the room given", what, n)
		}
		if !b.intact(align, len(want)) {
			t.Fatalf("%s: %d bytes at %d to %d, ad %d: wrote around dst", what, n, from, to, len(ad))
		}
	}
	src, dst := in.place(from, n), out.place(to, n+Overhead)
	copy(src, text)
	check("Seal", a.Seal(dst[:0], nonce, src, ad), want, out, to)
	if !bytes.Equal(src, text) {
		t.Fatal("Seal wrote to the text")
	}
	buf := out.place(to, n+Overhead)
	copy(buf, text)
	check("Seal in place", a.Seal(buf[:0], nonce, buf[:n], ad), want, out, to)

	src, dst = in.place(from, n+Overhead), out.place(to, n)
	copy(src, want)
	got, err := a.Open(dst[:0], nonce, src, ad)
	if err != nil {
		t.Fatalf("Open: %d bytes, ad %d: %v", n, len(ad), err)
	}
	check("Open", got, text, out, to)
	if !bytes.Equal(src, want) {
		t.Fatal("Open wrote to the ciphertext")
	}
	buf = out.place(to, n+Overhead)
	copy(buf, want)
	got, err = a.Open(buf[:0], nonce, buf, ad)
	if err != nil {
		t.Fatalf("Open in place: %d bytes, ad %d: %v", n, len(ad), err)
	}
	if tag := buf[n:]; !bytes.Equal(tag, want[n:]) {
		t.Fatal("Open in place wrote to the tag")
	}
	for i := range buf[n:] {
		buf[n+i] = canary
	}
	check("Open in place", got, text, out, to)
}

// Every length, at every alignment of both sides, and with every length of ad.
func TestEveryLength(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		t.Parallel()
		r := source()
		key := [KeySize]byte(random(r, KeySize))
		a, ref := make(t, key), reference(t, key)
		in, out := new(bench), new(bench)
		for n := range longest + 1 {
			nonce, text, ad := random(r, NonceSize), random(r, n), random(r, 64)
			want := ref.Seal(nil, nonce, text, ad[:26])
			for align := range 32 {
				compare(t, a, in, out, nonce, ad[:26], text, want, align, (align*5+n)%32)
			}
			first, step := n%4, 4 // a quarter of the ad lengths for most texts
			if n <= 300 {
				first, step = 0, 1
			}
			for l := first; l <= len(ad); l += step {
				want := ref.Seal(nil, nonce, text, ad[:l])
				compare(t, a, in, out, nonce, ad[:l], text, want, n%32, l%32)
			}
		}
	})
}

// Every pair of alignments, at lengths that use all of the kernel.
func TestEveryAlignment(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		t.Parallel()
		r := source()
		key := [KeySize]byte(random(r, KeySize))
		a, ref := make(t, key), reference(t, key)
		in, out := new(bench), new(bench)
		for _, n := range []int{1, 15, 64, 255, 512 + 255, 576, 1400} {
			nonce, text, ad := random(r, NonceSize), random(r, n), random(r, 26)
			want := ref.Seal(nil, nonce, text, ad)
			for from := range 32 {
				for to := range 32 {
					compare(t, a, in, out, nonce, ad, text, want, from, to)
				}
			}
		}
	})
}

// Long texts, and ad as long: the counter passes one, two and nearly three bytes.
func TestLong(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		r := source()
		key := [KeySize]byte(random(r, KeySize))
		a, ref := make(t, key), reference(t, key)
		for _, n := range []int{8900, 1<<16 + 7, 1<<20 + 31, 1<<24 + 129} {
			nonce, text, ad := random(r, NonceSize), random(r, n), random(r, n/3)
			want := ref.Seal(nil, nonce, text, ad)
			if !bytes.Equal(a.Seal(nil, nonce, text, ad), want) {
				t.Errorf("Seal: %d bytes: differs", n)
			}
			if got, err := a.Open(nil, nonce, want, ad); err != nil || !bytes.Equal(got, text) {
				t.Errorf("Open: %d bytes: differs, %v", n, err)
			}
		}
	})
}

// Many keys: the schedule and the powers of the hash key.
func TestKeys(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		r := source()
		for range 2000 {
			key := [KeySize]byte(random(r, KeySize))
			nonce, text, ad := random(r, NonceSize), random(r, 300), random(r, 26)
			got, want := make(t, key).Seal(nil, nonce, text, ad), reference(t, key).Seal(nil, nonce, text, ad)
			if !bytes.Equal(got, want) {
				t.Fatalf("key %x: got %x, want %x", key, got, want)
			}
		}
	})
}

// Whatever bit of whatever part is changed, Open fails and leaves zeros.
func TestForged(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		t.Parallel()
		r := source()
		a := make(t, [KeySize]byte(random(r, KeySize)))
		for _, n := range []int{0, 1, 16, 47, 300, 1400} {
			nonce, text, ad := random(r, NonceSize), random(r, n), random(r, 26)
			sealed := a.Seal(nil, nonce, text, ad)
			zeros := bytes.Repeat([]byte{0}, n)
			for name, part := range map[string][]byte{"nonce": nonce, "ad": ad, "ciphertext and tag": sealed} {
				for bit := range len(part) * 8 {
					part[bit/8] ^= 1 << (bit % 8)
					dst := bytes.Repeat([]byte{canary}, n+1)
					got, err := a.Open(dst[:0], nonce, sealed, ad)
					part[bit/8] ^= 1 << (bit % 8)
					if err != ErrOpen || got != nil {
						t.Fatalf("%d bytes: bit %d of the %s flipped: Open says %x, %v", n, bit, name, got, err)
					}
					if !bytes.Equal(dst[:n], zeros) || dst[n] != canary {
						t.Fatalf("%d bytes: after a forgery dst has %x", n, dst)
					}
				}
			}
			for cut := 1; cut <= len(sealed); cut++ {
				if _, err := a.Open(nil, nonce, sealed[:len(sealed)-cut], ad); err != ErrOpen {
					t.Fatalf("%d bytes less %d: Open says %v", n, cut, err)
				}
			}
			if _, err := a.Open(nil, nonce, sealed, ad); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// dst's content is kept, with and without room behind it.
func TestAppends(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		a, nonce := make(t, [KeySize]byte{1}), bytes.Repeat([]byte{2}, NonceSize)
		text := []byte("a text")
		want := append([]byte("head"), a.Seal(nil, nonce, text, nil)...)
		for _, room := range []int{0, 3, 96} {
			dst := append(bytes.Repeat([]byte{0}, 100)[:0:4+room], "head"...)
			sealed := a.Seal(dst, nonce, text, nil)
			if !bytes.Equal(sealed, want) {
				t.Errorf("room %d: Seal: %x, want %x", room, sealed, want)
			}
			opened, err := a.Open(dst, nonce, want[4:], nil)
			if err != nil || string(opened) != "heada text" {
				t.Errorf("room %d: Open: %q, %v", room, opened, err)
			}
		}
	})
}

func TestPanics(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		a := make(t, [KeySize]byte{})
		nonce, buf := bytes.Repeat([]byte{0}, NonceSize), bytes.Repeat([]byte{0}, 200)
		panics := func(name string, f func()) {
			t.Helper()
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}
		panics("Seal, short nonce", func() { a.Seal(nil, nonce[1:], nil, nil) })
		panics("Open, short nonce", func() { a.Open(nil, nonce[1:], buf, nil) })
		panics("Seal, long nonce", func() { a.Seal(nil, buf[:13], nil, nil) })
		panics("Seal one on", func() { a.Seal(buf[1:1], nonce, buf[:50], nil) })
		panics("Seal one back", func() { a.Seal(buf[:0], nonce, buf[1:50], nil) })
		panics("Seal, tag over text", func() { a.Seal(buf[:0], nonce, buf[60:110], nil) })
		panics("Seal over ad", func() { a.Seal(buf[:0], nonce, buf[:50], buf[65:70]) })
		panics("Open one on", func() { a.Open(buf[1:1], nonce, buf[:50], nil) })
		panics("Open one back", func() { a.Open(buf[:0], nonce, buf[1:50], nil) })
		panics("Open over ad", func() { a.Open(buf[:0], nonce, buf[:50], buf[33:70]) })

		panics("Open over the tag", func() { a.Open(buf[50:50], nonce, buf[:66], nil) })

		// What lies beside it is no overlap.
		a.Seal(buf[:0], nonce, buf[66:116], buf[116:])
	})
}

func TestNoAllocation(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		a := make(t, [KeySize]byte{})
		buf, ad := bytes.Repeat([]byte{0}, 1416), bytes.Repeat([]byte{0}, 26)
		n := testing.AllocsPerRun(100, func() {
			nonce := [NonceSize]byte{1}
			a.Seal(buf[:0], nonce[:], buf[:1400], ad)
			if _, err := a.Open(buf[:0], nonce[:], buf, ad); err != nil {
				t.Error(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func TestConcurrent(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		a := make(t, [KeySize]byte{3})
		text := bytes.Repeat([]byte("text"), 250)
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				nonce := [NonceSize]byte{byte(i)}
				for range 200 {
					sealed := a.Seal(nil, nonce[:], text, nil)
					if got, err := a.Open(nil, nonce[:], sealed, nil); err != nil || !bytes.Equal(got, text) {
						t.Errorf("goroutine %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func FuzzAEAD(f *testing.F) {
	r := source()
	for _, n := range []int{0, 1, 31, 256, 800} {
		f.Add(random(r, KeySize), random(r, NonceSize), random(r, n), random(r, n/10), uint8(n))
	}
	f.Fuzz(func(t *testing.T, key, nonce, text, ad []byte, align uint8) {
		var k [KeySize]byte
		copy(k[:], key)
		nonce = append(nonce, make([]byte, NonceSize)...)[:NonceSize]
		a, ref := func() (*AEAD, cipher.AEAD) { fast, _ := pair(t, k); return fast, reference(t, k) }()
		want := ref.Seal(nil, nonce, text, ad)

		at := int(align % 64)
		dst := make([]byte, at, at+len(want))
		got := a.Seal(dst, nonce, text, ad)[at:]
		if !bytes.Equal(got, want) {
			t.Fatalf("Seal: %x, want %x", got, want)
		}
		opened, err := a.Open(got[:0], nonce, got, ad)
		if err != nil || !bytes.Equal(opened, text) {
			t.Fatalf("Open: %x, %v, want %x", opened, err, text)
		}
		// What is not sealed is rejected by both or, hardly ever, by none.
		_, err = a.Open(nil, nonce, text, ad)
		_, errRef := ref.Open(nil, nonce, text, ad)
		if (err == nil) != (errRef == nil) {
			t.Fatalf("Open of any bytes: %v, reference %v", err, errRef)
		}
	})
}
