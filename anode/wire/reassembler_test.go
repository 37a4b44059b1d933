package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"
)

const noon = 12 * time.Hour

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
			held := 0
			for i, f := range fs {
				got, result := re.Add(noon, f, plenty)
				held += len(f.Part) + fragPartCost
				if i < len(fs)-1 {
					if result != FragHeld || got != nil || re.Held() != held {
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

// Of messages that arrive part by part in turns, as many as there are places for arrive.
func TestReassemblerInterleaved(t *testing.T) {
	for _, n := range []int{1, 2, FragMessages, FragMessages + 1, 2 * FragMessages, FragMessages + fragDead} {
		var re Reassembler
		var all [][]FragMsg
		for id := range n {
			all = append(all, fragments(t, uint32(id), testMessage(5000), 1000))
		}
		whole, dead := 0, 0
		for i := range all[0] {
			for id := range n {
				switch _, result := re.Add(noon, all[id][i], plenty); result {
				case FragWhole:
					whole++
				case FragDead:
					dead++
				case FragHeld:
				default:
					t.Errorf("%d messages: part %d of %d: %v", n, i, id, result)
				}
			}
		}
		lost := max(0, n-FragMessages)
		equal(t, whole, n-lost)
		equal(t, re.Lost(), uint64(lost))
		equal(t, dead, lost*(len(all[0])-1))
		equal(t, re.Held(), 0)
	}
}

func TestReassemblerGivesUp(t *testing.T) {
	part := func(offset, n, total int) FragMsg {
		return FragMsg{7, uint16(offset), uint16(total), bytes.Repeat([]byte{byte(IP6)}, n)}
	}
	for name, c := range map[string]struct {
		parts []FragMsg
		want  FragResult
	}{
		"one byte, at its end":   {[]FragMsg{part(10, 10, 100), part(19, 10, 100)}, FragOverlap},
		"one byte, at its start": {[]FragMsg{part(10, 10, 100), part(1, 10, 100)}, FragOverlap},
		"within":                 {[]FragMsg{part(10, 10, 100), part(12, 1, 100)}, FragOverlap},
		"its beginning":          {[]FragMsg{part(10, 10, 100), part(10, 9, 100)}, FragOverlap},
		"its end":                {[]FragMsg{part(10, 10, 100), part(11, 9, 100)}, FragOverlap},
		"more than it":           {[]FragMsg{part(10, 10, 100), part(10, 11, 100)}, FragOverlap},
		"around":                 {[]FragMsg{part(10, 10, 100), part(9, 12, 100)}, FragOverlap},
		"over a gap":             {[]FragMsg{part(10, 10, 100), part(30, 10, 100), part(20, 11, 100)}, FragOverlap},
		"two that touch":         {[]FragMsg{part(10, 10, 100), part(20, 10, 100), part(10, 20, 100)}, FragOverlap},
		"over two":               {[]FragMsg{part(10, 10, 100), part(30, 10, 100), part(5, 50, 100)}, FragOverlap},
		"other bytes":            {[]FragMsg{part(10, 2, 100), {7, 10, 100, []byte{1, 2}}}, FragOverlap},
		"a greater total":        {[]FragMsg{part(0, 10, 100), part(10, 10, 101)}, FragTotal},
		"a lesser total":         {[]FragMsg{part(0, 10, 100), part(10, 10, 99)}, FragTotal},
		"the same, other total":  {[]FragMsg{part(0, 10, 100), part(0, 10, 99)}, FragTotal},
		"nested":                 {[]FragMsg{part(10, 10, 100), {7, 0, 100, []byte{byte(Frag)}}}, FragNested},
		"nested, at first":       {[]FragMsg{{7, 0, 100, []byte{byte(Frag)}}}, FragNested},
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
		equal(t, re.Lost(), 1)
		// What comes late does not begin the message anew, until it has timed out.
		if _, result := re.Add(noon, part(50, 10, 100), plenty); result != FragDead {
			t.Errorf("%s: then %v", name, result)
		}
		if _, result := re.Add(noon+FragTimeout+1, part(50, 10, 100), plenty); result != FragHeld {
			t.Errorf("%s: at last %v", name, result)
		}
	}
}

// An exact repetition changes nothing, in the middle of a message and after its end.
func TestReassemblerRepetition(t *testing.T) {
	var re Reassembler
	msg := testMessage(5000)
	fs := fragments(t, 3, msg, 1200)
	order := []int{2, 0, 4, 1, 3}
	for i, k := range order {
		got, result := re.Add(noon, fs[k], plenty)
		if i == len(order)-1 {
			if result != FragWhole || !bytes.Equal(got, msg) {
				t.Errorf("at last %v", result)
			}
			break
		}
		held := re.Held()
		for _, again := range order[:i+1] {
			if _, result := re.Add(noon, fs[again], 0); result != FragRepeated || re.Held() != held {
				t.Errorf("part %d again: %v", again, result)
			}
		}
	}
	for _, f := range fs {
		if _, result := re.Add(noon, f, plenty); result != FragRepeated {
			t.Errorf("of the whole message: %v", result)
		}
	}
	equal(t, re.Held(), 0)
	equal(t, re.Lost(), 0)
	if re.Idle() {
		t.Error("idle, though a repetition would begin the message anew")
	}
	if re.Expire(noon + FragTimeout + 1); !re.Idle() {
		t.Error("not idle in the end")
	}
}

// Memory is what arrived, not what was announced.
func TestReassemblerGrows(t *testing.T) {
	var re Reassembler
	m := FragMsg{1, 0, 65535, []byte{byte(IP6)}}
	if _, result := re.Add(noon, m, 1+fragPartCost); result != FragHeld {
		t.Fatal(result)
	}
	equal(t, re.Held(), 1+fragPartCost)
	if n := cap(re.partial[0].parts[0].bytes); n > fragPartCost {
		t.Errorf("%d bytes for a part of one", n)
	}
}

// A message of single bytes does not cost a list without end.
func TestReassemblerParts(t *testing.T) {
	var re Reassembler
	for i := range fragParts {
		if _, result := re.Add(noon, FragMsg{1, uint16(60000 - 2*i), 65000, []byte{1}}, plenty); result != FragHeld {
			t.Fatalf("part %d: %v", i, result)
		}
	}
	for _, want := range []FragResult{FragParts, FragDead} {
		if _, result := re.Add(noon, FragMsg{1, 1, 65000, []byte{1}}, plenty); result != want {
			t.Fatalf("%v, want %v", result, want)
		}
	}
	equal(t, re.Held(), 0)
}

func TestReassemblerOldestGoesFirst(t *testing.T) {
	var re Reassembler
	for id := range uint32(FragMessages + 1) {
		re.Add(noon+time.Duration(id), FragMsg{id, 0, 100, []byte{1}}, plenty)
	}
	equal(t, re.Held(), FragMessages*(1+fragPartCost))
	equal(t, re.Lost(), 1)
	for id := range uint32(FragMessages + 1) {
		want := FragWhole
		if id == 0 {
			want = FragDead
		}
		if _, result := re.Add(noon+9, FragMsg{id, 1, 100, make([]byte, 99)}, plenty); result != want {
			t.Errorf("message %d: %v", id, result)
		}
	}
}

func TestReassemblerRoom(t *testing.T) {
	var re Reassembler
	const one = 100 + fragPartCost
	add := func(id uint32, offset, room int) FragResult {
		_, result := re.Add(noon, FragMsg{id, uint16(offset), 300, make([]byte, 100)}, room)
		return result
	}
	equal(t, add(1, 0, one-1), FragRoom)
	equal(t, re.Held(), 0)
	equal(t, add(1, 0, one), FragDead)
	equal(t, add(2, 0, one), FragHeld)
	equal(t, add(3, 0, one), FragHeld)
	equal(t, add(3, 100, 0), FragHeld) // in place of 2
	equal(t, add(2, 100, one), FragDead)
	equal(t, re.Held(), 2*one)
	equal(t, add(4, 0, one), FragHeld)
	equal(t, add(3, 200, 0), FragRoom) // the oldest is itself
	equal(t, re.Held(), one)
	equal(t, add(4, 100, one), FragHeld)
	equal(t, add(4, 200, one), FragWhole)
	equal(t, re.Held(), 0)
	equal(t, re.Lost(), 3)
}

func TestReassemblerTimeout(t *testing.T) {
	var re Reassembler
	re.Add(noon, FragMsg{1, 0, 100, []byte{1}}, plenty)
	re.Expire(noon + FragTimeout)
	equal(t, re.Held(), 1+fragPartCost)
	re.Expire(noon + FragTimeout + 1)
	equal(t, re.Held(), 0)
	equal(t, re.Lost(), 1)
	if _, result := re.Add(noon+FragTimeout+2, FragMsg{1, 1, 100, []byte{1}}, plenty); result != FragDead {
		t.Errorf("late: %v", result)
	}
	if re.Expire(noon + 2*FragTimeout + 2); !re.Idle() {
		t.Error("something is left")
	}
}

// Whatever comes, the accounts are right, and a whole message has the bytes of its parts.
func FuzzReassembler(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 4, 2, 0, 1, 0, 2, 4, 2})
	f.Add([]byte{0, 1, 0, 0, 4, 3, 0, 1, 0, 2, 4, 2})
	f.Fuzz(func(t *testing.T, script []byte) {
		var re Reassembler
		now := time.Duration(noon)
		const limit = 4000
		for len(script) >= 6 {
			step, id, offset, total, n := script[0], script[1]%8, binary.BigEndian.Uint16(script[2:])%2000, uint16(script[4])*8, script[5]
			script = script[6:]
			now += time.Duration(step) * 10 * time.Millisecond
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
				length := 0
				for _, x := range p.parts {
					length += len(x.bytes)
				}
				sum += length + len(p.parts)*fragPartCost
				if length != p.length || length >= p.total || now-p.since > FragTimeout {
					t.Fatalf("partial %d: %d of %d bytes, since %v", i, length, p.total, p.since)
				}
			}
			equal(t, re.Held(), sum)
			if len(re.dead) > fragDead || len(re.done) > fragDone {
				t.Fatalf("%d dead, %d done", len(re.dead), len(re.done))
			}
			if len(re.partial) > FragMessages {
				t.Fatalf("%d messages", len(re.partial))
			}
		}
		re.Expire(now + time.Hour)
		re.Expire(now + 2*time.Hour)
		equal(t, re.Held(), 0)
		equal(t, re.Idle(), true)
	})
}
