package files

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

const hashSize = sha256.Size

// Hash is a SHA-256.
type Hash [hashSize]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// hasher hashes pieces. It keeps its state between them.
type hasher struct{ hash.Hash }

func newHasher() hasher { return hasher{sha256.New()} }

// piece returns the hash of a piece.
func (h hasher) piece(data []byte) (sum Hash) {
	h.Reset()
	h.Write([]byte{0})
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

// tree computes the root over the hashes of pieces, in the space of its height.
type tree struct {
	count uint64
	roots []Hash // of the perfect trees that the count's bits are, widest first
}

// add adds the hash of the next piece.
func (t *tree) add(h Hash) {
	for n := t.count; n&1 == 1; n >>= 1 {
		last := len(t.roots) - 1
		h = join(t.roots[last], h)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, h)
	t.count++
}

// root returns the hash over all that was added.
func (t *tree) root() Hash {
	if t.count == 0 {
		return sha256.Sum256(nil)
	}
	last := len(t.roots) - 1
	h := t.roots[last]
	for i := last - 1; i >= 0; i-- {
		h = join(t.roots[i], h)
	}
	return h
}

// join returns the hash of a node of the tree.
func join(left, right Hash) Hash {
	var b [1 + 2*hashSize]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+hashSize:], right[:])
	return sha256.Sum256(b[:])
}

// piecesOf returns how many pieces a file of a size has.
func piecesOf(size int64) int64 { return (size + pieceSize - 1) / pieceSize }

// pieceLength returns the length of a piece of a file.
func pieceLength(size, piece int64) int {
	return int(min(pieceSize, size-piece*pieceSize))
}
