package main

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
)

// The styles; they are plain without colour.
const (
	dim     = "\x1b[2m"
	reverse = "\x1b[7m"
	bold    = "\x1b[1m"
)

func (m *chatModel) paint(style, text string) string {
	if !m.color {
		return text
	}
	return style + text + colorEnd
}

const prompt = "> "

// View draws the screen.
func (m *chatModel) View() tea.View {
	rows := make([]string, 0, m.height)
	if m.height > 2 {
		rows = append(rows, m.paint(reverse, pad(fit("anode chat   "+m.linked, m.width), m.width)))
		if m.help {
			rows = append(rows, m.helpPage()...)
		} else {
			rows = append(rows, m.history()...)
		}
	}
	if m.height > 1 {
		rows = append(rows, m.message())
	}
	ps := prompt
	if m.width < 2*len(ps) {
		ps = ""
	}
	text, cursor := m.edit.view(m.width - len(ps))
	rows = append(rows, ps+text)
	v := tea.NewView(strings.Join(rows, "\n"))
	v.AltScreen = true
	v.WindowTitle = "anode chat"
	if m.ask == nil {
		v.Cursor = tea.NewCursor(len(ps)+cursor, len(rows)-1)
	}
	return v
}

// history returns the rows on the screen, with empty ones above the first text.
func (m *chatModel) history() []string {
	page := m.page()
	end := len(m.rows) - m.up
	begin := max(0, end-page)
	rows := make([]string, page-(end-begin), page)
	return append(rows, m.rows[begin:end]...)
}

// helpPage returns what /help shows in place of the history: as much as fits.
func (m *chatModel) helpPage() []string {
	rows := make([]string, m.page())
	for i, row := range strings.Split(strings.TrimSpace(chatHelp), "\n") {
		if i < len(rows) {
			rows[i] = fit(row, m.width)
		}
	}
	return rows
}

// message is the line above the prompt.
func (m *chatModel) message() string {
	text := m.notice
	switch {
	case m.ask != nil:
		return m.paint(bold, fit(m.ask.text, m.width))
	case len(m.outbox) > 1:
		text = fmt.Sprintf("Saying %d of %d lines; Esc stops.", m.of-len(m.outbox)+1, m.of)
	case text == "" && m.unseen > 0:
		text = fmt.Sprintf("↓ %d new below; PgDn", m.unseen)
	case text == "" && m.up > 0:
		text = fmt.Sprintf("↓ %s below; PgDn", count(m.up, "row"))
	case text == "" && m.help:
		text = "Any key closes this page"
	case text == "" && len(m.entries) == 0:
		text = "Nobody has said anything yet. /help lists the keys"
	case text == "" && m.edit.empty():
		text = "Enter says it, PgUp scrolls, Esc quits, /help"
	}
	return m.paint(dim, fit(text, m.width))
}
