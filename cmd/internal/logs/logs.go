// Package logs keeps a reader of the output from stopping who writes it:
//
//	Write -> queue, bounded -> goroutine -> file, pipe, terminal
//
// A reader that is stuck (a full pipe, a terminal after Ctrl-S) or gone (a pipe without
// readers, a full disk) costs lines. They are counted, and reported in the output itself as
// soon as it takes something again, at the place where they are missing.
package logs

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of the queue.
const (
	maxLines = 4096
	maxBytes = 1 << 20
)

// Report writes a line that says how many lines are missing at this place.
type Report func(w io.Writer, lost uint64)

// Writer writes lines in a goroutine of its own. Any goroutine may call its methods. Each
// Write is one line, which is written whole or counted as lost.
type Writer struct {
	out  io.Writer
	lost atomic.Uint64 // in all

	wake chan struct{} // something is in the queue, or it was closed
	done chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	report Report
	queue  []line
	bytes  int    // in the queue
	missed uint64 // lost since the last line of the queue
	closed bool
}

// line is an entry of the queue.
type line struct {
	text   []byte
	missed uint64 // lines that were lost before it
}

// New makes a Writer, which must be closed. It reports lost lines by report.
func New(out io.Writer, report Report) *Writer {
	w := &Writer{out: out, report: report, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// SetReport changes the form in which lost lines are reported.
func (w *Writer) SetReport(report Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
}

// Lost returns how many lines were lost so far.
func (w *Writer) Lost() uint64 { return w.lost.Load() }

// Write puts a line into the queue. It never waits for the output and never fails.
func (w *Writer) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	w.mu.Lock()
	if w.closed || len(w.queue) >= maxLines || w.bytes+len(b) > maxBytes {
		w.lost.Add(1)
		w.missed++
	} else {
		w.queue = append(w.queue, line{append([]byte(nil), b...), w.missed})
		w.bytes += len(b)
		w.missed = 0
	}
	w.mu.Unlock()
	w.signal()
	return len(b), nil
}

// Close writes what is in the queue, for at most the limit, and ends the Writer. Later lines
// are lost. It reports whether all was written; if not, the goroutine stays in its system
// call until the reader goes on or the program ends, since nothing can interrupt it.
func (w *Writer) Close(limit time.Duration) bool {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-w.done:
		return true
	case <-timer.C:
		return false
	}
}

func (w *Writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// run writes lines until the Writer is closed and the queue is empty.
func (w *Writer) run() {
	defer close(w.done)
	var missed uint64 // not reported yet
	for {
		l, end := w.next()
		missed = w.write(l, missed+l.missed)
		switch {
		case l.text != nil:
		case end:
			return
		default:
			<-w.wake
		}
	}
}

// next takes a line from the queue. If there is none, the line has no text, and end says
// whether the Writer was closed.
func (w *Writer) next() (l line, end bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		l.missed, w.missed = w.missed, 0
		return l, w.closed
	}
	l = w.queue[0]
	w.queue[0].text = nil
	w.queue = w.queue[1:]
	w.bytes -= len(l.text)
	return l, false
}

// write writes a line, if it has a text, after a report of the lines that are missing before
// it. It returns how many are still to be reported.
func (w *Writer) write(l line, missed uint64) uint64 {
	ok := missed == 0 || w.tell(missed)
	if ok {
		missed = 0
	}
	if l.text == nil {
		return missed
	}
	if ok {
		_, err := w.out.Write(l.text)
		ok = err == nil
	}
	if !ok {
		w.lost.Add(1)
		missed++
	}
	return missed
}

// tell reports lost lines, and reports whether that could be written.
func (w *Writer) tell(missed uint64) bool {
	w.mu.Lock()
	report := w.report
	w.mu.Unlock()
	c := &check{out: w.out}
	report(c, missed)
	return !c.failed
}

// check is a writer that remembers a failure.
type check struct {
	out    io.Writer
	failed bool
}

// Write implements io.Writer.
func (c *check) Write(b []byte) (int, error) {
	n, err := c.out.Write(b)
	if err != nil {
		c.failed = true
	}
	return n, err
}
