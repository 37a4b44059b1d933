package main

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// topicFiles are the help topics, topics/NAME.txt each, at most 80 columns wide. The first
// line is the title. Paragraphs follow, separated by empty lines:
//
//	HEADING
//
//	Text, with "anode commands" in quotes.
//
//	    lines to copy, indented by four blanks
//
//	- an item of a list,
//	  which may have several lines
//	- another one
//
//	SEE ALSO
//
//	anode VERB, anode help TOPIC
//
// The same text is the manual page anode-NAME(7).
//
//go:embed topics/*.txt
var topicFiles embed.FS

// topicDir is where topicFiles holds them.
const topicDir = "topics"

// topic is a help text that belongs to no single verb. It may be called as one: "anode help
// zone" is the topic, and "anode zone --help" the verb's own help.
type topic struct {
	name, title string
	text        string // as it is printed, the title first
}

// topics returns all topics by name.
func topics() (list []topic) {
	files, _ := topicFiles.ReadDir(topicDir) // what is embedded can be read
	for _, f := range files {
		b, _ := topicFiles.ReadFile(topicDir + "/" + f.Name())
		t := topic{name: strings.TrimSuffix(f.Name(), ".txt"), text: string(b)}
		t.title, _, _ = strings.Cut(t.text, "\n")
		list = append(list, t)
	}
	return list
}

// findTopic returns the topic of a name.
func findTopic(name string) (topic, bool) {
	list := topics()
	i := slices.IndexFunc(list, func(t topic) bool { return t.name == name })
	if i < 0 {
		return topic{}, false
	}
	return list[i], true
}

// paragraphs returns the text after the title.
func (t topic) paragraphs() []string {
	_, body, _ := strings.Cut(strings.TrimSpace(t.text), "\n")
	return strings.Split(strings.TrimSpace(body), "\n\n")
}

// seeAlso returns the commands of the last section, such as "anode zone" and "anode help
// network".
func (t topic) seeAlso() []string {
	_, last, ok := strings.Cut(t.text, "\n"+seeAlsoHeading+"\n")
	if !ok {
		return nil
	}
	return strings.Split(strings.Join(strings.Fields(last), " "), ", ")
}

// seeAlsoHeading begins the last section of a topic.
const seeAlsoHeading = "SEE ALSO"

// isHeading reports whether a paragraph is a heading: one line without small letters.
func isHeading(paragraph string) bool {
	return !strings.Contains(paragraph, "\n") && strings.ToUpper(paragraph) == paragraph
}

// topicsAbout returns the topics that name a command in their last section.
func topicsAbout(cmd *cobra.Command) (list []topic) {
	for _, t := range topics() {
		if slices.Contains(t.seeAlso(), cmd.CommandPath()) {
			list = append(list, t)
		}
	}
	return list
}

// topicUsage lists the topics at the end of the program's help, and those about a verb at
// the end of its own.
func topicUsage(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasParent() {
		b.WriteString("\nAdditional help topics:\n")
		for _, t := range topics() {
			fmt.Fprintf(b, "  %-*s %s\n", cmd.Commands()[0].NamePadding(), t.name, t.title)
		}
		fmt.Fprintf(b, "\nUse \"%s help [topic]\" for a topic.\n", cmd.CommandPath())
		return
	}
	if about := topicsAbout(cmd); len(about) > 0 {
		b.WriteByte('\n')
		for _, t := range about {
			fmt.Fprintf(b, "More: %s help %s\n", cmd.Root().Name(), t.name)
		}
	}
}

// topicHelp adds the topics to what the library's help verb says and completes.
func topicHelp(cmd *cobra.Command) {
	cmd.Use = "help [command | topic]"
	cmd.Short = "Help about a command or a topic"
	cmd.Long = "Print the help of a command, or a topic; both are listed by \"anode help\"."
	verbs := cmd.ValidArgsFunction
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		words, directive := verbs(cmd, args, begun)
		if len(args) > 0 {
			return words, directive
		}
		for _, t := range topics() {
			words = slices.DeleteFunc(words, func(w cobra.Completion) bool { return strings.HasPrefix(w, t.name+"\t") })
			if strings.HasPrefix(t.name, begun) {
				words = append(words, cobra.CompletionWithDesc(t.name, t.title))
			}
		}
		return words, directive
	}
}
