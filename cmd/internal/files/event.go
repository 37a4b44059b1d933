package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"
)

// Event is what happens in a transfer, for people and programs that watch it. Which fields
// have a value depends on the Type.
type Event struct {
	Type  EventType
	Peer  Peer
	Path  string // of a file, as the sender names it
	Local string // name that it has in the receiver's folder
	Files int    // in all
	Bytes int64  // in all
	Done  int64  // bytes that the receiver has of them
	Kept  int64  // of these, bytes that it had before
	Err   error
}

// EventType names what happened.
type EventType string

// The types of events.
const (
	Waiting     EventType = "waiting"     // the sender waits for a receiver; Err says why
	Asking      EventType = "asking"      // a person at the receiver is asked
	Refused     EventType = "refused"     // the receiver refused an offer; Err says why
	Started     EventType = "started"     // data flows, again after an interruption
	Progress    EventType = "progress"    // Done has changed
	Received    EventType = "received"    // a file is complete
	Failed      EventType = "failed"      // a file is not transferred; Err says why
	Skipped     EventType = "skipped"     // what is no file is not sent; Err says what it is
	Interrupted EventType = "interrupted" // the connection broke
)

// Peer is the other side of a transfer.
type Peer struct {
	Key     string // what it is for good: its address
	Name    string // for people
	Trusted bool   // its offers need no question
}

// refusal is the reason in a REFUSE.
type refusal byte

// The reasons.
const (
	refusedByPerson refusal = iota + 1
	refusedBusy             // with another transfer
	refusedNoSpace
	refusedOffer  // its names or its size
	refusedBroken // the receiver cannot write
)

// Errors of a transfer that ends.
var (
	ErrRefused = errors.New("the other side refused")
	ErrBusy    = errors.New("the other side is busy with another transfer")
	ErrNoSpace = errors.New("not enough space")
	ErrStalled = errors.New("no progress")
)

// appendRefusal appends a REFUSE.
func appendRefusal(b []byte, r refusal, text string) []byte {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return append(append(b, byte(r)), text...)
}

// parseRefusal returns the error that a REFUSE means.
func parseRefusal(b []byte) error {
	if len(b) == 0 {
		return violation("an empty refusal")
	}
	text := Shown(string(b[1:]))
	switch refusal(b[0]) {
	case refusedByPerson:
		return ErrRefused
	case refusedBusy:
		return ErrBusy
	case refusedNoSpace:
		return fmt.Errorf("%w on the other side: %s", ErrNoSpace, text)
	case refusedBroken:
		return fmt.Errorf("%w: it cannot write: %s", ErrRefused, text)
	}
	return fmt.Errorf("%w: %s", ErrRefused, text)
}

// textOf returns an error as it is sent to the other side, which need not learn about the
// directories of this one.
func textOf(err error) []byte {
	text := strings.ToValidUTF8(plain(err), "?")
	for len(text) > maxText || !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return []byte(text)
}

// plain returns the text of an error without the path of a file and the system call.
func plain(err error) string {
	var at *fs.PathError
	var link *os.LinkError
	var call *os.SyscallError
	switch {
	case errors.As(err, &at):
		err = at.Err
	case errors.As(err, &link):
		err = link.Err
	case errors.As(err, &call):
		err = call.Err
	}
	return err.Error()
}
