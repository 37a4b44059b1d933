package stream

import "sync"

// chunkSize is the unit in which buffers take memory. A stream with nothing in its buffers
// takes none.
const chunkSize = 8 << 10

// pool has chunks and rings of packets that are not in use, for all streams of a Host. The garbage collector empties it.
type pool struct{ p, rings sync.Pool }

func (p *pool) get() *[chunkSize]byte {
	if c, ok := p.p.Get().(*[chunkSize]byte); ok {
		return c
	}
	return new([chunkSize]byte)
}

// ring returns a ring of so many packets or more. What is in it is of no meaning.
func (p *pool) ring(packets int) []packet {
	if r, ok := p.rings.Get().(*[]packet); ok && len(*r) >= packets {
		return *r
	}
	return make([]packet, packets)
}

// chunks is a queue of bytes.
type chunks struct {
	list []*[chunkSize]byte
	head int // offset of the first byte in the first chunk
	size int
}

// write appends b.
func (c *chunks) write(p *pool, b []byte) {
	for len(b) > 0 {
		at := (c.head + c.size) % chunkSize
		if at == 0 && c.head+c.size == len(c.list)*chunkSize {
			c.list = append(c.list, p.get())
		}
		n := copy(c.list[len(c.list)-1][at:], b)
		c.size += n
		b = b[n:]
	}
}

// copyAt copies the bytes from an offset on to b; they exist.
func (c *chunks) copyAt(b []byte, offset int) {
	for offset += c.head; len(b) > 0; {
		n := copy(b, c.list[offset/chunkSize][offset%chunkSize:])
		b = b[n:]
		offset += n
	}
}

// drop removes the first n bytes, which exist.
func (c *chunks) drop(p *pool, n int) {
	c.head += n
	c.size -= n
	for c.head >= chunkSize {
		p.p.Put(c.list[0])
		c.list[0] = nil
		c.list = c.list[1:]
		c.head -= chunkSize
	}
	if c.size == 0 {
		for _, x := range c.list {
			p.p.Put(x)
		}
		*c = chunks{}
	}
}

// read moves bytes from the front to b.
func (c *chunks) read(p *pool, b []byte) int {
	n := min(len(b), c.size)
	c.copyAt(b[:n], 0)
	c.drop(p, n)
	return n
}
