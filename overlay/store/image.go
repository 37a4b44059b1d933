package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
)

// bbolt maps the file into memory and trusts it: a damaged page ends the process, makes it
// read foreign memory, or keeps it in a loop. So the whole file is read once before bbolt
// gets it, by an image, which trusts nothing:
//
//	page      id[8] flags[2] count[2] overflow[4], then count elements, then their data
//	branch    pos[4] keysize[4] page[8]             pos counts from the element
//	leaf      flags[4] pos[4] keysize[4] valuesize[4]
//	bucket    the value of a leaf with flag 1: root[8] sequence[8]; root 0: a page follows
//	header    pages 0 and 1: magic[4] version[4] pagesize[4] flags[4] root[8] sequence[8]
//	          freelist[8] pages[8] transaction[8] checksum[8]; the later valid one counts
//	freelist  count page numbers; a count of 0xffff: the real one comes first, 8 bytes
//
// Numbers have the byte order of the machine.
const (
	pageHeader  = 16
	elementSize = 16
	bucketSize  = 16
	headerSize  = 64
	magic       = 0xED0CDAED
	version     = 2
	flagBranch  = 0x01
	flagLeaf    = 0x02
	flagFree    = 0x10
	flagBucket  = 0x01

	minPageSize = 1 << 10
	maxPageSize = 1 << 24
	maxNode     = 1 << 26 // bytes of a page with those that continue it
	maxDepth    = 32      // of a tree: it has at least two branches at each page
	maxNesting  = 2       // logs/NAME
	maxFaults   = 16      // that are kept
)

var order = binary.NativeEndian

// header is what counts of pages 0 and 1.
type header struct {
	pageSize                           int64
	root, freelist, pages, transaction uint64
}

// image is the file as it lies on the disk.
type image struct {
	r    io.ReaderAt
	size int64
	header

	free      bitmap // pages that the freelist has
	freeKnown bool
	sound     bitmap // pages that were read, header pages and freelist among them
	lost      bitmap // pages in use that cannot be read
	faults    []error
	roots     []string // the buckets that are in no other

	visit func(path [][]byte, key, value []byte) // takes what was read
}

// bitmap is a set of pages.
type bitmap []byte

func (b bitmap) has(id uint64) bool { return b[id/8]&(1<<(id%8)) != 0 }
func (b bitmap) set(id uint64)      { b[id/8] |= 1 << (id % 8) }

// readImage reads a file of some size, and calls visit with each key and value outside of
// damaged pages. Both are valid during the call only.
func readImage(r io.ReaderAt, size int64, visit func(path [][]byte, key, value []byte)) *image {
	im := &image{r: r, size: size, visit: visit}
	if err := im.readHeader(); err != nil {
		im.fault(err)
		return im
	}
	n := im.pages/8 + 1
	im.free, im.sound, im.lost = make(bitmap, n), make(bitmap, n), make(bitmap, n)
	im.sound.set(0)
	im.sound.set(1)
	if err := im.readFreelist(); err != nil {
		im.fault(fmt.Errorf("the list of free pages: %w", err))
	}
	im.tree(im.root, nil, nil, nil, 0)
	im.findLost()
	im.checkRoots()
	return im
}

// checkRoots notes a bucket that is missing, which may go by a damaged name. A file without
// any is new.
func (im *image) checkRoots() {
	for _, name := range buckets {
		if len(im.roots) > 0 && !slices.Contains(im.roots, string(name)) {
			im.fault(fmt.Errorf("%q is missing", name))
		}
	}
}

// bucketsAt reports whether the values at a path are buckets, as far as that is known.
func bucketsAt(path [][]byte) (yes, known bool) {
	switch {
	case len(path) == 0:
		return true, true
	case bytes.Equal(path[0], bucketLogs), bytes.Equal(path[0], bucketTables):
		return len(path) == 1, true
	}
	return false, slices.ContainsFunc(buckets, func(name []byte) bool { return bytes.Equal(name, path[0]) })
}

func (im *image) fault(err error) {
	if len(im.faults) < maxFaults {
		im.faults = append(im.faults, err)
	}
}

// readHeader chooses a header as bbolt does.
func (im *image) readHeader() error {
	first, err0 := im.headerAt(0)
	second, err1 := im.headerAt(first.pageSize)
	if err0 != nil {
		for at := int64(minPageSize); at <= maxPageSize && err1 != nil; at *= 2 {
			if second, err1 = im.headerAt(at); err1 == nil && second.pageSize != at {
				err1 = errors.New("header 2 is at the wrong place")
			}
		}
	}
	switch {
	case err0 != nil && err1 != nil:
		return err0
	case err0 != nil:
		im.fault(err0)
	case err1 != nil:
		im.fault(err1)
	case first.pageSize != second.pageSize:
		im.fault(errors.New("the headers differ"))
	}
	im.header = first
	if err0 != nil || err1 == nil && second.transaction > first.transaction {
		im.header = second
	}
	if have := uint64(im.size / im.pageSize); im.pages > have {
		im.fault(fmt.Errorf("it has %d of %d pages", have, im.pages))
		im.pages = max(have, 2)
	}
	return nil
}

func (im *image) headerAt(at int64) (h header, err error) {
	var b [pageHeader + headerSize]byte
	if im.size == 0 {
		return h, errors.New("it is empty")
	}
	if _, err := im.r.ReadAt(b[:], at); err != nil {
		return h, fmt.Errorf("its header cannot be read: %w", cutOff(err))
	}
	m := b[pageHeader:]
	sum := fnv.New64a()
	sum.Write(m[:headerSize-8])
	if order.Uint32(m) != magic || order.Uint32(m[4:]) != version || order.Uint64(m[headerSize-8:]) != sum.Sum64() {
		return h, errors.New("its header is damaged")
	}
	h = header{int64(order.Uint32(m[8:])), order.Uint64(m[16:]), order.Uint64(m[32:]), order.Uint64(m[40:]), order.Uint64(m[48:])}
	if h.pageSize < minPageSize || h.pageSize > maxPageSize || h.pageSize&(h.pageSize-1) != 0 || h.pages < 4 || h.pages > 1<<48 {
		return h, errors.New("its header makes no sense")
	}
	return h, nil
}

// cutOff says in words that a file ends too early.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the file is cut off")
	}
	return err
}

// page reads a page and those that continue it.
func (im *image) page(id uint64) ([]byte, error) {
	if id < 2 || id >= im.pages {
		return nil, errors.New("there is no such page")
	}
	var h [pageHeader]byte
	if _, err := im.r.ReadAt(h[:], int64(id)*im.pageSize); err != nil {
		return nil, cutOff(err)
	}
	more := uint64(order.Uint32(h[12:]))
	if order.Uint64(h[:]) != id || more >= im.pages-id || (int64(more)+1)*im.pageSize > maxNode {
		return nil, errors.New("it is damaged")
	}
	for i := id; i <= id+more; i++ {
		if im.sound.has(i) || im.free.has(i) {
			return nil, errors.New("it is used twice")
		}
	}
	b := make([]byte, (int64(more)+1)*im.pageSize)
	if _, err := im.r.ReadAt(b, int64(id)*im.pageSize); err != nil {
		return nil, cutOff(err)
	}
	return b, nil
}

// keep marks the pages of b as sound.
func (im *image) keep(id uint64, b []byte) {
	for i := range uint64(int64(len(b)) / im.pageSize) {
		im.sound.set(id + i)
	}
}

func (im *image) readFreelist() error {
	b, err := im.page(im.freelist)
	if err != nil {
		return err
	}
	n, ids := uint64(order.Uint16(b[10:])), b[pageHeader:]
	if n == 0xFFFF {
		n, ids = order.Uint64(ids), ids[8:]
	}
	if order.Uint16(b[8:]) != flagFree || n > uint64(len(ids)/8) {
		return errors.New("it is damaged")
	}
	free := make(bitmap, len(im.free))
	last := uint64(1)
	for i := range n {
		id := order.Uint64(ids[8*i:])
		if id <= last || id >= im.pages || id >= im.freelist && id-im.freelist < uint64(int64(len(b))/im.pageSize) {
			return errors.New("it is damaged")
		}
		free.set(id)
		last = id
	}
	im.keep(im.freelist, b)
	im.free, im.freeKnown = free, true
	return nil
}

// findLost lists the pages that are in use and were not read: those that are damaged, and
// those that only a damaged page leads to. Without the freelist these cannot be told from
// free pages, which may hold what was removed long ago.
func (im *image) findLost() {
	if !im.freeKnown {
		return
	}
	n := 0
	for id := uint64(2); id < im.pages; id++ {
		if !im.free.has(id) && !im.sound.has(id) {
			im.lost.set(id)
			n++
		}
	}
	if n > 0 {
		im.fault(fmt.Errorf("%d pages cannot be read", n))
	}
}

// element is one of a page's, checked.
type element struct {
	flags      uint32
	key, value []byte
	child      uint64
}

// elements reads those of a page. Its first key must be low, which is the key that the branch above has
// for the page, and all must ascend and stay below high; nil: nothing is above. bbolt finds the element
// of a page that it has changed by this key. If the keys differ, it adds a second element and leaves the
// first one behind, which then leads to a page that is free.
func elements(b []byte, low, high []byte) (list []element, leaf bool, err error) {
	flags, n := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	leaf = flags == flagLeaf
	if !leaf && flags != flagBranch || n == 0 && (!leaf || low != nil) || pageHeader+n*elementSize > len(b) {
		return nil, leaf, errors.New("it is damaged")
	}
	data := int64(pageHeader + n*elementSize)
	for i := range n {
		at := int64(pageHeader + i*elementSize)
		e := b[at : at+elementSize]
		var x element
		var pos, size, value int64
		if leaf {
			x.flags = order.Uint32(e)
			pos, size, value = int64(order.Uint32(e[4:])), int64(order.Uint32(e[8:])), int64(order.Uint32(e[12:]))
		} else {
			x.child = order.Uint64(e[8:])
			pos, size = int64(order.Uint32(e)), int64(order.Uint32(e[4:]))
		}
		pos += at
		if pos < data || size == 0 || pos+size+value > int64(len(b)) || x.flags&^flagBucket != 0 {
			return nil, leaf, errors.New("it is damaged")
		}
		x.key, x.value = b[pos:pos+size:pos+size], b[pos+size:pos+size+value:pos+size+value]
		if i == 0 && low != nil && !bytes.Equal(x.key, low) {
			return nil, leaf, errors.New("its first key is not the one that leads to it")
		}
		if i > 0 && bytes.Compare(list[i-1].key, x.key) >= 0 || high != nil && bytes.Compare(x.key, high) >= 0 {
			return nil, leaf, errors.New("its keys are out of order")
		}
		list = append(list, x)
	}
	return list, leaf, nil
}

// tree reads the tree of a bucket below a page.
func (im *image) tree(id uint64, path [][]byte, low, high []byte, depth int) {
	b, err := im.page(id)
	var list []element
	var leaf bool
	if err == nil {
		list, leaf, err = elements(b, low, high)
	}
	if err == nil && depth >= maxDepth {
		err = errors.New("it is too deep")
	}
	if err != nil {
		im.fault(fmt.Errorf("page %d: %w", id, err))
		if id >= 2 && id < im.pages && !im.sound.has(id) && !im.free.has(id) {
			im.lost.set(id)
		}
		return
	}
	im.keep(id, b)
	if leaf {
		im.leaf(list, path)
		return
	}
	for i, e := range list {
		end := high
		if i+1 < len(list) {
			end = list[i+1].key
		}
		im.tree(e.child, path, e.key, end, depth+1)
	}
}

// leaf takes the values of a leaf, and reads the buckets in it.
func (im *image) leaf(list []element, path [][]byte) {
	want, known := bucketsAt(path)
	for _, e := range list {
		is := e.flags&flagBucket != 0
		if known && is != want {
			im.fault(fmt.Errorf("the value of %q is of another kind", e.key))
			continue
		}
		if !is {
			im.visit(path, e.key, e.value)
			continue
		}
		if len(path) == 0 {
			im.roots = append(im.roots, string(e.key))
		}
		below := append(path[:len(path):len(path)], e.key)
		if err := im.bucket(e.value, below); err != nil {
			im.fault(fmt.Errorf("bucket %q: %w", e.key, err))
		}
	}
}

func (im *image) bucket(value []byte, path [][]byte) error {
	if len(value) < bucketSize || len(path) > maxNesting {
		return errors.New("it is damaged")
	}
	if root := order.Uint64(value); root != 0 {
		im.tree(root, path, nil, nil, 0)
		return nil
	}
	inline := value[bucketSize:]
	if len(inline) < pageHeader {
		return errors.New("it is damaged")
	}
	list, leaf, err := elements(inline, nil, nil)
	if err == nil && !leaf {
		err = errors.New("it is damaged")
	}
	if err != nil {
		return err
	}
	im.leaf(list, path)
	return nil
}

// scanLost calls f with the bytes of each run of lost pages.
func (im *image) scanLost(f func(b []byte)) {
	for id := uint64(2); id < im.pages; id++ {
		if !im.lost.has(id) {
			continue
		}
		n := uint64(1)
		for id+n < im.pages && im.lost.has(id+n) && int64(n)*im.pageSize < maxNode {
			n++
		}
		b := make([]byte, int64(n)*im.pageSize)
		got, _ := im.r.ReadAt(b, int64(id)*im.pageSize) // what cannot be read is lost
		f(b[:got])
		id += n - 1
	}
}
