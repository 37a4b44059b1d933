package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// sample is a database as a node has it after some time, and what it holds.
type sample struct {
	bits    bool // single bits are damaged: that of a field's name is not noticed
	file    []byte
	entries map[anode.Address]book.Entry
	removed map[anode.Address]bool
}

// tempDir is a directory in memory where there is one: these tests make many files, each
// of which waits for the disk.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "anode-store")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// makeSample makes a database with peers, some of which were removed, and with logs.
func makeSample(t testing.TB, peers int) sample {
	t.Helper()
	dir := tempDir(t)
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := sample{entries: map[anode.Address]book.Entry{}, removed: map[anode.Address]bool{}}
	ep := wire.UDP(netip.MustParseAddrPort("192.0.2.1:8737"))
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.PutMeta("peer-id", []byte{7}))
	for i := range peers {
		e := book.Entry{Address: newAddress(), Name: fmt.Sprint("n", i), Endpoints: []wire.Endpoint{ep}, Since: when, Added: true, Blocked: i%7 == 0}
		check(s.Write(book.Batch{Put: []book.Entry{e}, Learned: map[anode.Address][]wire.Endpoint{e.Address: {ep}}}))
		if i%5 == 4 {
			check(s.Write(book.Batch{Delete: []anode.Address{e.Address}}))
			r.removed[e.Address] = true
		} else {
			r.entries[e.Address] = e
		}
		check(s.AppendLog("info2.adapter", [][]byte{fmt.Appendf(nil, `{"text":"%d %s"}`, i, strings.Repeat("x", 90))}, 1000))
	}
	check(s.Close())
	r.file, err = os.ReadFile(filepath.Join(dir, fileName))
	check(err)
	return r
}

// opened is what became of a damaged file.
type opened struct {
	repair   *Repair
	problems []error
	entries  []book.Entry
}

// open opens a directory with a damaged file as a daemon does, and uses all of it.
func (r sample) open(t *testing.T, file []byte) (o opened) {
	t.Helper()
	dir := tempDir(t)
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	m, damage := Read(dir)
	if m == nil || damage != nil && !errors.Is(damage, ErrDamaged) {
		t.Fatal(damage)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, file) {
		t.Fatal("a reader changed the file", err)
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o.repair = s.Repaired()
	if (o.repair == nil) != (damage == nil) {
		t.Errorf("a reader says %v, Open %v", damage, o.repair)
	}
	c, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	o.problems, o.entries = c.Problems, c.Entries
	for _, e := range c.Entries {
		if r.removed[e.Address] {
			t.Errorf("%s was removed, and is back", e.Address)
		}
		if want := r.entries[e.Address]; !r.bits && want.Blocked != e.Blocked || !want.Added && e.Added {
			t.Errorf("%s is added %v, blocked %v", e.Address, e.Added, e.Blocked)
		}
	}
	if err := tryUse(s); r.bits && errors.Is(err, ErrDamaged) {
		r.startAgain(t, s, dir) // bbolt noticed it only now
		o.problems = append(o.problems, err)
	} else if err != nil {
		t.Fatal(err)
	}
	if o.repair != nil && len(file) > 0 {
		if b, err := os.ReadFile(o.repair.Kept); err != nil || !bytes.Equal(b, file) {
			t.Error("the damaged file is not kept", err)
		}
	}
	if left := names(t, dir, ".state.db-"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return o
}

// startAgain does what an error about damage says.
func (r sample) startAgain(t *testing.T, s *Store, dir string) {
	t.Helper()
	s.Close()
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Repaired() == nil {
		t.Error("it was not repaired")
	}
	use(t, again)
}

// use does everything that a Store can do.
func use(t testing.TB, s *Store) {
	t.Helper()
	if err := tryUse(s); err != nil {
		t.Fatal(err)
	}
}

func tryUse(s *Store) error {
	e := book.Entry{Address: newAddress(), Since: when, Added: true}
	for i := range 3 {
		_, err := s.TailLog("info2.adapter", 1000)
		err = errors.Join(err,
			s.Write(book.Batch{Put: []book.Entry{e}, Learned: map[anode.Address][]wire.Endpoint{e.Address: nil}}),
			s.AppendLog("info2.adapter", [][]byte{{byte(i)}}, 20),
			s.PutMeta("peer-id", []byte{byte(i)}),
			s.Write(book.Batch{Delete: []anode.Address{e.Address}}))
		if err != nil {
			return err
		}
	}
	return nil
}

func names(t testing.TB, dir, prefix string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			list = append(list, e.Name())
		}
	}
	return list
}

// A file that is cut off is noticed. What is left of its peers stays.
func TestCut(t *testing.T) {
	r := makeSample(t, 100)
	best := 0
	for size := 0; size < len(r.file); size += 512 {
		o := r.open(t, r.file[:size])
		if o.repair == nil { // the end is a reserve of bbolt's
			if len(o.entries) != len(r.entries) || len(o.problems) > 0 {
				t.Fatalf("cut to %d of %d bytes: nothing is said", size, len(r.file))
			}
			continue
		}
		if o.repair.Peers != len(o.entries) {
			t.Errorf("%d peers were read, and %d reported", len(o.entries), o.repair.Peers)
		}
		best = max(best, len(o.entries))
	}
	if best < len(r.entries)/2 {
		t.Errorf("at best %d of %d peers were rescued", best, len(r.entries))
	}
}

// randomBytes are those of the test below: the same in each run.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 9))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Random bytes cost the records that they hit, and no others; and if they cost one, it is
// said.
func TestRandomBytes(t *testing.T) {
	r := makeSample(t, 100)
	const page, n = 4096, 200
	for seed, offset := range []int{0, 16, 100, 1000, page - n/2} {
		for at := offset; at+n <= len(r.file); at += page {
			file := slices.Clone(r.file)
			copy(file[at:], randomBytes(uint64(seed+at), n))
			o := r.open(t, file)
			lost := len(r.entries) - len(o.entries)
			if lost > 0 && o.repair == nil && len(o.problems) == 0 {
				t.Errorf("bytes at %d cost %d peers, and nothing is said", at, lost)
			}
			// The page of two leaves, or an inner page; never all.
			if lost > 25 {
				t.Errorf("bytes at %d cost %d of %d peers: %v", at, lost, len(r.entries), o.repair)
			}
		}
	}
}

// Other damage: pages that are zero, that are exchanged, that are older ones; a file that
// is something else.
func TestOtherDamage(t *testing.T) {
	r := makeSample(t, 60)
	const page = 4096
	for at := 0; at < len(r.file); at += page {
		zero, swapped := slices.Clone(r.file), slices.Clone(r.file)
		clear(zero[at : at+page])
		copy(swapped[at:at+page], r.file[(at+3*page)%len(r.file):])
		r.open(t, zero)
		r.open(t, swapped)
		r.open(t, append(slices.Clone(r.file[:at]), randomBytes(uint64(at), len(r.file)-at)...))
	}
	for _, file := range [][]byte{nil, {0}, []byte("garbage"), make([]byte, 1<<16), randomBytes(1, 1<<16)} {
		if o := r.open(t, file); o.repair == nil || o.repair.Peers != 0 {
			t.Errorf("%.10q: %v", file, o.repair)
		}
	}
}

// Bits that flip alone are the damage that bbolt notices least. The smaller a database is,
// the more of it is in one page.
func TestFlippedBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, peers := range []int{1, 4, 30} {
		r := makeSample(t, peers)
		r.bits = true
		for range 300 {
			file := slices.Clone(r.file)
			at := rng.IntN(len(file))
			file[at] ^= 1 << rng.IntN(8)
			o := r.open(t, file)
			if len(o.entries) < len(r.entries) && o.repair == nil && len(o.problems) == 0 {
				t.Errorf("byte %d costs peers, and nothing is said", at)
			}
		}
	}
}

// Each name of a bucket and each mark of a bucket in the database may be what is damaged.
func TestDamagedBuckets(t *testing.T) {
	for _, peers := range []int{1, 4, 100} {
		r := makeSample(t, peers)
		for _, name := range append(slices.Clone(buckets), []byte("info2.adapter")) {
			for at := 0; ; at++ {
				i := bytes.Index(r.file[at:], name)
				if i < 0 {
					break
				}
				at += i
				if inWord(r.file, at, len(name)) {
					continue // an address happens to have these letters
				}
				file := slices.Clone(r.file)
				file[at+1] ^= 1
				if o := r.open(t, file); len(o.entries) != len(r.entries) {
					t.Errorf("%q: %d of %d peers are left", name, len(o.entries), len(r.entries))
				}
			}
		}
		for at := pageHeader; at < len(r.file); at += 8 {
			if order.Uint32(r.file[at:]) != flagBucket {
				continue
			}
			file := slices.Clone(r.file)
			file[at] = 0
			r.open(t, file)
		}
	}
}

// inWord reports whether n bytes at an offset are a part of a longer word of base32.
func inWord(file []byte, at, n int) bool {
	letter := func(b byte) bool { return 'a' <= b && b <= 'z' || '2' <= b && b <= '7' }
	return letter(file[at-1]) || letter(file[at+n])
}

// A branch finds its pages by their first keys, so no bit of these may be other than in the page itself:
// bbolt would keep two elements for the page once it changes it.
func TestDamagedBranchKeys(t *testing.T) {
	r := makeSample(t, 100)
	ignore := func([][]byte, []byte, []byte) {}
	im := readImage(bytes.NewReader(r.file), int64(len(r.file)), ignore)
	keys := 0
	for id := uint64(2); id < im.pages; id++ {
		page := r.file[int64(id)*im.pageSize:][:im.pageSize]
		if im.free.has(id) || order.Uint16(page[8:]) != flagBranch {
			continue
		}
		for i := range int(order.Uint16(page[10:])) {
			e := page[pageHeader+i*elementSize:]
			key := e[order.Uint32(e):][:order.Uint32(e[4:])]
			keys++
			for bit := range 8 * len(key) {
				key[bit/8] ^= 1 << (bit % 8)
				if len(readImage(bytes.NewReader(r.file), int64(len(r.file)), ignore).faults) == 0 {
					t.Errorf("page %d, key %d: bit %d is not noticed", id, i, bit)
				}
				key[bit/8] ^= 1 << (bit % 8)
			}
		}
	}
	if keys < 4 {
		t.Errorf("the sample has %d keys in branches", keys)
	}
}

// Damage that appears while the file is open becomes an error, for all that follows too.
func TestDamageWhileOpen(t *testing.T) {
	r := makeSample(t, 100)
	for name, damage := range map[string]func(path string) error{
		"cut to nothing": func(path string) error { return os.Truncate(path, 0) },
		"cut":            func(path string) error { return os.Truncate(path, 8192) },
		"overwritten":    func(path string) error { return overwrite(path, randomBytes(1, len(r.file))) },
		"zero":           func(path string) error { return overwrite(path, make([]byte, len(r.file))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			path := filepath.Join(dir, fileName)
			if err := os.WriteFile(path, r.file, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			for range 4 {
				go func() {
					_, err1 := s.Load()
					_, err2 := s.Meta("peer-id")
					err3 := s.PutMeta("peer-id", []byte{1})
					_, err4 := s.TailLog("info2.adapter", 9)
					err5 := s.AppendLog("info2.adapter", [][]byte{{1}}, 9)
					done <- errors.Join(err1, err2, err3, err4, err5)
				}()
			}
			for range 4 {
				if err := <-done; !errors.Is(err, ErrDamaged) {
					t.Errorf("got %v", err)
				}
			}
			s.Close()
			again, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if again.Repaired() == nil {
				t.Error("the damage is not seen at the next start")
			}
			use(t, again)
			again.Close()
		})
	}
}

func overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Close())
}

// Of damaged files a few are kept, the youngest, and none is overwritten.
func TestKept(t *testing.T) {
	dir := tempDir(t)
	for i := range 6 {
		if err := os.WriteFile(filepath.Join(dir, fileName), fmt.Appendf(nil, "garbage %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	kept := names(t, dir, fileName+".damaged-")
	if len(kept) != keptMax {
		t.Fatalf("kept: %v", kept)
	}
	for _, name := range kept {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(b), "garbage ") {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	// Without hard links it is a copy.
	path := filepath.Join(dir, "copy")
	f, err := os.Open(filepath.Join(dir, kept[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := copyTo(path, f); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(b), "garbage ") {
		t.Errorf("the copy has %q, %v", b, err)
	}
}

// A file that nobody damaged is never taken for damaged, whatever its history.
func TestSound(t *testing.T) {
	dir := tempDir(t)
	s := mustOpen(t, dir)
	rng := rand.New(rand.NewPCG(1, 2))
	var all []anode.Address
	check := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s = mustOpen(t, dir); s.Repaired() != nil {
			t.Fatal(s.Repaired())
		}
	}
	for round := range 60 {
		b := book.Batch{Learned: map[anode.Address][]wire.Endpoint{}}
		for range rng.IntN(80) {
			a := newAddress()
			all = append(all, a)
			e := book.Entry{Address: a, Name: strings.Repeat("n", rng.IntN(60)), Since: when, Added: true}
			for i := range rng.IntN(400) {
				e.Endpoints = append(e.Endpoints, wire.UDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)))
			}
			b.Put = append(b.Put, e)
			b.Learned[a] = e.Endpoints[:min(len(e.Endpoints), 3)]
		}
		for range rng.IntN(90) {
			if len(all) > 0 {
				i := rng.IntN(len(all))
				b.Delete = append(b.Delete, all[i])
				all = slices.Delete(all, i, i+1)
			}
		}
		value := bytes.Repeat([]byte{'x'}, rng.IntN(9000))
		err := errors.Join(s.Write(b), s.AppendLog(fmt.Sprint("log", round%3), [][]byte{value, value}, rng.IntN(30)))
		if err != nil {
			t.Fatal(err)
		}
		if round%3 == 0 {
			check()
		}
	}
	check()
}

// An empty directory, and what a crash leaves.
func TestNew(t *testing.T) {
	dir := tempDir(t)
	old := filepath.Join(dir, ".state.db-1")
	if err := errors.Join(os.WriteFile(old, []byte("half"), 0o600), os.Chtimes(old, when, when)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	if s.Repaired() != nil {
		t.Error(s.Repaired())
	}
	if got := names(t, dir, ""); len(got) != 1 || got[0] != fileName {
		t.Errorf("the directory has %v", got)
	}
	if _, err := Read(dir); !errors.Is(err, ErrStateBusy) {
		t.Errorf("a reader beside a daemon: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that does not exist was opened")
	}
	m, err := Read(filepath.Join(dir, "none"))
	if c, err2 := m.Load(); err != nil || err2 != nil || len(c.Entries) > 0 {
		t.Error(c, err, err2)
	}
}

// Many that start at once use one database, one after the other.
func TestOpenAtOnce(t *testing.T) {
	for name, file := range map[string][]byte{"none": nil, "damaged": []byte("garbage")} {
		t.Run(name, func(t *testing.T) {
			dir := tempDir(t)
			if file != nil {
				if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error)
			const n = 8
			for i := range n {
				go func() {
					for {
						s, err := Open(dir)
						if errors.Is(err, ErrStateBusy) {
							continue
						}
						if err == nil {
							err = errors.Join(s.PutMeta(fmt.Sprint(i), []byte{1}), s.Close())
						}
						done <- err
						return
					}
				}()
			}
			for range n {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			s := mustOpen(t, dir)
			for i := range n {
				if v, err := s.Meta(fmt.Sprint(i)); err != nil || len(v) != 1 {
					t.Errorf("what %d wrote is gone: %v, %v", i, v, err)
				}
			}
			if left := names(t, dir, ".state.db-"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A sound file is opened without a write, so that a full disk does not stop a start.
func TestOpenWritesNothing(t *testing.T) {
	r := makeSample(t, 10)
	dir := tempDir(t)
	path := filepath.Join(dir, fileName)
	if err := os.WriteFile(path, r.file, 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	if _, err := s.Load(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, r.file) {
		t.Error("the file has changed", err)
	}
}

// bbolt itself agrees with what the image says of a repaired file.
func TestRepairedIsConsistent(t *testing.T) {
	r := makeSample(t, 100)
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, fileName), r.file[:len(r.file)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	err := s.db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The Memory does what the Store does.
func TestMemory(t *testing.T) {
	r := makeSample(t, 20)
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, fileName), r.file, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir)
	type store interface {
		book.Store
		AppendLog(string, [][]byte, int) error
		TailLog(string, int) ([][]byte, error)
	}
	see := func(s store) string {
		c, err := s.Load()
		slices.SortFunc(c.Entries, func(a, b book.Entry) int { return bytes.Compare(a.Address[:], b.Address[:]) })
		id, err2 := s.Meta("peer-id")
		text := fmt.Sprint(c, err, id, err2)
		for _, n := range []int{0, 1, 7, 1000} {
			values, err := s.TailLog("info2.adapter", n)
			text += fmt.Sprintf("\n%q %v", values, err)
		}
		return text
	}
	for range 3 {
		if a, b := see(m), see(s); a != b {
			t.Fatalf("memory %s\nstore  %s", a, b)
		}
		for _, s := range []store{m, s} {
			e := book.Entry{Address: anode.Address{1}, Since: when, Added: true}
			err := errors.Join(s.Write(book.Batch{Put: []book.Entry{e}}), s.PutMeta("peer-id", []byte{9}),
				s.AppendLog("info2.adapter", [][]byte{{1}, {2}, {3}}, 8), s.AppendLog("info2.adapter", nil, 8))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(m.AppendLog("info2.adapter", nil, 0), s.AppendLog("info2.adapter", nil, 0)); err != nil || see(m) != see(s) {
		t.Error("after the log was emptied", err)
	}
}

// FuzzOpen opens what is left of a file after bytes were written over it.
func FuzzOpen(f *testing.F) {
	r := makeSample(f, 12)
	f.Add(uint32(4096), []byte{1, 2, 3}, uint32(len(r.file)))
	f.Add(uint32(16), []byte{0}, uint32(9000))
	f.Fuzz(func(t *testing.T, at uint32, bytes []byte, size uint32) {
		file := slices.Clone(r.file)
		if i := int(at); i < len(file) {
			copy(file[i:], bytes)
		}
		dir := tempDir(t)
		if err := os.WriteFile(filepath.Join(dir, fileName), file[:min(int(size), len(file))], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load(); err != nil {
			t.Fatal(err)
		}
		use(t, s)
		s.Close()
	})
}

// FuzzImage reads what is left of a file after bytes were written over it, in memory.
func FuzzImage(f *testing.F) {
	r := makeSample(f, 12)
	f.Add(uint32(4096), []byte{1, 2, 3}, uint32(8000), []byte{9})
	f.Add(uint32(16), []byte{0}, uint32(0), []byte{0})
	f.Fuzz(func(t *testing.T, at1 uint32, bytes1 []byte, at2 uint32, bytes2 []byte) {
		file := slices.Clone(r.file)
		copy(file[int(at1)%len(file):], bytes1)
		copy(file[int(at2)%len(file):], bytes2)
		c := newContent()
		im := readImage(bytes.NewReader(file), int64(len(file)), c.take)
		im.scanLost(c.takeLost)
		for _, e := range c.Entries {
			if _, ok := r.entries[e.Address]; !ok {
				t.Errorf("%s is new", e.Address)
			}
		}
	})
}
