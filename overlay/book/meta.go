package book

// Meta returns a value of the node's own, such as its peer ID; nil if there is none.
func (b *Book) Meta(name string) ([]byte, error) { return b.store.Meta(name) }

// Kept reports whether the book is kept beyond this process, and not in memory alone.
func (b *Book) Kept() bool {
	_, memory := b.store.(*Memory)
	return !memory
}

// PutMeta keeps a value of the node's own. It waits for the disk.
func (b *Book) PutMeta(name string, value []byte) error { return b.store.PutMeta(name, value) }
