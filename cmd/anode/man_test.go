package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestMan: each visible command has a page, two runs make the same, and no line of a text
// is taken for a request of roff.
func TestMan(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	var dirs [2]string
	for i := range dirs {
		dirs[i] = t.TempDir()
		a, _ := onTerminal()
		if code := a.run(t.Context(), []string{"man", dirs[i]}); code != exitOK {
			t.Fatalf("exit code %d", code)
		}
	}
	a, _ := onTerminal()
	pages := 0
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" { // the library adds it
			return
		}
		pages++
		name := manName(c) + ".1"
		page, err := os.ReadFile(filepath.Join(dirs[0], name))
		if err != nil {
			t.Error(err)
		}
		again, _ := os.ReadFile(filepath.Join(dirs[1], name))
		if string(page) != string(again) || !strings.Contains(string(page), `"2023\-11\-14"`) {
			t.Errorf("%s: other texts, or another date:\n%s", name, page)
		}
		for _, c := range c.Commands() {
			visit(c)
		}
	}
	visit(a.root())
	if pages < 20 {
		t.Errorf("only %d pages", pages)
	}
	for _, text := range []string{".TH", "'br", `\fB`} {
		if got := roffEscape(text); got[0] == '.' || got[0] == '\'' || strings.Contains(got, `\f`) {
			t.Errorf("%q became %q", text, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dirs[0], "anode-man.1")); err == nil {
		t.Error("a hidden command has a page")
	}
}

// TestManExamples: every example is a command that exists, with flags that it has.
func TestManExamples(t *testing.T) {
	a, _ := onTerminal()
	for path, text := range manExamples {
		cmd, rest, err := a.root().Find(strings.Fields(path))
		if err != nil || len(rest) > 0 {
			t.Errorf("no command %q: %v", path, err)
			continue
		}
		for line := range strings.Lines(text) {
			_, args, ok := strings.Cut(" "+strings.TrimSpace(line), " anode ")
			args, _, _ = strings.Cut(args, " |")
			if !ok || path == "" || strings.Contains(line, "$(") || strings.Contains(line, "systemctl") || strings.Contains(line, "chown") {
				continue
			}
			words := strings.Fields(args)
			if !strings.HasPrefix(args, path) {
				t.Errorf("%q: %q is another command", path, args)
			} else if err := cmd.ParseFlags(words[len(strings.Fields(path)):]); err != nil {
				t.Errorf("%q: %v", args, err)
			}
		}
	}
}

func TestManDate(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := manDate(); explain(err).exit != exitUsage {
		t.Errorf("got %v", err)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if d, err := manDate(); err != nil || d.Location() != time.UTC {
		t.Errorf("got %v, %v", d, err)
	}
}
