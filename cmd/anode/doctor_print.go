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

// printFindings prints findings for people: the worst last, where the eye is. If there is one that
// people should see, what is fine takes one line, unless all is wanted: else it fills the screen.
func (a *app) printFindings(list []finding, all bool) {
	list = slices.Clone(list)
	var short []string
	if !all && slices.ContainsFunc(list, func(f finding) bool { return f.Verdict != fine }) {
		list, short = shorten(list)
	}
	sort.SliceStable(list, func(i, j int) bool { return list[i].Verdict.rank() < list[j].Verdict.rank() })
	width := 0
	for _, f := range list {
		if n := ansi.StringWidth(f.Check); n <= maxTopic {
			width = max(width, n)
		}
	}
	if len(short) > 0 {
		text := strings.Join(short, ", ") + " (anode doctor --all says more)"
		wrapped(a.out, a.columnsOf(), a.painted(string(fine))+"  ", strings.Repeat(" ", len(fine)+2), text)
	}
	for _, f := range list {
		a.printFinding(f, width)
	}
	fmt.Fprintln(a.out)
	wrapped(a.out, a.columnsOf(), "", "", summary(list))
}

// shorten takes the fine findings without advice out of a list, and returns what they were about.
func shorten(list []finding) (rest []finding, short []string) {
	for _, f := range list {
		switch {
		case f.Verdict != fine || f.Try != "":
			rest = append(rest, f)
		case !slices.Contains(short, f.Check):
			short = append(short, f.Check)
		}
	}
	return rest, short
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

// maxNamed is how many checks the summary names of each kind.
const maxNamed = 4

// summary says how many findings of each kind there are, and where.
func summary(list []finding) string {
	count, where := map[verdict]int{}, map[verdict][]string{}
	for _, f := range list {
		count[f.Verdict]++
		if at := where[f.Verdict]; !slices.Contains(at, f.Check) {
			where[f.Verdict] = append(at, f.Check)
		}
	}
	var parts []string
	for _, kind := range []struct {
		verdict   verdict
		one, many string
	}{{bad, "thing is bad", "things are bad"}, {warn, "warning", "warnings"}, {slow, "thing could be faster", "things could be faster"}} {
		n, at := count[kind.verdict], where[kind.verdict]
		if n == 0 {
			continue
		}
		if len(at) > maxNamed {
			at = append(at[:maxNamed:maxNamed], "…")
		}
		parts = append(parts, plural(n, kind.one, kind.many)+" ("+strings.Join(at, ", ")+")")
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
