package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// Help is read on terminals of 80 columns, where a longer line breaks anywhere.
func TestHelpFitsTerminal(t *testing.T) {
	for _, name := range []string{"ANODE_STATE", "ANODE_SOCKET", "ANODE_CONFIG"} {
		t.Setenv(name, "")
	}
	var out bytes.Buffer
	root := newApp(&out, io.Discard).root()
	verbs := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		verbs++
		out.Reset()
		cmd.InitDefaultHelpFlag()
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > usualWidth {
				t.Errorf("%s --help: %d columns: %s", cmd.CommandPath(), utf8.RuneCountInString(line), line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if verbs < 30 {
		t.Errorf("only %d verbs were looked at", verbs)
	}
}

// A command with a whole address is wider than a terminal: both lines can be copied.
func TestFoldedCommand(t *testing.T) {
	address := strings.Repeat("a", 64)
	want := []string{`on that machine: anode peers add \`, address}
	if got := fold("on that machine: anode peers add "+address, usualWidth-2); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
