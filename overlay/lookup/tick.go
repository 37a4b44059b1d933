package lookup

import (
	"container/heap"
	"container/list"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// grain is the shortest time between two Ticks for want of a token.
const grain = time.Millisecond

// Tick returns the questions to broadcast and to send to peers, the lookups that found
// nobody, and when to call it again if nothing else happens.
func (t *Table[W]) Tick(now mono.Time) (questions []wire.WhoisMsg, over []Ended[W], next mono.Time) {
	over, t.displaced = t.displaced, nil
	t.bytes, t.returning = t.bytes-t.returning, 0
	for l := t.due.first(); l != nil && l.due <= now; l = t.due.first() {
		if l.end <= now {
			over = appendEnded(over, t.giveUp(now, l))
			continue
		}
		t.due.put(l, l.end)
		t.line.join(l)
	}
	l := t.line.next()
	for ; l != nil && t.budget.take(now, t.purse(l.who)); l = t.line.next() {
		questions = append(questions, t.ask(now, l))
	}
	next = mono.Never
	if first := t.due.first(); first != nil {
		next = first.due
	}
	if l != nil {
		next = min(next, max(t.budget.next(now, t.purse(l.who)), now.Add(grain)))
	}
	return questions, over, next
}

// AllowWhois reports whether the LAN may be asked now for a peer whose address is known.
// That is within the budget of all questions.
func (t *Table[W]) AllowWhois(now mono.Time) bool {
	if !t.budget.take(now, &t.budget.searches) {
		return false
	}
	t.Counters.Questions++
	return true
}

// purse returns the part of the budget that the questions of an origin are limited to.
func (t *Table[W]) purse(who Origin) *mono.Bucket {
	if who == Person {
		return nil
	}
	return &t.budget.programs
}

// ask makes the next question of a lookup.
func (t *Table[W]) ask(now mono.Time, l *lookup[W]) wire.WhoisMsg {
	t.line.leave(l)
	if l.asks == 0 {
		l.request = t.request()
		t.asked[l.request] = l
		l.end = min(now.Add(lifetime), l.limit)
	}
	due := l.end
	if l.asks < len(pauses) {
		due = min(due, now.Add(pauses[l.asks]))
	}
	l.asks++
	t.due.put(l, due)
	t.Counters.Questions++
	return l.key.whois(l.request)
}

// request draws a request ID that no lookup has.
func (t *Table[W]) request() uint32 {
	r := t.random()
	for t.asked[r] != nil {
		r++
	}
	return r
}

// giveUp ends a lookup whose time is over.
func (t *Table[W]) giveUp(now mono.Time, l *lookup[W]) Ended[W] {
	if l.asks > 0 {
		t.Counters.Nobody++
		t.nobody.remember(now, l.key)
	} else {
		t.Counters.Unasked++
	}
	return t.remove(l)
}

// levels is how many habits are told apart.
const levels = 8

// line is the lookups that have a question to ask, by the level of who wants them: the
// habit of programs, and above all of them the persons. New lookups of a level are asked
// before those that repeat their question.
type line[W any] struct {
	fresh, repeated [levels + 1]list.List
}

func (l *lookup[W]) level() int {
	if l.who == Person {
		return levels
	}
	return min(l.habit, levels) - 1
}

// join puts a lookup in line. The newest of a program's comes first; persons are served
// in turn, as there are few of them.
func (n *line[W]) join(l *lookup[W]) {
	n.leave(l)
	level := l.level()
	switch {
	case l.asks > 0:
		l.inLine = &n.repeated[level]
		l.element = l.inLine.PushBack(l)
	case l.who == Person:
		l.inLine = &n.fresh[level]
		l.element = l.inLine.PushBack(l)
	default:
		l.inLine = &n.fresh[level]
		l.element = l.inLine.PushFront(l)
	}
}

// again gives a program's lookup that is in line the turn that its habit deserves.
func (n *line[W]) again(l *lookup[W]) {
	if l.inLine != nil && l.who == Program {
		n.join(l)
	}
}

func (n *line[W]) leave(l *lookup[W]) {
	if l.inLine != nil {
		l.inLine.Remove(l.element)
		l.inLine, l.element = nil, nil
	}
}

// next returns the lookup whose turn it is, or nil.
func (n *line[W]) next() *lookup[W] {
	for level := levels; level >= 0; level-- {
		for _, l := range [...]*list.List{&n.fresh[level], &n.repeated[level]} {
			if e := l.Front(); e != nil {
				return e.Value.(*lookup[W])
			}
		}
	}
	return nil
}

// last returns the lookup of a program that would be asked last of all, or nil. Those
// that were asked already have their time for an answer.
func (n *line[W]) last() *lookup[W] {
	for level := range levels {
		if e := n.fresh[level].Back(); e != nil {
			return e.Value.(*lookup[W])
		}
	}
	return nil
}

// queue is the lookups by when something is due: a heap.
type queue[W any] []*lookup[W]

func (q *queue[W]) first() *lookup[W] {
	if len(*q) == 0 {
		return nil
	}
	return (*q)[0]
}

// put sets when a lookup is due.
func (q *queue[W]) put(l *lookup[W], due mono.Time) {
	l.due = due
	if l.index < len(*q) && (*q)[l.index] == l {
		heap.Fix(q, l.index)
		return
	}
	heap.Push(q, l)
}

func (q *queue[W]) drop(l *lookup[W]) { heap.Remove(q, l.index) }

// Len is for package heap, as are the methods below.
func (q queue[W]) Len() int           { return len(q) }
func (q queue[W]) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue[W]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push appends a lookup.
func (q *queue[W]) Push(x any) {
	l := x.(*lookup[W])
	l.index = len(*q)
	*q = append(*q, l)
}

// Pop takes the last lookup away.
func (q *queue[W]) Pop() any {
	last := len(*q) - 1
	l := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return l
}
