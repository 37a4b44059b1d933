package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// yes asks a question, and reports whether the answer is yes. No answer is no.
func (a *app) yes(ctx context.Context, in io.Reader, question string) (bool, error) {
	fmt.Fprint(a.err, question+" [y/N] ")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.err) // the cursor is behind the question
		return false, ctx.Err()
	case line, more := <-linesOf(ctx, in):
		if !more {
			fmt.Fprintln(a.err)
		}
		return isYes(line), nil
	}
}

// isYes reports whether a line is a yes.
func isYes(line string) bool {
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes"
}

// linesOf sends the lines of a text, without blanks around, and closes the channel. A read from a
// terminal cannot be interrupted: its goroutine ends with the program.
func linesOf(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(io.LimitReader(in, maxLink+1)) // one more: it is too long
		for s.Scan() {
			select {
			case lines <- strings.TrimSpace(s.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
