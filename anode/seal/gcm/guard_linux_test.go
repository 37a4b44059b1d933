package gcm

import (
	"bytes"
	"syscall"
	"testing"
)

// guarded is a page between two that must not be touched.
type guarded []byte

func newGuarded(t *testing.T) guarded {
	t.Helper()
	size := syscall.Getpagesize()
	pages, err := syscall.Mmap(-1, 0, 3*size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(pages); err != nil {
			t.Error(err)
		}
	})
	for _, page := range [][]byte{pages[:size], pages[2*size:]} {
		if err := syscall.Mprotect(page, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return guarded(pages[size : 2*size : 2*size])
}

// take returns b in n bytes at the start or at the very end of the page.
func (g guarded) take(atEnd bool, b []byte) []byte {
	at := 0
	if atEnd {
		at = len(g) - len(b)
	}
	copy(g[at:], b)
	return g[at : at+len(b) : at+len(b)]
}

// With every slice against an unmapped page, before it and behind it, a byte read or
// written out of bounds crashes the test.
func TestGuardPages(t *testing.T) {
	both(t, func(t *testing.T, make maker) {
		r := source()
		key := [KeySize]byte(random(r, KeySize))
		a, ref := make(t, key), reference(t, key)
		pages := [4]guarded{newGuarded(t), newGuarded(t), newGuarded(t), newGuarded(t)}
		for n := range 1200 {
			for _, atEnd := range []bool{false, true} {
				text := random(r, n)
				nonce := pages[0].take(atEnd, random(r, NonceSize))
				ad := pages[1].take(atEnd, random(r, n%70))
				want := ref.Seal(nil, nonce, text, ad)

				src, dst := pages[2].take(atEnd, text), pages[3].take(atEnd, want)
				clear(dst)
				if got := a.Seal(dst[:0], nonce, src, ad); !bytes.Equal(got, want) {
					t.Fatalf("Seal: %d bytes: %x, want %x", n, got, want)
				}
				src, dst = pages[2].take(atEnd, want), pages[3].take(atEnd, text)
				clear(dst)
				if got, err := a.Open(dst[:0], nonce, src, ad); err != nil || !bytes.Equal(got, text) {
					t.Fatalf("Open: %d bytes: %x, %v, want %x", n, got, err, text)
				}
			}
		}
	})
}
