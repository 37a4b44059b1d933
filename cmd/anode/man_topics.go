package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// writeTopics writes the pages of the help topics into a directory.
func writeTopics(dir string, date time.Time) error {
	for _, t := range topics() {
		if err := os.WriteFile(filepath.Join(dir, "anode-"+t.name+".7"), []byte(topicPage(t, date)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// topicPage is a topic in the language of man(7).
func topicPage(t topic, date time.Time) string {
	var m roff
	m.head("anode-"+t.name, "7", date)
	m.section("NAME")
	m.text("anode-" + t.name + " - " + t.title)
	m.section("DESCRIPTION")
	first := true // of its section
	for _, paragraph := range t.paragraphs() {
		switch {
		case paragraph == seeAlsoHeading:
			m.section(paragraph)
			m.references(t.seeAlso())
			return m.String()
		case isHeading(paragraph):
			m.section(paragraph)
			first = true
			continue
		case strings.HasPrefix(paragraph, "- "):
			m.list(paragraph)
		default:
			if !first {
				m.line(".PP")
			}
			m.text(paragraph)
		}
		first = false
	}
	return m.String()
}

// list writes a paragraph of items.
func (m *roff) list(paragraph string) {
	for line := range strings.Lines(paragraph) {
		line = strings.TrimSuffix(line, "\n")
		if item, ok := strings.CutPrefix(line, "- "); ok {
			m.WriteString(".IP \\(bu 2\n")
			line = item
		}
		m.plain(strings.TrimSpace(line))
	}
}

// references writes commands as the names of their pages.
func (m *roff) references(commands []string) {
	for i, command := range commands {
		page, section := command, "(1)"
		if name, ok := strings.CutPrefix(command, "anode help "); ok {
			page, section = "anode "+name, "(7)"
		}
		if i > 0 {
			m.WriteString(",\n")
		}
		m.WriteString(roffBold(strings.ReplaceAll(page, " ", "-")) + section)
	}
	m.WriteByte('\n')
}
