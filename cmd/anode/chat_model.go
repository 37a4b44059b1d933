package main

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// chatModel is the full-screen chat:
//
//	anode chat   adapter: north, south                        linked
//	── Saturday 21 November 2026 ──
//	12:00 via north        a text, wrapped
//	                       where it is long
//	 2 new texts below                                        notice, or a question
//	> what is being written_
//
// No text stands beside another in a row, so that right-to-left ones, which some
// terminals turn around, disturb nothing but themselves.
type chatModel struct {
	color         bool
	zone          *time.Location
	yes           bool // secrets are said without a question
	width, height int

	entries []control.Entry // at most chatMost
	rows    []string        // of all entries, wrapped to width
	day     string          // of the last entry
	up      int             // rows scrolled up from the newest
	unseen  int             // entries that came while scrolled up

	edit   editor
	typed  typed
	ask    *question // nil: none
	notice string
	help   bool // /help is shown in place of the history

	outbox []outgoing // waits to be said; the first is on its way
	of     int        // size of the outbox when it was last empty

	linked string

	// What reaches the daemon.
	say    func(text string, anyway bool) tea.Cmd
	look   tea.Cmd // asks who is linked: a linksMsg
	follow tea.Cmd // sends entryMsgs, and ends with an endedMsg
}

// outgoing is a text to be said.
type outgoing struct {
	text   string
	anyway bool
}

// question is asked in place of the notice. All keys go to it; those without an answer do
// nothing.
type question struct {
	text    string
	answers map[string]func() tea.Cmd // by key
}

// What a chat is told.
type (
	entryMsg struct {
		control.Entry
		first bool // of a new stream, which repeats what is shown
	}
	linksMsg struct {
		control.Info2Status
		err error
	}
	saidMsg   struct{ err error }
	nextMsg   struct{} // of the outbox
	endedMsg  struct{ err error }
	noticeMsg struct{ text string }
	lookMsg   struct{}
	againMsg  struct{}
)

const (
	chatMost  = 2000            // entries that are kept
	nameCells = 16              // of who brought a text
	lookEvery = 2 * time.Second // at who is linked
	tryEvery  = 2 * time.Second // to find the daemon again
)

func newChatModel(color bool, zone *time.Location) *chatModel {
	return &chatModel{color: color, zone: zone, width: 80, height: 24, linked: "…"}
}

// Init begins to follow and to look.
func (m *chatModel) Init() tea.Cmd { return tea.Batch(m.follow, m.look) }

// Update takes one message.
func (m *chatModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.resize(msg.Width, msg.Height)
	case tea.KeyPressMsg:
		return m, m.key(msg)
	case tea.PasteMsg:
		return m, m.paste(msg.Content)
	case entryMsg:
		m.take(msg)
	case linksMsg:
		m.linked = linkedWords(msg)
		return m, tea.Tick(lookEvery, func(time.Time) tea.Msg { return lookMsg{} })
	case noticeMsg:
		m.notice = msg.text
	case lookMsg:
		return m, m.look
	case saidMsg:
		return m, m.said(msg.err)
	case nextMsg:
		return m, m.say(m.outbox[0].text, m.outbox[0].anyway)
	case endedMsg:
		m.notice = noDaemon
		return m, tea.Tick(tryEvery, func(time.Time) tea.Msg { return againMsg{} })
	case againMsg:
		return m, m.follow
	}
	return m, nil
}

// noDaemon is the notice until the chat has a daemon again.
const noDaemon = "The daemon has stopped; waiting for it."

// linkedWords lists who is linked.
func linkedWords(msg linksMsg) string {
	if msg.err != nil {
		return explain(msg.err).message
	}
	var list []string
	for _, n := range msg.Networks {
		who := strings.Join(linkedNames(n), ", ")
		switch {
		case n.Failed != "":
			who = "does not run; see anode info2 status"
		case who == "":
			who = "nobody is linked"
		}
		list = append(list, n.Network+": "+who)
	}
	if len(list) == 0 {
		return "Info2 is off; see anode info2 status"
	}
	return strings.Join(list, "   ")
}

// take shows an entry.
func (m *chatModel) take(msg entryMsg) {
	if msg.first {
		m.entries, m.rows, m.day, m.up, m.unseen = nil, nil, "", 0, 0
		if m.notice == noDaemon {
			m.notice = ""
		}
	}
	before := len(m.rows)
	m.entries = append(m.entries, msg.Entry)
	m.addRows(msg.Entry)
	if m.up > 0 {
		m.up += len(m.rows) - before
		m.unseen++
	}
	if len(m.entries) >= chatMost+chatMost/4 { // now and then, since it wraps them all
		m.entries = append([]control.Entry(nil), m.entries[len(m.entries)-chatMost:]...)
		m.layout()
	}
}

func (m *chatModel) resize(width, height int) {
	wrapped := width != m.width
	m.width, m.height = width, height
	if wrapped {
		m.layout()
	}
	m.scroll(0)
}

// layout wraps all entries anew.
func (m *chatModel) layout() {
	m.rows, m.day = nil, ""
	for _, e := range m.entries {
		m.addRows(e)
	}
	m.scroll(0)
}

// addRows wraps an entry for the width.
func (m *chatModel) addRows(e control.Entry) {
	at := e.Time.In(m.zone)
	if day := at.Format("Monday 2 January 2006"); day != m.day {
		m.day = day
		m.rows = append(m.rows, m.paint(dim, fit("── "+day+" ──", m.width)))
	}
	if e.Lost > 0 {
		m.rows = append(m.rows, m.paint(dim, fit(count(int(e.Lost), "text")+" arrived too fast to be shown", m.width)))
	}
	who := via(e)
	const clock = 6 // "12:00 "
	indent := clock + nameCells + 1
	name := pad(fit(who, nameCells), nameCells)
	if m.width < 2*indent { // no room for columns
		indent = 2
		name = fit(who, max(1, m.width-clock))
		m.rows = append(m.rows, fit(at.Format("15:04 ")+name, m.width))
	}
	for i, row := range wrap(e.Text, max(1, m.width-indent)) {
		if i == 0 && indent > 2 {
			m.rows = append(m.rows, m.paint(dim, at.Format("15:04 "))+m.paint(nameColor(e), name)+" "+row)
		} else {
			m.rows = append(m.rows, strings.Repeat(" ", indent)+row)
		}
	}
}

// page is how many rows of the history are on the screen.
func (m *chatModel) page() int { return max(0, m.height-3) }

// scroll goes up by so many rows, or down by negative ones.
func (m *chatModel) scroll(by int) {
	m.up = min(max(0, m.up+by), max(0, len(m.rows)-m.page()))
	if m.up == 0 {
		m.unseen = 0
	}
}

// key handles a key. Ctrl-C does what Esc does: nobody loses a line by it.
func (m *chatModel) key(k tea.KeyPressMsg) tea.Cmd {
	key := strings.Replace(k.Keystroke(), "ctrl+c", "esc", 1)
	if m.ask != nil {
		answer := m.ask.answers[strings.TrimPrefix(strings.ToLower(key), "shift+")]
		if answer == nil {
			return nil
		}
		m.ask = nil
		return answer()
	}
	m.notice = ""
	if m.help {
		m.help = false
		if key == "esc" || key == "enter" {
			return nil
		}
	}
	switch key {
	case "esc":
		return m.escape()
	case "enter", "kpenter":
		return m.enter()
	case "ctrl+d":
		if m.edit.empty() {
			return tea.Quit
		}
	case "ctrl+l":
		return tea.ClearScreen
	}
	if !m.scrollKey(key) && !m.editKey(key) {
		m.insert(k.Text)
	}
	return nil
}

// scrollKey moves in the history. It reports false for other keys.
func (m *chatModel) scrollKey(key string) bool {
	switch key {
	case "shift+up", "ctrl+up":
		m.scroll(1)
	case "shift+down", "ctrl+down":
		m.scroll(-1)
	case "pgup":
		m.scroll(m.page() - 1)
	case "pgdown":
		m.scroll(1 - m.page())
	case "ctrl+home":
		m.scroll(len(m.rows))
	case "ctrl+end":
		m.scroll(-len(m.rows))
	default:
		return false
	}
	return true
}

// editKey changes the line. It reports false for other keys.
func (m *chatModel) editKey(key string) bool {
	e := &m.edit
	switch key {
	case "up", "ctrl+p":
		m.typed.earlier(e)
	case "down", "ctrl+n":
		m.typed.later(e)
	case "left", "ctrl+b":
		e.move(e.cursor - 1)
	case "right", "ctrl+f":
		e.move(e.cursor + 1)
	case "home", "ctrl+a":
		e.move(0)
	case "end", "ctrl+e":
		e.move(len(e.list))
	case "ctrl+left", "alt+left", "alt+b":
		e.move(e.wordLeft())
	case "ctrl+right", "alt+right", "alt+f":
		e.move(e.wordRight())
	case "backspace", "ctrl+h":
		e.cut(e.cursor-1, e.cursor)
	case "delete", "ctrl+d":
		e.cut(e.cursor, e.cursor+1)
	case "ctrl+w", "alt+backspace":
		e.cut(e.wordLeft(), e.cursor)
	case "ctrl+u":
		e.cut(0, e.cursor)
	case "ctrl+k":
		e.cut(e.cursor, len(e.list))
	default:
		return false
	}
	return true
}

// insert writes a text of one line at the cursor, if it still fits into a message.
func (m *chatModel) insert(text string) {
	switch {
	case text == "":
	case m.edit.size()+len(text) > info2.MaxText:
		m.notice = fmt.Sprintf("A text has at most %d bytes.", info2.MaxText)
	default:
		m.edit.insert(text)
	}
}

// escape stops what is under way, or clears the line, which Up brings back; with nothing
// to stop or to clear it quits.
func (m *chatModel) escape() tea.Cmd {
	switch {
	case len(m.outbox) > 1:
		m.notice = fmt.Sprintf("Stopped; %s not said.", linesWere(len(m.outbox)-1))
		m.outbox = m.outbox[:1]
		return nil
	case !m.edit.empty():
		m.clear()
		m.notice = "Esc again quits; Up brings the line back"
		return nil
	}
	return tea.Quit
}

// linesWere is "1 line was" or "2 lines were".
func linesWere(n int) string {
	if n == 1 {
		return "1 line was"
	}
	return fmt.Sprintf("%d lines were", n)
}

// clear empties the line and keeps what was in it.
func (m *chatModel) clear() {
	m.typed.add(m.edit.text())
	m.edit.set("")
}

// enter says the line or does what it commands, or asks first.
func (m *chatModel) enter() tea.Cmd {
	text, command, err := parseLine(m.edit.text())
	switch {
	case err != nil:
		m.notice = fmt.Sprintf("Not said: %s; try: %s", explain(err).message, explain(err).try)
		return nil
	case command == chatQuits:
		return tea.Quit
	case command == chatHelps:
		m.clear()
		m.help = true
		return nil
	case text == "":
		return nil
	}
	what := info2.LooksSecret(text)
	if what == "" || m.yes {
		m.clear()
		return m.post(outgoing{text, what != ""})
	}
	m.ask = &question{
		text: fmt.Sprintf("This looks like %s, and everybody could read it. Say it? y/N", what),
		answers: map[string]func() tea.Cmd{"esc": no, "n": no, "enter": no, "y": func() tea.Cmd {
			m.clear()
			return m.post(outgoing{text, true})
		}},
	}
	return nil
}

// no is the answer that does nothing.
func no() tea.Cmd { return nil }

// post says texts one after the other, as fast as the budget allows.
func (m *chatModel) post(texts ...outgoing) tea.Cmd {
	m.scroll(-len(m.rows))
	idle := len(m.outbox) == 0
	m.outbox = append(m.outbox, texts...)
	m.of = len(m.outbox)
	if !idle {
		return nil
	}
	return m.say(m.outbox[0].text, m.outbox[0].anyway)
}

// said goes on after a text, or returns it to the editor if it could not be said.
func (m *chatModel) said(err error) tea.Cmd {
	done := m.outbox[0]
	m.outbox = m.outbox[1:]
	if err != nil {
		m.notice = "Not said: " + explain(err).message
		if len(m.outbox) > 0 {
			m.notice += fmt.Sprintf("; %s not said either", linesWere(len(m.outbox)))
			m.outbox = nil
		}
		if m.edit.empty() {
			m.edit.set(slashed(done.text))
		}
		return nil
	}
	if len(m.outbox) == 0 {
		return nil
	}
	return tea.Tick(linePause, func(time.Time) tea.Msg { return nextMsg{} })
}

// paste writes one line at the cursor; with several it asks what to do.
func (m *chatModel) paste(content string) tea.Cmd {
	if m.ask != nil {
		return nil
	}
	m.notice = ""
	var lines []outgoing
	secret := ""
	long := 0
	for line := range strings.Lines(strings.ReplaceAll(strings.ReplaceAll(content, "\r\n", "\n"), "\r", "\n")) {
		text := info2.Clean(line)
		if text == "" {
			continue
		}
		what := info2.LooksSecret(text)
		if what != "" {
			secret = what
		}
		if len(text) > info2.MaxText {
			long++
		}
		lines = append(lines, outgoing{text, what != ""})
	}
	switch {
	case len(lines) == 0:
	case len(lines) == 1:
		m.insert(strings.TrimRight(info2.Clean(content), " "))
	case len(lines) > maxLines || long > 0:
		m.notice = fmt.Sprintf("Too much text: at most %d lines of %d bytes.", maxLines, info2.MaxText)
	default:
		m.askPaste(lines, secret)
	}
	return nil
}

// askPaste asks what to do with several lines.
func (m *chatModel) askPaste(lines []outgoing, secret string) {
	each := func() tea.Cmd { return m.post(lines...) }
	if secret != "" && !m.yes {
		m.ask = &question{
			text:    fmt.Sprintf("One of %d lines looks like %s; everybody could read it. y: say all, N: no", len(lines), secret),
			answers: map[string]func() tea.Cmd{"esc": no, "n": no, "enter": no, "y": each},
		}
		return
	}
	seconds := int(float64(len(lines)-1)*linePause.Seconds()) + 1
	m.ask = &question{
		text: fmt.Sprintf("Say %d lines, in about %d s? Enter: yes, j: join them here, Esc: no", len(lines), seconds),
		answers: map[string]func() tea.Cmd{"esc": no, "n": no, "enter": each, "y": each, "j": func() tea.Cmd {
			var all []string
			for _, l := range lines {
				all = append(all, l.text)
			}
			m.insert(strings.Join(all, " "))
			return nil
		}},
	}
}
