package main

import (
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"anodenet/anode"
)

// maxTopic is the widest column of topics. A longer topic, such as that of a peer with a
// long name, has a line of its own.
const maxTopic = 14

// printFindings prints findings for people: the worst last, where the eye is.
func (a *app) printFindings(list []finding) {
	list = slices.Clone(list)
	sort.SliceStable(list, func(i, j int) bool { return list[i].Verdict.rank() < list[j].Verdict.rank() })
	width := 0
	for _, f := range list {
		if n := ansi.StringWidth(f.Check); n <= maxTopic {
			width = max(width, n)
		}
	}
	for _, f := range list {
		a.printFinding(f, width)
	}
	fmt.Fprintln(a.out)
	wrapped(a.out, a.columnsOf(), "", "", summary(list))
}

func (a *app) printFinding(f finding, width int) {
	const gap = "  "
	word := string(f.Verdict)
	head := a.painted(word) + strings.Repeat(" ", len(fine)-len(word)) + gap + f.Check
	indent := strings.Repeat(" ", len(fine)+len(gap)+width+len(gap))
	if n := ansi.StringWidth(f.Check); n <= width {
		head += strings.Repeat(" ", width-n) + gap
	} else {
		fmt.Fprintln(a.out, head)
		head = indent
	}
	wrapped(a.out, a.columnsOf(), head, indent, f.Says)
	if f.Try != "" {
		wrapped(a.out, a.columnsOf(), indent+"try: ", indent+"     ", f.Try)
	}
}

// rank orders verdicts, the worst last.
func (v verdict) rank() int { return slices.Index([]verdict{fine, slow, warn, bad}, v) }

// summary says how many findings of each kind there are.
func summary(list []finding) string {
	count := map[verdict]int{}
	for _, f := range list {
		count[f.Verdict]++
	}
	var parts []string
	for _, kind := range []struct {
		verdict   verdict
		one, many string
	}{{bad, "1 thing is bad", "%d things are bad"}, {warn, "1 warning", "%d warnings"}, {slow, "1 thing could be faster", "%d things could be faster"}} {
		switch n := count[kind.verdict]; n {
		case 0:
		case 1:
			parts = append(parts, kind.one)
		default:
			parts = append(parts, fmt.Sprintf(kind.many, n))
		}
	}
	if len(parts) == 0 {
		return "All is well."
	}
	return strings.Join(parts, ", ") + "."
}

// wrapped prints a text after head in lines of at most columns cells, broken at blanks;
// the lines after the first begin with indent. A word that fits no line is not broken, so
// that it can be copied.
func wrapped(w io.Writer, columns int, head, indent, text string) {
	line, empty := head, true
	for word := range strings.FieldsSeq(text) {
		switch {
		case empty:
			line += word
		case ansi.StringWidth(line)+1+ansi.StringWidth(word) > columns:
			if _, err := anode.ParseAddress(word); err == nil { // the end of a command: both lines can be pasted
				line += ` \`
			}
			fmt.Fprintln(w, line)
			line = indent + word
		default:
			line += " " + word
		}
		empty = false
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}
