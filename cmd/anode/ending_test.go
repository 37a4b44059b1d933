package main

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOverdue: a program that hangs is ended in less than three seconds with words, and a
// reader of the words that is stuck does not prevent it.
func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe() // nobody reads at first
		var said strings.Builder
		for _, stderr := range []io.Writer{&said, out} {
			start := time.Now()
			ended := make(chan int)
			overdue(stderr, func(code int) { ended <- code })()
			if code := <-ended; code != exitFailed || time.Since(start) >= 3*time.Second {
				t.Errorf("exit code %d after %v", code, time.Since(start))
			}
		}
		if !strings.HasPrefix(said.String(), "anode: it did not end") {
			t.Errorf("it said %q", said.String())
		}
		in.Close()
	})
}

// TestDecouple: with stuck outputs, commands and the flush at the end go on.
func TestDecouple(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		in2, out2 := io.Pipe()
		a := newApp(out, out2)
		a.decouple()
		for range 10 {
			io.WriteString(a.out, "text\n")
			io.WriteString(a.err, "text\n")
		}
		start := time.Now()
		a.flush()
		if took := time.Since(start); took != flushLimit {
			t.Errorf("the flush took %v", took)
		}
		in.Close()
		in2.Close()
	})
}
