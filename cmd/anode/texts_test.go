package main

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"anodenet/cmd/internal/config"
)

// The README and the topics name commands, keys of the configuration and files. These tests
// find those that do not exist, so that the texts cannot fall behind the program.

// readme is the path of the README.
const readme = "../../README.md"

// maxReadme is the most lines of the README: what is longer belongs into a topic.
const maxReadme = 300

// texts returns the README and the topics by name.
func texts(t *testing.T) map[string]string {
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"README.md": string(b)}
	for _, topic := range topics() {
		all[topic.name] = topic.text
	}
	return all
}

func TestTextsCommands(t *testing.T) {
	total := 0
	for name, text := range texts(t) {
		for _, line := range linesToCopy(text) {
			for _, command := range commandsIn(line) {
				total++
				if err := checkCommand(command, true); err != nil {
					t.Errorf("%s: %q: %v", name, line, err)
				}
			}
		}
		for _, quoted := range quotedIn(text) {
			for _, command := range commandsIn(quoted) {
				total++
				if err := checkCommand(command, false); err != nil {
					t.Errorf("%s: %q: %v", name, quoted, err)
				}
			}
		}
	}
	if total < 100 {
		t.Errorf("only %d commands were found", total)
	}
}

// TestReadmeCommands: the table of commands has all of them. Of a command that is there itself, the
// verbs below it may be left out, except of these.
func TestReadmeCommands(t *testing.T) {
	strict := []string{"invite", "peers", "dns"}
	there := map[string]bool{"anode dns status": true} // which is "anode dns"
	_, table, _ := strings.Cut(texts(t)["README.md"], "\n## Commands\n")
	root := newApp(io.Discard, io.Discard).root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, quoted := range quotedIn("\n## Commands\n" + table) {
		if cmd, _, err := root.Find(strings.Fields(quoted)[1:]); err == nil {
			there[cmd.CommandPath()] = true
		}
	}
	for _, cmd := range root.Commands() {
		below := cmd.Commands()
		if there[cmd.CommandPath()] && !slices.Contains(strict, cmd.Name()) {
			continue
		}
		if len(below) == 0 || slices.Contains(strict, cmd.Name()) && cmd.Name() != "peers" {
			below = append(below, cmd)
		}
		for _, c := range below {
			if !c.Hidden && !there[c.CommandPath()] {
				t.Errorf("the table of commands lacks %q", c.CommandPath())
			}
		}
	}
}

// linesToCopy returns the lines of a text that are shown apart from it: those after "$ " in
// the README, and those indented by four blanks in a topic.
func linesToCopy(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if line, ok := strings.CutPrefix(line, "$ "); ok {
			lines = append(lines, strings.TrimSpace(line))
		} else if strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

var (
	quotes    = regexp.MustCompile(`(?s)"((?:sudo )?anode [^"]+)"|` + "`((?:sudo )?anode [^`]+)`")
	tableSpan = regexp.MustCompile("`([a-z][^`]*)`")
)

// quotedIn returns the commands that a text quotes in its sentences, and those of the first
// column of the table of commands.
func quotedIn(text string) (list []string) {
	for _, m := range quotes.FindAllStringSubmatch(text, -1) {
		list = append(list, strings.Join(strings.Fields(m[1]+m[2]), " "))
	}
	_, table, _ := strings.Cut(text, "\n## Commands\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		if column, ok := strings.CutPrefix(line, "| `"); ok {
			column, _, _ = strings.Cut("`"+column, " | ")
			for _, m := range tableSpan.FindAllStringSubmatch(column, -1) {
				list = append(list, "anode "+m[1])
			}
		}
	}
	return list
}

// commandsIn returns the commands of this program in a line for a shell, without "anode".
func commandsIn(line string) (list [][]string) {
	if at := strings.Index(line, "$("); at >= 0 {
		inner, rest, _ := strings.Cut(line[at+2:], ")")
		list = commandsIn(inner)
		line = line[:at] + "VALUE" + rest
	}
	var command []string
	end := func() {
		if i := slices.Index(command, "anode"); i == 0 || i == 1 && command[0] == "sudo" {
			list = append(list, command[i:])
		}
		command = nil
	}
	for _, word := range shellWords(line) {
		if strings.Contains(word, "=anode ") { // of ProxyCommand
			list = append(list, commandsIn(word[strings.Index(word, "anode "):])...)
		}
		switch word {
		case "|", "&&", ";", ">":
			end()
		default:
			command = append(command, word)
		}
	}
	end()
	return list
}

// shellWords splits a line at blanks outside of quotes, up to a comment.
func shellWords(line string) (words []string) {
	var word strings.Builder
	var quote rune
	add := func() {
		if word.Len() > 0 {
			words = append(words, word.String())
		}
		word.Reset()
	}
	for _, c := range line + " " {
		switch {
		case c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote = c
		case c == '#' && word.Len() == 0:
			return words
		case c == ' ':
			add()
		default:
			word.WriteRune(c)
		}
	}
	return words
}

// checkCommand returns what is wrong with a command line, "anode" first. One that is only
// mentioned, not complete, may lack its arguments.
func checkCommand(line []string, complete bool) error {
	a := newApp(io.Discard, io.Discard)
	cmd, rest, err := a.root().Find(line[1:])
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	args := cmd.Flags().Args()
	switch {
	case cmd.Name() == "help":
		return help(cmd, args)
	case len(args) == 0 && !complete:
		return nil
	case cmd.HasSubCommands() && cmd.Args(cmd, make([]string, 99)) == nil: // made by group
		if len(args) > 0 {
			return unknownVerb(cmd, args[0])
		}
		return nil
	}
	return cmd.Args(cmd, args)
}

// The check of commands finds each kind of mistake.
func TestCheckCommand(t *testing.T) {
	for line, good := range map[string]bool{
		"anode": true, "sudo anode up --relay --zone 192.0.2.1   # there": true, "anode help zone": true, "anode help peers add": true,
		"ssh -o ProxyCommand='anode nc %h %p' north": true, "ssh $(anode ip north)": true, "echo a | anode nc --udp north 7": true,
		"anode sttaus": false, "anode up --rely": false, "anode up now": false, "anode help zon": false, "anode peers ad": false, "anode ping": false,
		"ssh -o ProxyCommand='anode nc %h' north": false, "ssh $(anode pi north)": false, "echo a | anode nc --utp north 7": false, "anode up --port x": false,
	} {
		commands := commandsIn(line)
		if len(commands) != 1 {
			t.Errorf("%q: found %q", line, commands)
			continue
		}
		if err := checkCommand(commands[0], true); (err == nil) != good {
			t.Errorf("%q: got %v", line, err)
		}
	}
}

var (
	setting   = regexp.MustCompile(`\b[a-z][a-z0-9_.]* = (?:"[^"]*"|\[[^\]\n]*\]|true|false|\d+)`)
	variable  = regexp.MustCompile(`\bANODE_[A-Z0-9_]+=\S+`)
	mentioned = regexp.MustCompile(`\b[a-z0-9]+\.[a-z0-9_]+\b`)
	lineOfKey = regexp.MustCompile(`^(\[\[?[a-z0-9]+\]\]?|[a-z][a-z0-9_.]* = .*)$`)
)

// TestTextsSettings: what the texts set in the configuration can be set, and what they
// mention of it exists.
func TestTextsSettings(t *testing.T) {
	var sections []string
	keys := map[string]bool{"lan.peers": true}
	for _, k := range config.Keys() {
		keys[k.Name] = true
		if section, _, ok := strings.Cut(k.Name, "."); ok {
			sections = append(sections, section)
		}
	}
	total := 0
	for name, text := range texts(t) {
		for _, s := range settingsIn(text) {
			total++
			if _, err := config.Parse([]byte(s)); err != nil {
				t.Errorf("%s: %q: %v", name, s, err)
			}
		}
		for _, v := range variable.FindAllString(text, -1) {
			total++
			if _, err := (config.Source{Env: []string{v}}).Load(); err != nil {
				t.Errorf("%s: %s: %v", name, v, err)
			}
		}
		for _, word := range mentioned.FindAllString(text, -1) {
			section, key, _ := strings.Cut(word, ".")
			if slices.Contains(sections, section) && !keys[word] && key != "txt" && key != "go" && key != "db" {
				t.Errorf("%s: there is no key %s", name, word)
			}
		}
	}
	if total < 15 {
		t.Errorf("only %d settings were found; sections: %q", total, slices.Compact(sections))
	}
}

// settingsIn returns what a text sets: whole paragraphs that are configuration, since they
// may name sections, and single settings elsewhere.
func settingsIn(text string) (list []string) {
	for _, paragraph := range strings.Split(text, "\n\n") {
		lines := strings.Split(paragraph, "\n")
		whole := true
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
			whole = whole && lineOfKey.MatchString(lines[i])
		}
		if whole {
			list = append(list, strings.Join(lines, "\n"))
		} else {
			list = append(list, setting.FindAllString(paragraph, -1)...)
		}
	}
	return list
}

var leadsTo = regexp.MustCompile(`\]\(([^)#:]+)\)|\./(scripts/[a-z-]+)`)

func TestReadmeIsShort(t *testing.T) {
	if n := strings.Count(texts(t)["README.md"], "\n"); n > maxReadme {
		t.Errorf("%d lines, want at most %d; try: a help topic", n, maxReadme)
	}
}

// TestTextsFiles: the files and scripts that the texts lead to exist.
func TestTextsFiles(t *testing.T) {
	found := map[string]bool{}
	for _, text := range texts(t) {
		for _, m := range leadsTo.FindAllStringSubmatch(text, -1) {
			found[m[1]+m[2]] = true
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(readme), path)); err != nil {
			t.Error(err)
		}
	}
	if len(found) < 20 {
		t.Errorf("only %d files were found", len(found))
	}
}
