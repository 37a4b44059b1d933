package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// report is the form of reports in these tests.
func report(w io.Writer, lost uint64) { fmt.Fprintf(w, "lost %d\n", lost) }

// reader is an output whose reader can be stuck or gone.
type reader struct {
	mu   sync.Mutex
	text strings.Builder
	gate chan struct{} // nil: open; else each Write waits until it is closed
	err  error
}

func (r *reader) Write(b []byte) (int, error) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	return r.text.Write(b)
}

func (r *reader) set(gate chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate, r.err = gate, err
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func TestOrder(t *testing.T) {
	r := &reader{}
	w := New(r, report)
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&want, "line %d\n", i)
		fmt.Fprintf(w, "line %d\n", i)
	}
	if !w.Close(time.Minute) || r.String() != want.String() || w.Lost() != 0 {
		t.Errorf("%d lost, %q", w.Lost(), r)
	}
	if n, err := w.Write([]byte("late")); n != 4 || err != nil || w.Lost() != 1 {
		t.Errorf("after Close: %d, %v, %d lost", n, err, w.Lost())
	}
}

// TestStuck: a reader that is stuck stops nobody; when it goes on, it gets what was in the
// queue, and the number of lines that did not fit.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := &reader{gate: gate}
		w := New(r, report)
		fmt.Fprintln(w, "first")
		synctest.Wait() // it is on its way
		for i := range maxLines + 7 {
			fmt.Fprintln(w, i)
		}
		if w.Lost() != 7 {
			t.Errorf("%d lost", w.Lost())
		}
		start := time.Now()
		if w := New(&reader{gate: gate}, report); true {
			fmt.Fprintln(w, "x")
			if w.Close(time.Second) || time.Since(start) != time.Second {
				t.Errorf("Close took %v", time.Since(start))
			}
		}
		r.set(nil, nil)
		close(gate)
		synctest.Wait()
		fmt.Fprintln(w, "last")
		if !w.Close(time.Second) {
			t.Error("Close did not finish")
		}
		text := r.String()
		if want := fmt.Sprintf("%d\nlost 7\nlast\n", maxLines-1); !strings.HasPrefix(text, "first\n0\n1\n") || !strings.HasSuffix(text, want) {
			t.Errorf("the end is %q", text[max(0, len(text)-60):])
		}
	})
}

// TestPlace: the report stands where the lines are missing.
func TestPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		r := &reader{gate: gate}
		w := New(r, report)
		fmt.Fprintln(w, "first")
		synctest.Wait()
		big := strings.Repeat("x", maxBytes)
		fmt.Fprint(w, big+"too large")
		fmt.Fprintln(w, "second")
		close(gate)
		if !w.Close(time.Second) || r.String() != "first\nlost 1\nsecond\n" {
			t.Errorf("%q", r)
		}
	})
}

// TestGone: each line is tried, since a reader may come back (a named pipe, a disk with
// space again).
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		w := New(r, report)
		fmt.Fprintln(w, "one")
		synctest.Wait()
		r.set(nil, errors.New("gone"))
		for range 5 {
			fmt.Fprintln(w, "nobody reads this")
			synctest.Wait()
		}
		r.set(nil, nil)
		fmt.Fprintln(w, "two")
		synctest.Wait()
		w.SetReport(func(w io.Writer, lost uint64) { fmt.Fprintf(w, "missing %d\n", lost) })
		r.set(nil, errors.New("gone"))
		fmt.Fprintln(w, "nor this")
		synctest.Wait()
		r.set(nil, nil)
		if !w.Close(time.Second) || r.String() != "one\nlost 5\ntwo\nmissing 1\n" || w.Lost() != 6 {
			t.Errorf("%d lost, %q", w.Lost(), r)
		}
	})
}

// TestPipe has a real pipe that is full.
func TestPipe(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	w := New(out, report)
	text := strings.Repeat("x", 1000) + "\n"
	sent := 0
	for w.Lost() == 0 { // until the pipe and the queue are full
		fmt.Fprint(w, text)
		sent++
	}
	fmt.Fprintln(w, "end") // there is no place for it either
	got := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(in)
		got <- string(b)
	}()
	if !w.Close(time.Minute) {
		t.Error("the queue was not written")
	}
	out.Close()
	if all := <-got; all != strings.Repeat(text, sent-1)+"lost 2\n" && all != strings.Repeat(text, sent-1)+"lost 1\nend\n" {
		t.Errorf("%d bytes, at the end %q", len(all), all[max(0, len(all)-40):])
	}
}
