package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"anodenet/cmd/internal/logs"
)

// How long the program may take to end: together less than three seconds.
const (
	endLimit   = 2700 * time.Millisecond
	wordsLimit = 200 * time.Millisecond // for the message that it took longer
	flushLimit = 500 * time.Millisecond // for output that waits for a reader
)

// endSignals are the signals that end the program. One that was ignored when it started stays
// ignored, as Ctrl-C does for a program in the background of a script.
func endSignals() []os.Signal {
	list := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(os.Interrupt) {
		list = append(list, os.Interrupt)
	}
	return list
}

// untilHangup returns a context that ends when the terminal is closed too. It does not for a
// program that was started by nohup.
func untilHangup(ctx context.Context) (context.Context, context.CancelFunc) {
	if signal.Ignored(syscall.SIGHUP) {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// overdue returns a function that ends the program by exit if it is still there after the
// limit, whatever it waits for. To say so must not take long either.
func overdue(stderr io.Writer, exit func(code int)) (hurry func()) {
	return func() {
		time.AfterFunc(endLimit, func() {
			w := logs.New(stderr, missing)
			fmt.Fprintf(w, "anode: it did not end within %v and was stopped\n", endLimit)
			w.Close(wordsLimit)
			exit(exitFailed)
		})
	}
}

// missing reports lost lines to people.
func missing(w io.Writer, lost uint64) {
	fmt.Fprintf(w, "(%d lines were lost: nobody read them)\n", lost)
}

// decouple lets the program go on while its output is stuck, and after the output's reader
// has gone. The output is flushed at the end.
func (a *app) decouple() {
	signal.Ignore(syscall.SIGPIPE) // a write to a pipe without readers only fails
	out, err := logs.New(a.out, missing), logs.New(a.err, missing)
	a.out, a.err = out, err
	a.unwritten = func() error { return nil } // lost lines are counted instead
	a.flush = func() {
		end := time.Now().Add(flushLimit)
		for _, w := range []*logs.Writer{out, err} {
			w.Close(time.Until(end))
		}
	}
}
