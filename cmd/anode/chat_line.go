package main

import (
	"fmt"
	"strings"

	"anodenet/info2"
)

// chatHelp is what /help shows.
const chatHelp = `
Enter         say the line to everybody on the network
Up, Down      the lines that you typed before
PgUp, PgDn    scroll; Ctrl-Home and Ctrl-End: to the oldest, to the newest
Esc, Ctrl-C   clear the line; quit if there is none
Ctrl-D        quit if the line is empty

/help         this page
/quit         quit
//TEXT        say a text that begins with a slash

"via" names the neighbour that brought a text; nobody can know who wrote it.
`

// chatLinesHelp is what /help prints where the chat is line by line.
const chatLinesHelp = `/quit    quit, as Ctrl-D and Ctrl-C do
//TEXT   say a text that begins with a slash
`

// lineCommand is what a typed line commands.
type lineCommand int

const (
	chatSays lineCommand = iota // nothing: it is a text
	chatQuits
	chatHelps
)

// parseLine reads a line that a person typed: a text, or a command after a slash. Two
// slashes begin a text with one. A misspelled command is never said to everybody.
func parseLine(line string) (text string, command lineCommand, err error) {
	text = info2.Clean(line)
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	switch {
	case !strings.HasPrefix(word, "/"):
		return text, chatSays, nil
	case strings.HasPrefix(word, "//"):
		return strings.TrimSpace(text)[1:], chatSays, nil
	case rest != "":
	case word == "/quit" || word == "/q" || word == "/exit":
		return "", chatQuits, nil
	case word == "/help" || word == "/?" || word == "/h":
		return "", chatHelps, nil
	}
	return "", chatSays, &failure{exitUsage, fmt.Sprintf("no command %s", word), "/help, or //TEXT to say a text with a slash"}
}

// slashed is the line to type for a text.
func slashed(text string) string {
	if strings.HasPrefix(text, "/") {
		return "/" + text
	}
	return text
}

// typedMost is how many lines typed keeps.
const typedMost = 100

// typed keeps the lines that a person typed, in memory only, and where Up has led to.
type typed struct {
	lines []string
	at    int    // the line that is shown; len(lines): the new one
	draft string // the new one
}

// add keeps a line and goes to a new one.
func (t *typed) add(line string) {
	if line != "" && (len(t.lines) == 0 || t.lines[len(t.lines)-1] != line) {
		t.lines = append(t.lines, line)
		t.lines = t.lines[max(0, len(t.lines)-typedMost):]
	}
	t.at, t.draft = len(t.lines), ""
}

// earlier shows the line before.
func (t *typed) earlier(e *editor) {
	if t.at == 0 {
		return
	}
	if t.at == len(t.lines) {
		t.draft = e.text()
	}
	t.at--
	e.set(t.lines[t.at])
}

// later shows the line after; the last one is the new one.
func (t *typed) later(e *editor) {
	if t.at == len(t.lines) {
		return
	}
	t.at++
	if t.at == len(t.lines) {
		e.set(t.draft)
		return
	}
	e.set(t.lines[t.at])
}
