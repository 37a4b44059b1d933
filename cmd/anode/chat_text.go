package main

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// cluster is what people see as one character (UAX #29), with the cells that it takes at
// most: terminals differ about emoji.
type cluster struct {
	text  string
	width int
}

// clusters splits a text.
func clusters(text string) (list []cluster) {
	for text != "" {
		c, width := ansi.FirstGraphemeCluster(text, ansi.GraphemeWidth)
		list = append(list, cluster{c, max(width, ansi.StringWidthWc(c))})
		text = text[len(c):]
	}
	return list
}

func widthOf(list []cluster) (width int) {
	for _, c := range list {
		width += c.width
	}
	return width
}

func textOf(list []cluster) string {
	var b strings.Builder
	for _, c := range list {
		b.WriteString(c.text)
	}
	return b.String()
}

// wrap cuts a text into rows of at most width cells, between words if possible. East
// Asian text may be cut anywhere; a word that is longer than a row must be.
func wrap(text string, width int) (rows []string) {
	rest := clusters(text)
	for len(rest) > 0 {
		end, cells := 0, 0
		for end < len(rest) && cells+rest[end].width <= width {
			cells += rest[end].width
			end++
		}
		end = max(end, 1) // wider than a row
		if end == len(rest) {
			return append(rows, textOf(rest))
		}
		cut := end
		for cut > 0 && !mayCut(rest, cut) {
			cut--
		}
		if cut > 0 && widthOf(rest[cut:wordEnd(rest, end)]) <= width {
			end = cut
		}
		rows = append(rows, strings.TrimRight(textOf(rest[:end]), " "))
		rest = rest[end:]
		for len(rest) > 0 && rest[0].text == " " {
			rest = rest[1:]
		}
	}
	return rows
}

// mayCut reports whether a row may end before list[i].
func mayCut(list []cluster, i int) bool {
	return list[i].text == " " || list[i-1].text == " " || list[i].width > 1 || list[i-1].width > 1
}

// wordEnd is the end of the word that list[i] is in.
func wordEnd(list []cluster, i int) int {
	for i < len(list) && !mayCut(list, i) {
		i++
	}
	return i
}

// fit cuts a text to a width, and puts … where something is missing.
func fit(text string, width int) string {
	list := clusters(text)
	if widthOf(list) <= width {
		return text
	}
	cells := 0
	for i, c := range list {
		if cells += c.width; cells > width-1 {
			return textOf(list[:i]) + "…"
		}
	}
	return text
}

// pad fills a text up to a width.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-widthOf(clusters(text))))
}

// editor is a line being written.
type editor struct {
	list   []cluster
	cursor int // before list[cursor]
}

func (e *editor) text() string { return textOf(e.list) }
func (e *editor) size() int    { return len(e.text()) }
func (e *editor) empty() bool  { return len(e.list) == 0 }

func (e *editor) set(text string) {
	e.list = clusters(text)
	e.cursor = len(e.list)
}

// insert puts a text before the cursor. Characters that join, such as an accent and its
// letter, become one cluster.
func (e *editor) insert(text string) {
	left := textOf(e.list[:e.cursor]) + text
	e.list = clusters(left + textOf(e.list[e.cursor:]))
	e.cursor = 0
	for n := 0; n < len(left); e.cursor++ {
		n += len(e.list[e.cursor].text)
	}
}

// move goes to an index, or to the nearest that exists.
func (e *editor) move(to int) { e.cursor = min(max(0, to), len(e.list)) }

// cut deletes from one index to another, and leaves the cursor there.
func (e *editor) cut(from, to int) {
	from, to = max(0, from), min(to, len(e.list))
	if from < to {
		e.list = append(e.list[:from:from], e.list[to:]...)
		e.cursor = from
	}
}

// wordLeft is where the word before the cursor begins.
func (e *editor) wordLeft() int {
	i := e.cursor
	for i > 0 && e.list[i-1].text == " " {
		i--
	}
	for i > 0 && e.list[i-1].text != " " {
		i--
	}
	return i
}

// wordRight is where the word after the cursor ends.
func (e *editor) wordRight() int {
	i := e.cursor
	for i < len(e.list) && e.list[i].text == " " {
		i++
	}
	for i < len(e.list) && e.list[i].text != " " {
		i++
	}
	return i
}

// view returns the part around the cursor that fits, and the cell of the cursor in it.
func (e *editor) view(width int) (text string, cursor int) {
	start := e.cursor
	// As much before the cursor as leaves room for it and for the cluster that it is on.
	under := 1
	if e.cursor < len(e.list) {
		under = max(1, e.list[e.cursor].width)
	}
	for start > 0 && widthOf(e.list[start-1:e.cursor])+under <= width {
		start--
	}
	end := start
	for end < len(e.list) && widthOf(e.list[start:end+1]) <= width {
		end++
	}
	return textOf(e.list[start:end]), widthOf(e.list[start:e.cursor])
}
