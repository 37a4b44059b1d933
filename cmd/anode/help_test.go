package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
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

// What could not be printed is a failure, also of the verbs that print line by line.
func TestUnwritten(t *testing.T) {
	f, err := os.Open(os.DevNull) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, verb := range []string{"version", "--help"} {
		var said bytes.Buffer
		if code := newApp(f, &said).run(t.Context(), []string{verb}); code != exitFailed || !strings.Contains(said.String(), "the output could not be written") {
			t.Errorf("%s: %d, %q", verb, code, said.String())
		}
	}
}

// The check of what is written must not hide that a file is a terminal: up and chat ask.
func TestCheckedTerminal(t *testing.T) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("this system has no /dev/ptmx")
	}
	defer f.Close()
	if a := newApp(f, io.Discard); isTerminal(f) != a.terminal || isTerminal(a.out) != a.terminal || a.eventText(a.out).width == 0 != !a.terminal {
		t.Errorf("terminal %t, but its output is one: %t", a.terminal, isTerminal(a.out))
	}
}

// The process of a node makes no verb but its own, and nobody sees that.
func TestNodeHasOwnVerbOnly(t *testing.T) {
	for _, verb := range []string{"up", "daemon"} {
		a := newApp(io.Discard, io.Discard)
		for _, cmd := range a.root(verb, "--no-such").Commands() {
			if name := cmd.Name(); name != verb && name != "help" && name != "completion" {
				t.Errorf("%s: there is %s", verb, name)
			}
		}
		for _, more := range []string{"--help", "--no-such", "unexpected", "--state"} {
			lone, all := outcome(a.root(verb, more), verb, more), outcome(a.root(), verb, more)
			if lone != all || lone == "" {
				t.Errorf("%s %s: %s\nwith all verbs: %s", verb, more, lone, all)
			}
		}
	}
}

// outcome returns what a command line prints, and its error.
func outcome(root *cobra.Command, args ...string) string {
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	if err := root.Execute(); err != nil {
		f := explain(err)
		fmt.Fprintf(&out, "%d %s; try: %s", f.exit, f.message, f.try)
	}
	return out.String()
}
