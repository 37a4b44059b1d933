package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// maxTopicLines is the most lines of a topic: it is read without a pager.
const maxTopicLines = 120

func TestTopics(t *testing.T) {
	all := topics()
	if len(all) < 10 {
		t.Errorf("only %d topics", len(all))
	}
	a, out := onTerminal()
	if code := a.run(t.Context(), []string{"help"}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	overview := out.String()
	for _, topic := range all {
		a, out := onTerminal()
		if code := a.run(t.Context(), []string{"help", topic.name}); code != exitOK || out.String() != topic.text {
			t.Errorf("help %s: exit code %d, and\n%s", topic.name, code, out)
		}
		if !strings.Contains(overview, " "+topic.title+"\n") {
			t.Errorf("%s: anode help does not list it", topic.name)
		}
		checkTopic(t, topic)
	}
}

// checkTopic looks at the form of a topic.
func checkTopic(t *testing.T, topic topic) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(topic.text, "\n"), "\n")
	if len(lines) > maxTopicLines {
		t.Errorf("%s: %d lines, want at most %d", topic.name, len(lines), maxTopicLines)
	}
	for i, line := range lines {
		if n := utf8.RuneCountInString(line); n > usualWidth {
			t.Errorf("%s:%d: %d columns", topic.name, i+1, n)
		}
		if strings.TrimRight(line, " ") != line || strings.ContainsFunc(line, unprintable) {
			t.Errorf("%s:%d: more than printable ASCII, or blanks at the end: %q", topic.name, i+1, line)
		}
	}
	if text := topic.paragraphs(); isHeading(text[0]) || lines[1] != "" {
		t.Errorf("%s: no text below the title", topic.name)
	}
	if len(topic.seeAlso()) == 0 {
		t.Errorf("%s: no section %s", topic.name, seeAlsoHeading)
	}
	for _, command := range topic.seeAlso() {
		if err := checkCommand(strings.Fields(command), false); err != nil {
			t.Errorf("%s: %s: %v", topic.name, command, err)
		}
	}
}

func unprintable(c rune) bool { return c < ' ' || c > '~' }

// The verbs that a topic is about name it, and so does the error of a topic taken for a verb.
func TestTopicsAreFound(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"zone", "--help"}, exitOK, "\nMore: anode help zone\n"},
		{[]string{"games", "--help"}, exitOK, "\nMore: anode help lan\n"},
		{[]string{"help", "zone", "join"}, exitOK, "Usage:\n  anode zone join"},
		{[]string{"blocked"}, exitUsage, "try: anode help blocked\n"},
		{[]string{"zone", "blocked"}, exitUsage, "try: anode zone --help\n"},
		{[]string{"help", "blockd"}, exitUsage, "try: anode help blocked\n"},
	} {
		a, out := onTerminal()
		a.err = out
		if code := a.run(t.Context(), test.args); code != test.code || !strings.Contains(out.String(), test.want) {
			t.Errorf("%q: exit code %d, and\n%s", test.args, code, out)
		}
	}
}

// Each topic is completed, once, although some are verbs too.
func TestTopicsComplete(t *testing.T) {
	a, _ := onTerminal()
	verb, _, err := a.root().Find([]string{"help"})
	if err != nil {
		t.Fatal(err)
	}
	words, directive := verb.ValidArgsFunction(verb, nil, "")
	for _, topic := range topics() {
		of := func(w cobra.Completion) bool { return strings.HasPrefix(w, topic.name+"\t") }
		if i := slices.IndexFunc(words, of); i < 0 || words[i] != topic.name+"\t"+topic.title || slices.ContainsFunc(words[i+1:], of) {
			t.Errorf("%s is not completed once: %q", topic.name, words)
		}
	}
	if directive != cobra.ShellCompDirectiveNoFileComp {
		t.Errorf("got directive %d", directive)
	}
	if words, _ = verb.ValidArgsFunction(verb, nil, "zo"); len(words) != 1 {
		t.Errorf("zo: got %q", words)
	}
	if words, _ = verb.ValidArgsFunction(verb, []string{"zone"}, "b"); len(words) != 0 {
		t.Errorf("zone b: got %q", words)
	}
}

// The pages of verbs and topics are what the programs that show them expect.
func TestManRenders(t *testing.T) {
	check := []string{"mandoc", "-T", "lint", "-W", "warning"}
	if _, err := exec.LookPath(check[0]); err != nil {
		check = []string{"groff", "-ww", "-man", "-Tascii", "-z"}
	}
	if _, err := exec.LookPath(check[0]); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("neither mandoc nor groff is there")
	}
	dir := t.TempDir()
	a, _ := onTerminal()
	if code := a.run(t.Context(), []string{"man", dir}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	for _, topic := range topics() {
		page, err := os.ReadFile(filepath.Join(dir, "anode-"+topic.name+".7"))
		if err != nil || strings.Count(string(page), "\n.SH ") < 4 {
			t.Errorf("%s: %v, or no sections:\n%s", topic.name, err, page)
		}
	}
	pages, _ := filepath.Glob(filepath.Join(dir, "*.[17]"))
	if said, err := exec.Command(check[0], append(check[1:], pages...)...).CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("%s: %v\n%s", check[0], err, said)
	}
}
