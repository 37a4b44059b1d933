package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const plenty = 1 << 20

// fragments cuts a message into FRAGs of n bytes each, as they arrive.
func fragments(t *testing.T, id uint32, msg []byte, n int) (out []FragMsg) {
	t.Helper()
	for i := 0; i < len(msg); i += n {
		m, err := ParseFrag(FragMsg{id, uint16(i), uint16(len(msg)), msg[i:min(i+n, len(msg))]}.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

func testMessage(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	b[0] = byte(IP6)
	return b
}

// In every order the message comes out whole with its last part, and nothing is held.
func TestReassemblerOrder(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, seed))
	for _, size := range []int{1, 2, 1199, 1200, 1201, 9000, 65535} {
		msg := testMessage(size)
		for try := range 20 {
			fs := fragments(t, uint32(try), msg, 1200)
			if try > 0 {
				r.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
			}
			var re Reassembler
			for i, f := range fs {
				got, result := re.Add(noon, f, plenty)
				if i < len(fs)-1 {
					if result != FragHeld || got != nil || re.Held() != size {
						t.Fatalf("size %d, part %d: %v, %d held (seed %d)", size, i, result, re.Held(), seed)
					}
					continue
				}
				if result != FragWhole || !bytes.Equal(got, msg) {
					t.Fatalf("size %d: %v (seed %d)", size, result, seed)
				}
			}
			equal(t, re.Held(), 0)
			equal(t, re.Lost(), 0)
		}
	}
}

func TestReassemblerInterleaved(t *testing.T) {
	var re Reassembler
	a, b := fragments(t, 1, testMessage(3000), 1000), fragments(t, 2, testMessage(3000), 1000)
	whole := 0
	for i := range a {
		for _, f := range []FragMsg{a[i], b[i]} {
			if _, result := re.Add(noon, f, plenty); result == FragWhole {
				whole++
			}
		}
	}
	equal(t, whole, 2)
}

func TestReassemblerGivesUp(t *testing.T) {
	part := func(offset, n, total int) FragMsg {
		return FragMsg{7, uint16(offset), uint16(total), bytes.Repeat([]byte{byte(IP6)}, n)}
	}
	for name, c := range map[string]struct {
		parts []FragMsg
		want  FragResult
	}{
		"the same part twice":    {[]FragMsg{part(0, 10, 100), part(0, 10, 100)}, FragOverlap},
		"one byte, at its end":   {[]FragMsg{part(10, 10, 100), part(19, 10, 100)}, FragOverlap},
		"one byte, at its start": {[]FragMsg{part(10, 10, 100), part(1, 10, 100)}, FragOverlap},
		"within":                 {[]FragMsg{part(10, 10, 100), part(12, 1, 100)}, FragOverlap},
		"around":                 {[]FragMsg{part(10, 10, 100), part(9, 12, 100)}, FragOverlap},
		"over a gap":             {[]FragMsg{part(10, 10, 100), part(30, 10, 100), part(20, 11, 100)}, FragOverlap},
		"over two":               {[]FragMsg{part(10, 10, 100), part(30, 10, 100), part(5, 50, 100)}, FragOverlap},
		"a greater total":        {[]FragMsg{part(0, 10, 100), part(10, 10, 101)}, FragTotal},
		"a lesser total":         {[]FragMsg{part(0, 10, 100), part(10, 10, 99)}, FragTotal},
		"nested":                 {[]FragMsg{part(10, 10, 100), {7, 0, 100, []byte{byte(Frag)}}}, FragNested},
	} {
		var re Reassembler
		for i, p := range c.parts {
			msg, result := re.Add(noon, p, plenty)
			want := FragHeld
			if i == len(c.parts)-1 {
				want = c.want
			}
			if result != want || msg != nil {
				t.Errorf("%s: part %d: %v, want %v", name, i, result, want)
			}
		}
		equal(t, re.Held(), 0)
		// What comes late does not begin the message anew, until it has timed out.
		if _, result := re.Add(noon, part(50, 10, 100), plenty); result != FragDead {
			t.Errorf("%s: then %v", name, result)
		}
		if _, result := re.Add(noon.Add(FragTimeout+1), part(50, 10, 100), plenty); result != FragHeld {
			t.Errorf("%s: at last %v", name, result)
		}
	}
}

// A message of single bytes with gaps between them does not cost a list without end.
func TestReassemblerGaps(t *testing.T) {
	var re Reassembler
	for i := range fragGaps {
		if _, result := re.Add(noon, FragMsg{1, uint16(2 * i), 60000, []byte{1}}, plenty); result != FragHeld {
			t.Fatalf("part %d: %v", i, result)
		}
	}
	// One that closes a gap is still welcome.
	if _, result := re.Add(noon, FragMsg{1, 1, 60000, []byte{1}}, plenty); result != FragHeld {
		t.Fatal(result)
	}
	for i, want := range []FragResult{FragHeld, FragGaps, FragDead} {
		if _, result := re.Add(noon, FragMsg{1, uint16(50000 + 2*i), 60000, []byte{1}}, plenty); result != want {
			t.Fatalf("%v, want %v", result, want)
		}
	}
	equal(t, re.Held(), 0)
}

func TestReassemblerOldestGoesFirst(t *testing.T) {
	var re Reassembler
	for id := range uint32(FragMessages + 1) {
		re.Add(noon.Add(time.Duration(id)), FragMsg{id, 0, 100, []byte{1}}, plenty)
	}
	equal(t, re.Held(), FragMessages*100)
	equal(t, re.Lost(), 1)
	for id := uint32(1); id <= FragMessages; id++ {
		if _, result := re.Add(noon, FragMsg{id, 1, 100, make([]byte, 99)}, plenty); result != FragWhole {
			t.Errorf("message %d: %v", id, result)
		}
	}
}

func TestReassemblerRoom(t *testing.T) {
	var re Reassembler
	add := func(id uint32, total, room int) FragResult {
		_, result := re.Add(noon, FragMsg{id, 0, uint16(total), []byte{1}}, room)
		return result
	}
	equal(t, add(1, 100, 99), FragRoom)
	equal(t, re.Held(), 0)
	equal(t, add(1, 100, 100), FragHeld)
	equal(t, add(2, 100, 100), FragHeld)
	equal(t, add(3, 150, 0), FragHeld) // in place of both
	equal(t, re.Held(), 150)
	equal(t, re.Lost(), 2)
	equal(t, add(4, 151, 0), FragRoom)
	equal(t, re.Held(), 150)
	equal(t, add(4, 50, 0), FragHeld)
	equal(t, re.Held(), 50)
	// Parts of what is under way need no room.
	if _, result := re.Add(noon, FragMsg{4, 1, 50, make([]byte, 49)}, 0); result != FragWhole {
		t.Error(result)
	}
}

func TestReassemblerTimeout(t *testing.T) {
	var re Reassembler
	re.Add(noon, FragMsg{1, 0, 100, []byte{1}}, plenty)
	re.Expire(noon.Add(FragTimeout))
	equal(t, re.Held(), 100)
	re.Expire(noon.Add(FragTimeout + 1))
	equal(t, re.Held(), 0)
	equal(t, re.Lost(), 1)
	re.Expire(noon.Add(-time.Hour)) // a clock that jumps back is no reason to worry
	equal(t, re.Lost(), 1)
}

// Whatever comes, the accounts are right, and a whole message has the bytes of its parts.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 4, 2, 0, 1, 0, 2, 4, 2})
	f.Add([]byte{0, 1, 0, 0, 4, 3, 0, 1, 0, 2, 4, 2})
	f.Fuzz(func(t *testing.T, script []byte) {
		var re Reassembler
		now := noon
		const limit = 4000
		for len(script) >= 6 {
			step, id, offset, total, n := script[0], script[1]%8, binary.BigEndian.Uint16(script[2:])%2000, uint16(script[4])*8, script[5]
			script = script[6:]
			now = now.Add(time.Duration(step) * 10 * time.Millisecond)
			b := FragMsg{uint32(id), offset, total, bytes.Repeat([]byte{id + 1}, int(n))}.Append(nil)
			m, err := ParseFrag(b)
			if err != nil {
				continue
			}
			before := re.Held()
			msg, result := re.Add(now, m, max(0, limit-before))
			if re.Held() > limit || re.Held() < 0 {
				t.Fatalf("%d bytes held", re.Held())
			}
			if (msg != nil) != (result == FragWhole) {
				t.Fatalf("%v with %x", result, msg)
			}
			if result == FragWhole && !bytes.Equal(msg, bytes.Repeat([]byte{id + 1}, int(total))) {
				t.Fatalf("message %d: %x", id, msg)
			}
			sum := 0
			for i, p := range re.partial {
				sum += len(p.buf)
				if len(p.spans) > fragGaps || now.Sub(p.since) > FragTimeout {
					t.Fatalf("partial %d: %d spans, since %v", i, len(p.spans), p.since)
				}
			}
			equal(t, re.Held(), sum)
			if len(re.partial) > FragMessages {
				t.Fatalf("%d messages", len(re.partial))
			}
		}
		re.Expire(now.Add(time.Hour))
		equal(t, re.Held(), 0)
	})
}
