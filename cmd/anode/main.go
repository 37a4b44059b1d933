// Command anode is both the daemon and the command line that talks to it. Each verb
// is a file of this package; "anode help" lists them.
//
// The output is tables or plain words for people, wherever it goes. For programs there is
// --json, one JSON value (or one a line, of what goes on) with "schema": 1, to which fields
// are only ever added, and --tsv for lists.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	a := newApp(os.Stdout, os.Stderr)
	a.hurry = overdue(os.Stderr, os.Exit)
	ctx, stop := signal.NotifyContext(context.Background(), endSignals()...)
	context.AfterFunc(ctx, func() {
		stop() // a second Ctrl-C ends the program at once
		a.hurry()
	})
	os.Exit(a.run(ctx, os.Args[1:]))
}
