package lookup

import (
	"testing"
	"time"

	"anodenet/anode"
)

// first returns when a key was asked for on the network, or -1.
func (b *bench) first(k Key) time.Duration {
	for i, m := range b.questions {
		if m.ULA == k.ULA && m.ID == k.ID {
			return b.at[i]
		}
	}
	return -1
}

// A scan, which sends to every key once or some times in a row, neither exceeds the
// budget nor keeps others waiting: a program that sends once a second, and a person.
func TestScan(t *testing.T) {
	for _, c := range []struct {
		name   string
		every  time.Duration
		repeat int
	}{
		{"200 a second", 5 * ms, 1},
		{"2000 a second", ms / 2, 1},
		{"200 a second, each key twice", 5 * ms, 2},
	} {
		b := newBench(t)
		program, person, waiter := ByULA(address(1).ULA()), ByID(address(2).ID()), 0
		searches := 0
		var asked time.Duration
		for d := time.Duration(0); d < 10*time.Second; d += c.every {
			b.now = start.Add(d)
			for range c.repeat {
				waiter++
				b.Ask(b.now, scanned(waiter/c.repeat), waiter, 100, Program)
			}
			if d >= time.Second && d%time.Second == 0 && b.first(program) < 0 {
				asked++
				b.Ask(b.now, program, -1, 100, Program)
			}
			if d == 5*time.Second {
				b.Ask(b.now, person, -2, 0, Person)
			}
			if b.AllowWhois(b.now) {
				searches++
			}
			b.tick()
		}
		n := len(b.questions) + searches
		t.Logf("%s: %d asks; %d lookups and %d searches on the network; the program asked %d times, its question came at %v, the person's at %v",
			c.name, waiter, len(b.questions), searches, asked, b.first(program), b.first(person))
		if n > 4+4*10 {
			t.Errorf("%s: %d questions in 10 s", c.name, n)
		}
		if searches < 10 || len(b.questions) < 15 {
			t.Errorf("%s: %d searches, %d questions: one starves the other", c.name, searches, len(b.questions))
		}
		if at := b.first(program); at < 0 || at > 3500*ms {
			t.Errorf("%s: the program's question came at %v", c.name, at)
		}
		if at := b.first(person); at < 5*time.Second || at > 5*time.Second+c.every {
			t.Errorf("%s: the person's question came at %v", c.name, at)
		}
	}
}

// Persons who use all of their budget leave nothing undone for long.
func TestPersonsShare(t *testing.T) {
	b := newBench(t)
	for i := range 8 {
		b.ask(scanned(i), i, Person, Waiting)
	}
	b.until(time.Second)
	if n := len(b.questions); n != 8 {
		t.Errorf("%d questions of persons in the first second, want 8", n)
	}
}

// The price of one packet does not grow with what is under way.
func BenchmarkScan(b *testing.B) {
	table, now := New[int](func() uint32 { return 1 }), start
	for i := range b.N {
		now += 1000
		table.Ask(now, scanned(i), i, 100, Program)
		table.Tick(now)
	}
}

// FuzzTable does random things at random times. Limits and budget hold, and everything
// that waits comes back once.
func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 5, 9, 2, 4, 1, 3, 7, 1, 4, 1, 1, 5, 0, 200})
	f.Add([]byte{0, 1, 0, 0, 1, 3, 3, 1, 0, 5, 0, 100, 0, 1, 9})
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 150 {
			steps = steps[:150]
		}
		b := newBench(t)
		waiting := map[int]bool{}
		searches, next := 0, 0
		back := func(waiters ...int) {
			for _, w := range waiters {
				if !waiting[w] {
					t.Fatalf("%d came back and did not wait", w)
				}
				delete(waiting, w)
			}
		}
		tick := func() {
			n := len(b.over)
			if b.tick() <= b.now {
				t.Fatal("due again at once")
			}
			for _, e := range b.over[n:] {
				back(e.Waiters...)
			}
		}
		for ; len(steps) >= 3; steps = steps[3:] {
			op, x, y := steps[0], int(steps[1]), int(steps[2])
			a := addresses[x%len(addresses)]
			key := [...]Key{ByULA(a.ULA()), ByID(a.ID()), scanned(x)}[y%3]
			switch op % 6 {
			case 0, 1:
				next++
				if b.Ask(b.now, key, next, y<<9, Origin(op%2)) == Waiting {
					waiting[next] = true
				}
			case 2:
				for i := range x % 150 { // a scan
					next++
					if b.Ask(b.now, scanned(y<<8|i), next, 1<<10, Program) == Waiting {
						waiting[next] = true
					}
				}
			case 3:
				if n := len(b.questions); n > 0 {
					waiters, _ := b.Answer(b.questions[n-1-x%n].Request, [...]anode.Address{a, {}}[y%2])
					back(waiters...)
				}
			case 4:
				back(b.Known(a)...)
			case 5:
				b.now = b.now.Add(time.Duration(x*y) * ms / 8)
				if b.AllowWhois(b.now) {
					searches++
				}
			}
			if y%4 != 0 {
				tick()
			}
			if b.count[Program] > maxPrograms || b.count[Person] > maxPersons || len(b.displaced) > maxPrograms ||
				len(b.lookups) != b.count[0]+b.count[1] || len(b.due) != len(b.lookups) || len(b.asked) > len(b.lookups) {
				t.Fatalf("%v lookups, %d in the table, %d due, %d displaced", b.count, len(b.lookups), len(b.due), len(b.displaced))
			}
			if b.bytes < 0 || b.bytes > maxBytesInAll {
				t.Fatalf("%d bytes wait", b.bytes)
			}
			if n, most := len(b.questions)+searches, 5+4*b.now.Sub(start).Seconds(); float64(n) > most {
				t.Fatalf("%d questions after %v", n, b.now.Sub(start))
			}
		}
		b.now = b.now.Add(lifetimeInAll)
		tick()
		b.now = b.now.Add(lifetimeInAll)
		tick()
		if len(waiting) != 0 || b.bytes != 0 || len(b.lookups)+len(b.asked)+len(b.due) != 0 {
			t.Fatalf("%d still wait, %d bytes, %d lookups", len(waiting), b.bytes, len(b.lookups))
		}
	})
}

// addresses are some valid ones.
var addresses = [...]anode.Address{address(1), address(2), address(3), address(4)}
