package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"anodenet/cmd/internal/files"
)

// transferReport shows what happens in a transfer.
type transferReport interface {
	event(e files.Event)
	// end is called after the last event, with the other side's name.
	end(peer files.Peer, o files.Outcome)
}

// newTransferReport returns the report for the flags. verb is "sent" or "received".
func (a *app) newTransferReport(f transferFlags, verb string) transferReport {
	if f.json {
		return &transferJSON{out: a.out, verb: verb}
	}
	return &transferText{out: a.out, err: a.err, verb: verb, quiet: f.quiet, bars: !f.quiet && isTerminal(a.err), told: map[string]bool{}, counts: map[string]int{}, tops: map[string]bool{}}
}

// transferText is for people. The bar and the notes go to the standard error, and the
// summary to the output.
type transferText struct {
	out, err    io.Writer
	verb        string // "sent" or "received"
	quiet, bars bool

	bar    *progressbar.ProgressBar // nil: none
	from   int64                    // bytes that were there when the bar began
	counts map[string]int           // of what some prints
	told   map[string]bool          // notes that need no second time
	tops   map[string]bool          // local names that were received
	list   []string                 // of tops, in order
}

// maxTops is how many names a summary has.
const maxTops = 8

// say prints a note above the bar.
func (t *transferText) say(format string, args ...any) {
	if t.bar != nil {
		t.bar.Clear() // a terminal that is gone is noticed elsewhere
	}
	fmt.Fprintf(t.err, format+"\n", args...)
}

// once prints a note, unless it was printed before.
func (t *transferText) once(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !t.told[text] && len(t.told) < 100 { // strangers may be many
		t.told[text] = true
		t.say("%s", text)
	}
}

func (t *transferText) event(e files.Event) {
	switch e.Type {
	case files.Failed:
		t.some("not "+t.verb, e)
		return
	case files.Skipped:
		t.some("skipped", e)
		return
	case files.Refused:
		t.once("refused: %s: %s", e.Peer.Name, oneLine(pathOnce(e.Err)))
		return
	case files.Received:
		t.note(e.Local)
		return
	}
	if t.quiet {
		return
	}
	switch e.Type {
	case files.Waiting:
		t.once("waiting for %s: %s", e.Peer.Name, waitingWords(e.Err))
	case files.Asking:
		t.once("waiting until somebody there accepts %s, %s", plural(e.Files, "file", "files"), size(e.Bytes))
	case files.Started:
		t.start(e)
	case files.Progress:
		t.move(e)
	case files.Interrupted:
		t.say("the connection to %s broke; it goes on when the other side is back", e.Peer.Name)
		t.told = map[string]bool{}
	}
}

// waitingWords says why a sender waits.
func waitingWords(err error) string {
	if errors.Is(err, errNobodyReceives) {
		return err.Error() + "; on that machine: anode recv"
	}
	return explain(err).message
}

// some prints what is said about one of perhaps very many files.
func (t *transferText) some(what string, e files.Event) {
	const most = 20
	switch t.counts[what]++; {
	case t.counts[what] <= most:
		t.say("%s: %s: %s", what, files.Shown(e.Path), fileProblem(e.Err))
	case t.counts[what] == most+1:
		t.say("%s: and more; --json prints all", what)
	}
}

// fileProblem is an error about a file whose name is told before it.
func fileProblem(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	message, _, _ := strings.Cut(err.Error(), "; try: ")
	return oneLine(message)
}

// note keeps the name of what was received, for the summary.
func (t *transferText) note(local string) {
	name, _, _ := strings.Cut(local, "/")
	if !t.tops[name] && len(t.tops) <= maxTops {
		t.tops[name] = true
		t.list = append(t.list, files.Shown(name))
	}
}

// start begins a bar over what is missing. That is what its rate and its time are about.
func (t *transferText) start(e files.Event) {
	if e.Kept > 0 {
		t.once("%s of %s are there already", size(e.Kept), size(e.Bytes))
	}
	if t.bar != nil || !t.bars || e.Bytes <= e.Kept {
		return
	}
	t.from = e.Kept
	t.bar = progressbar.NewOptions64(e.Bytes-e.Kept, append(barParts(columnsOf(t.err), e.Files),
		progressbar.OptionSetWriter(t.err), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())...)
}

// barParts is what of a bar fits a number of columns. One that is longer leaves a line behind
// each time.
func barParts(columns, files int) []progressbar.Option {
	list := []progressbar.Option{
		progressbar.OptionSetWidth(min(24, max(0, columns-54))),
		progressbar.OptionSetPredictTime(columns >= 38), // (123 MB/s) [1h23m:1h23m]
	}
	if columns >= 52 { // (123/456 MB, 123 MB/s)
		list = append(list, progressbar.OptionShowCount())
	}
	if columns >= 66 {
		list = append(list, progressbar.OptionSetDescription(plural(files, "file", "files")))
	}
	return list
}

// columnsOf returns the width of a terminal.
func columnsOf(out io.Writer) int {
	if f, ok := out.(interface{ Fd() uintptr }); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
	}
	return 80
}

func (t *transferText) move(e files.Event) {
	if t.bar != nil && e.Done > t.from {
		t.bar.Set64(min(e.Done, e.Bytes) - t.from) // the terminal may be gone
	}
}

func (t *transferText) end(peer files.Peer, o files.Outcome) {
	if t.bar != nil {
		t.bar.Clear()
		t.bar = nil
	}
	preposition := map[string]string{"sent": "to", "received": "from"}[t.verb]
	text := fmt.Sprintf("%s %s, %s, %s %s", t.verb, plural(o.Files, "file", "files"), size(o.Bytes), preposition, peer.Name)
	if len(t.list) > maxTops {
		t.list = append(t.list[:maxTops], "…")
	}
	if len(t.list) > 0 {
		text += ": " + strings.Join(t.list, ", ")
	}
	fmt.Fprintln(t.out, text)
	t.list, t.tops = nil, map[string]bool{}
}

// transferJSON is for programs.
type transferJSON struct {
	out  io.Writer
	verb string
}

// transferLine is a line of JSON about a transfer.
type transferLine struct {
	Schema  int    `json:"schema"`
	Type    string `json:"type"`              // of files.EventType, or "sent", "received"
	Address string `json:"address,omitempty"` // of the other side
	Name    string `json:"name,omitempty"`
	Path    string `json:"path,omitempty"`
	Local   string `json:"local,omitempty"` // the name that it has at the receiver
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Done    int64  `json:"done_bytes"`
	Kept    int64  `json:"kept_bytes"` // that an earlier attempt had brought
	Pieces  int64  `json:"pieces"`     // that went over this side's connections
	Failed  int    `json:"failed"`     // files
	Error   string `json:"error,omitempty"`
}

func (t *transferJSON) print(l transferLine) {
	l.Schema = schema
	e := json.NewEncoder(t.out)
	e.SetEscapeHTML(false)
	e.Encode(l) // a failure is kept by the output
}

func (t *transferJSON) event(e files.Event) {
	l := transferLine{Type: string(e.Type), Address: e.Peer.Key, Name: e.Peer.Name, Path: e.Path, Local: e.Local, Files: e.Files, Bytes: e.Bytes, Done: e.Done, Kept: e.Kept}
	if e.Type == files.Received {
		l.Type = "file" // "received" is the summary
	}
	if e.Err != nil {
		l.Error = explain(e.Err).message
	}
	t.print(l)
}

func (t *transferJSON) end(peer files.Peer, o files.Outcome) {
	t.print(transferLine{Type: t.verb, Address: peer.Key, Name: peer.Name, Files: o.Files, Bytes: o.Bytes, Done: o.Bytes, Pieces: o.Pieces, Failed: len(o.Failed)})
}
