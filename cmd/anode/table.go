package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// A verb that lists something prints the same for people wherever its output goes: to a
// terminal, to watch, through ssh. Programs ask for --json or --tsv.

// output is how a verb that lists something prints it.
type output struct{ json, tsv bool }

// outputFlags adds --json and --tsv.
func outputFlags(cmd *cobra.Command) *output {
	var o output
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&o.tsv, "tsv", false, "print tab-separated columns with raw values")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if o.json && o.tsv {
			return usage(cmd, "--json, --tsv: only one of them can be used")
		}
		return nil
	}
	return &o
}

// The bounds of the width that text is made for, and the width where none is known.
const (
	minWidth   = 60
	usualWidth = 80
	maxWidth   = 200
)

// columnsOf returns the width of the terminal, as it is or as $COLUMNS has it, which watch
// sets for the commands that it runs.
func (a *app) columnsOf() int {
	width := usualWidth
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil {
		width = n
	}
	if f, ok := a.out.(*checkedFile); ok && a.terminal {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	return min(max(width, minWidth), maxWidth)
}

// pairs prints names and values, a line each: aligned on a terminal, otherwise separated
// by a tab.
func (a *app) pairs(list ...[2]string) {
	if a.terminal {
		a.aligned(list...)
		return
	}
	for _, p := range list {
		fmt.Fprintf(a.out, "%s\t%s\n", p[0], p[1])
	}
}

// aligned prints names and values, a line each, and continues long values below.
func (a *app) aligned(list ...[2]string) {
	width := 0
	for _, p := range list {
		width = max(width, len(p[0]))
	}
	for _, p := range list {
		for i, line := range fold(p[1], a.columnsOf()-width-2) {
			name := p[0]
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(a.out, "%-*s  %s\n", width, name, line)
		}
	}
}

// tsv prints rows with a header, their cells separated by tabs.
func (a *app) tsv(rows [][]string) {
	for _, row := range rows {
		fmt.Fprintln(a.out, strings.Join(row, "\t"))
	}
}

// columns prints rows with a header, their cells aligned. A row of one cell that begins
// with blanks is a note on the row above it, and is printed as it is.
func (a *app) columns(rows [][]string) {
	widths := widthsOf(rows)
	for _, row := range rows {
		if isNote(row) {
			fmt.Fprintln(a.out, row[0])
			continue
		}
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(a.painted(cell))
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(a.out, strings.TrimRight(line.String(), " "))
	}
}

func isNote(row []string) bool { return len(row) == 1 && strings.HasPrefix(row[0], "  ") }

// widthsOf returns the width of each column.
func widthsOf(rows [][]string) (widths []int) {
	for _, row := range rows {
		if isNote(row) {
			continue
		}
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	return widths
}

// total returns how wide a table is.
func total(rows [][]string) int {
	sum := 0
	for i, w := range widthsOf(rows) {
		if i > 0 {
			sum += 2
		}
		sum += w
	}
	return sum
}

// column is one column of a table of Ts.
type column[T any] struct {
	head string
	cell func(T) string
}

// layout is one way to lay out a table. Its first column may be cut to a width.
type layout[T any] struct {
	shortest int
	columns  []column[T]
}

// arrange makes the rows of a table in the first layout that fits a width, with a header.
// The last layout is taken even if it does not fit.
func arrange[T any](width int, list []T, layouts ...layout[T]) (rows [][]string) {
	for _, l := range layouts {
		rows = rowsOf(l.columns, list)
		if cutToFit(rows, width, l.shortest) {
			break
		}
	}
	return rows
}

func rowsOf[T any](columns []column[T], list []T) [][]string {
	rows := make([][]string, 1+len(list))
	for i := range rows {
		rows[i] = make([]string, len(columns))
	}
	for k, c := range columns {
		rows[0][k] = c.head
		for i, x := range list {
			rows[1+i][k] = c.cell(x)
		}
	}
	return rows
}

// cutToFit reports whether a table fits a width. If need be, it cuts the first column, but to
// no less than shortest.
func cutToFit(rows [][]string, width, shortest int) bool {
	over := max(0, total(rows)-width)
	if over == 0 {
		return true
	}
	room := widthsOf(rows)[0] - over
	if room < shortest {
		return false
	}
	cutFirst(rows, room)
	return true
}

// cutFirst shortens the cells of the first column to a width.
func cutFirst(rows [][]string, width int) {
	for _, row := range rows {
		row[0] = cut(row[0], width)
	}
}

// cut shortens a text to a width.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width-1, 0)]) + "…"
}

// fold breaks a text at blanks into lines of at most a width, unless a word is longer. A
// command whose address needs a line of its own gets a backslash, so that people can copy
// both lines into a shell.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Split(text, " ") {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			if goesOn := line + " \\"; strings.HasSuffix(line, "anode peers add") && utf8.RuneCountInString(goesOn) <= width {
				line = goesOn
			}
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// noteLines is a note for columns: a text below a row, indented.
func noteLines(text string, width int) (rows [][]string) {
	for _, line := range fold(text, width-2) {
		rows = append(rows, []string{"  " + line})
	}
	return rows
}

// painted colours the words that are states or verdicts.
func (a *app) painted(cell string) string {
	const green, yellow, red, end = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
	switch {
	case !a.color:
		return cell
	case cell == "up", cell == string(fine):
		return green + cell + end
	case cell == "connecting", cell == string(slow), cell == string(warn):
		return yellow + cell + end
	case slices.Contains([]string{"unreachable", "blocked", string(bad)}, cell):
		return red + cell + end
	}
	return cell
}
