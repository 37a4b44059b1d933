package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// chatTest is a chat whose daemon says yes to all.
type chatTest struct {
	*testing.T
	*chatModel
	said []outgoing
}

func newChatTest(t *testing.T, width, height int) *chatTest {
	c := &chatTest{T: t, chatModel: newChatModel(false, time.UTC)}
	c.say = func(text string, anyway bool) tea.Cmd {
		c.said = append(c.said, outgoing{text, anyway})
		return func() tea.Msg { return saidMsg{} }
	}
	c.look = func() tea.Msg { return nil }
	c.follow = func() tea.Msg { return nil }
	c.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return c
}

// hear shows a text of north's.
func (c *chatTest) hear(text string) {
	c.Helper()
	c.Update(entryMsg{control.Entry{Time: fixtureTime, Network: control.NetworkAdapter, From: northAddress.ULA().Addr(), Name: "north", Text: info2.Clean(text)}, false})
	c.screen()
}

// screen gives the rows of the screen, and checks that they are what fits.
func (c *chatTest) screen() []string {
	c.Helper()
	v := c.View()
	rows := strings.Split(v.Content, "\n")
	if len(rows) != c.height {
		c.Errorf("%d rows on a screen of %d", len(rows), c.height)
	}
	for _, row := range rows {
		if w := max(ansi.StringWidth(row), ansi.StringWidthWc(row)); w > c.width {
			c.Errorf("%d cells of %d: %q", w, c.width, row)
		}
		if !c.color && strings.ContainsFunc(row, unicode.IsControl) {
			c.Errorf("a control character: %q", row)
		}
	}
	if v.Cursor != nil && (v.Cursor.X >= c.width || v.Cursor.Y >= c.height) {
		c.Errorf("the cursor is at %v", v.Cursor.Position)
	}
	if !v.AltScreen {
		c.Error("not on the whole screen")
	}
	return rows
}

// shows checks that a row of the screen is this.
func (c *chatTest) shows(row string) {
	c.Helper()
	if rows := c.screen(); !slices.ContainsFunc(rows, func(r string) bool { return strings.TrimRight(r, " ") == row }) {
		c.Errorf("%q is not on the screen:\n%s", row, strings.Join(rows, "\n"))
	}
}

// press presses keys, by their names or as what they write.
func (c *chatTest) press(keys ...string) (quit bool) {
	c.Helper()
	special := map[string]tea.Key{
		"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "left": {Code: tea.KeyLeft}, "right": {Code: tea.KeyRight},
		"shift+up": {Code: tea.KeyUp, Mod: tea.ModShift}, "shift+down": {Code: tea.KeyDown, Mod: tea.ModShift},
		"up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown}, "pgup": {Code: tea.KeyPgUp}, "pgdown": {Code: tea.KeyPgDown},
		"home": {Code: tea.KeyHome}, "end": {Code: tea.KeyEnd}, "backspace": {Code: tea.KeyBackspace}, "delete": {Code: tea.KeyDelete},
		"ctrl+c": {Code: 'c', Mod: tea.ModCtrl}, "ctrl+u": {Code: 'u', Mod: tea.ModCtrl}, "ctrl+w": {Code: 'w', Mod: tea.ModCtrl},
		"ctrl+left": {Code: tea.KeyLeft, Mod: tea.ModCtrl}, "ctrl+right": {Code: tea.KeyRight, Mod: tea.ModCtrl},
		"Y":      {Code: 'y', ShiftedCode: 'Y', Text: "Y", Mod: tea.ModShift},
		"ctrl+k": {Code: 'k', Mod: tea.ModCtrl}, "ctrl+d": {Code: 'd', Mod: tea.ModCtrl},
	}
	for _, key := range keys {
		k, ok := special[key]
		if !ok {
			k = tea.Key{Text: key, Code: []rune(key)[0]}
		}
		if cmd := c.do(tea.KeyPressMsg(k)); cmd != nil {
			if _, quits := cmd.(tea.QuitMsg); quits {
				return true
			}
		}
		c.screen()
	}
	return false
}

// do gives a message to the chat, and the answers of the daemon; pauses are left out.
func (c *chatTest) do(msg tea.Msg) tea.Msg {
	_, cmd := c.Update(msg)
	for len(c.outbox) > 0 {
		cmd = nil
		c.Update(saidMsg{})
		if len(c.outbox) > 0 {
			c.Update(nextMsg{})
		}
	}
	if cmd == nil {
		return nil
	}
	return cmd()
}

func TestChatScreens(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 10}, {20, 5}, {5, 2}, {1, 1}} {
		c := newChatTest(t, size[0], size[1])
		c.Update(linksMsg{fixtureInfo2(), nil})
		for _, text := range []string{
			"hello", "👋 👨‍👩‍👧‍👦 🇩🇪 ❤️", "日本語テキスト日本語テキスト日本語テキスト日本語テキスト日本語テキスト", "שלום עולם, مرحبا بالعالم",
			"\x1b[2J\x1b]0;title\a \u009b31m \u202eevil", "e\u0301\u0302\u0303 Z\u0335\u0321", strings.Repeat("averylongword", 70), strings.Repeat("a b ", 200), "x",
		} {
			c.hear(text)
		}
		c.press("a", "漢", "🇩🇪", "left", "left", "e\u0301", "up", "pgup", "up", "down", "pgdown", "home", "end")
		for _, other := range [][2]int{{200, 60}, {80, 24}, {3, 3}, {80, 24}} {
			c.Update(tea.WindowSizeMsg{Width: other[0], Height: other[1]})
			c.screen()
		}
	}
}

func TestChat80x24(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.Update(linksMsg{fixtureInfo2(), nil})
	c.hear("a text that is longer than what remains in a row of eighty cells beside the name")
	c.Update(entryMsg{control.Entry{Time: fixtureTime.Add(13 * time.Hour), Network: control.NetworkBare, From: netip.MustParseAddr("10.0.0.9"), Text: "ho"}, false})
	c.Update(entryMsg{control.Entry{Time: fixtureTime.Add(13 * time.Hour), Network: control.NetworkAdapter, Own: true, Text: "👋", Lost: 3}, false})
	got := strings.Join(c.screen()[16:], "\n")
	wantText(t, got, `
12:00 via north        a text that is longer than what remains in a row of
                       eighty cells beside the name
── Sunday 22 November 2026 ──
01:00 bare 10.0.0.9    ho
3 texts arrived too fast to be shown
01:00 you              👋
Enter says it, PgUp scrolls, Esc quits, /help
> `)
	if got := strings.TrimRight(c.screen()[0], " "); got != "anode chat   adapter: north, south (dialled for each text)   bare: does not run…" {
		t.Errorf("got %q", got)
	}
}

func TestChatWrap(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"one two three", 7, "one two|three"},
		{"one two three", 8, "one two|three"},
		{"one two three", 3, "one|two|thr|ee"},
		{"an extraordinarily long word", 8, "an extra|ordinari|ly long|word"},
		{"漢字漢字 x", 5, "漢字|漢字|x"},
		{"a漢", 1, "a|漢"},
		{"👨‍👩‍👧‍👦👨‍👩‍👧‍👦", 3, "👨‍👩‍👧‍👦|👨‍👩‍👧‍👦"},
		{"", 5, ""},
	} {
		if got := strings.Join(wrap(test.text, test.width), "|"); got != test.want {
			t.Errorf("%q in %d: got %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

// FuzzChatWrap: rows fit, and nothing but spaces is lost between them.
func FuzzChatWrap(f *testing.F) {
	for _, text := range []string{"one two three", "漢字 abc", "👨\u200d👩\u200d👧 e\u0301", "שלום  x", "\u0301", "\u00ad\u200b"} {
		f.Add(text, 7)
	}
	f.Fuzz(func(t *testing.T, text string, width int) {
		if len(text) > info2.MaxText/4 {
			return // the editor is quadratic, and has a bound
		}
		text, width = info2.Clean(text), 1+abs(width%300)
		rows := wrap(text, width)
		for _, row := range rows {
			if list := clusters(row); widthOf(list) > width && len(list) > 1 {
				t.Errorf("%q is wider than %d", row, width)
			}
		}
		bare := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		if got := bare(strings.Join(rows, "")); got != bare(text) {
			t.Errorf("%q became %q", text, got)
		}
		// The same text, written by hand a piece at a time, is the same in the editor.
		var e editor
		for _, r := range text {
			e.insert(string(r))
		}
		shown, cursor := e.view(width)
		if e.text() != text || e.cursor != len(e.list) || widthOf(clusters(shown)) > width || cursor > width {
			t.Errorf("%q became %q, shown as %q, cursor %d of %d", text, e.text(), shown, cursor, width)
		}
		for !e.empty() {
			e.cut(e.cursor-1, e.cursor)
		}
	})
}

func abs(n int) int { return max(n, -n) }

func TestChatFit(t *testing.T) {
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{{"north", 5, "north"}, {"north", 4, "nor…"}, {"漢字", 3, "漢…"}, {"漢字", 2, "…"}, {"x", 0, "…"}, {"", 0, ""}} {
		if got := fit(test.text, test.width); got != test.want && test.width > 0 {
			t.Errorf("%q in %d: got %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

func TestChatEditing(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.press("h", "e", "l", "o", "left", "l", "end", " ", "w", "ö", "🇩🇪")
	c.shows("> hello wö🇩🇪")
	// One key takes away what is one character to people.
	c.press("backspace", "backspace", "o", "\u0308")
	c.shows("> hello wo\u0308")
	c.press("backspace")
	c.shows("> hello w")
	c.press("ctrl+left", "ctrl+left", "X", "ctrl+right", "Y", "home", "delete")
	c.shows("> helloY w")
	c.press("end", "ctrl+w")
	c.shows("> helloY")
	c.press("home", "right", "ctrl+k")
	c.shows("> h")
	c.press("ctrl+u", "א", "ב")
	if v := c.View(); v.Cursor.X != len(prompt)+2 {
		t.Errorf("the cursor is at %d", v.Cursor.X)
	}
	c.press("enter")
	if len(c.said) != 1 || c.said[0].text != "אב" || !c.edit.empty() {
		t.Errorf("said %v, and %q is left", c.said, c.edit.text())
	}
	c.press("enter", " ", "enter")
	if len(c.said) != 1 {
		t.Error("nothing was said as a text")
	}
	// A message has an end, and a long line stays editable up to it.
	for range info2.MaxText + 10 {
		c.press("x")
	}
	if c.edit.size() > info2.MaxText || !strings.HasPrefix(c.notice, "A text has at most") {
		t.Errorf("%d bytes, %q", c.edit.size(), c.notice)
	}
}

func TestChatScroll(t *testing.T) {
	c := newChatTest(t, 80, 24)
	for i := range 100 {
		c.hear(fmt.Sprint("text ", i))
	}
	c.shows("12:00 via north        text 99")
	c.press("pgup")
	c.shows("12:00 via north        text 79")
	c.shows("↓ 20 rows below; PgDn")
	// What is being read stays where it is.
	c.hear("new")
	c.shows("12:00 via north        text 79")
	c.shows("↓ 1 new below; PgDn")
	c.press("shift+up", "shift+down", "shift+down")
	c.shows("12:00 via north        text 80")
	for range 20 {
		c.press("pgup")
	}
	c.shows("── Saturday 21 November 2026 ──")
	c.press("x", "enter")
	c.shows("12:00 via north        new")
	// What is kept has a bound.
	for i := range 2 * chatMost {
		c.Update(entryMsg{control.Entry{Time: fixtureTime, Own: true, Text: fmt.Sprint(i)}, false})
	}
	if n := len(c.entries); n > chatMost+chatMost/4 || len(c.rows) > n+1 {
		t.Errorf("%d entries, %d rows", n, len(c.rows))
	}
}

func TestChatSecret(t *testing.T) {
	const secret = "my password is hunter2"
	question := "This looks like a password, and everybody could read it. Say it? y/N"
	c := newChatTest(t, 80, 24)
	c.Update(tea.PasteMsg{Content: secret})
	c.press("enter")
	c.shows(question)
	c.press("x", "left", "pgup") // no answers
	c.shows(question)
	if c.View().Cursor != nil {
		t.Error("the cursor is in the text")
	}
	c.press("n")
	c.shows("> " + secret)
	if c.press("enter", "esc"); len(c.said) > 0 {
		t.Fatalf("said %v", c.said)
	}
	c.press("enter", "enter") // the default is no
	if c.press("enter", "Y"); len(c.said) != 1 || c.said[0] != (outgoing{secret, true}) {
		t.Errorf("said %v", c.said)
	}
	c.yes = true
	c.Update(tea.PasteMsg{Content: secret})
	if c.press("enter"); len(c.said) != 2 {
		t.Errorf("said %v", c.said)
	}
}

func TestChatPaste(t *testing.T) {
	lines := func(n int) tea.PasteMsg {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "line %d\r\n\r\n", i)
		}
		return tea.PasteMsg{Content: b.String()}
	}
	c := newChatTest(t, 80, 24)
	c.press("a", "b", "left")
	c.do(tea.PasteMsg{Content: "one\x1b[2J\tline\n"})
	c.shows("> aone␛[2J lineb")
	c.press("ctrl+u", "ctrl+k")

	c.do(lines(100))
	c.shows("Say 100 lines, in about 70 s? Enter: yes, j: join them here, Esc: no")
	c.do(lines(3)) // not now
	if c.press("esc"); len(c.said) > 0 {
		t.Errorf("said %v", c.said)
	}
	c.do(lines(100))
	c.press("enter")
	if len(c.said) != 100 || c.said[0].text != "line 0" || c.said[99].text != "line 99" {
		t.Errorf("said %d", len(c.said))
	}
	c.do(lines(3))
	c.press("j")
	c.shows("> line 0 line 1 line 2")
	c.do(lines(maxLines + 1))
	c.shows("Too much text: at most 200 lines of " + fmt.Sprint(info2.MaxText) + " bytes.")
	c.said = nil
	c.do(tea.PasteMsg{Content: "user\npassword: hunter2\n"})
	c.shows("One of 2 lines looks like a password; everybody could read it. y: say all, N: no")
	c.press("enter")
	c.do(tea.PasteMsg{Content: "user\npassword: hunter2\n"})
	if c.press("y"); !slices.Equal(c.said, []outgoing{{"user", false}, {"password: hunter2", true}}) {
		t.Errorf("said %v", c.said)
	}
}

// TestChatOutbox stops a paste on its way, and gives back what could not be said.
func TestChatOutbox(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.Update(tea.PasteMsg{Content: "a\nb\nc\nd"})
	c.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
	c.Update(saidMsg{})
	c.shows("Saying 2 of 4 lines; Esc stops.")
	if cmd := c.key(tea.KeyPressMsg{Code: tea.KeyEscape}); cmd != nil {
		t.Error("Esc stops, and does not quit yet")
	}
	c.shows("Stopped; 2 lines were not said.")
	c.Update(nextMsg{})
	c.Update(saidMsg{})
	if len(c.said) != 2 || len(c.outbox) != 0 {
		t.Errorf("said %v, %v waits", c.said, c.outbox)
	}
	c.Update(tea.PasteMsg{Content: "e\nf\ng"})
	c.Update(tea.KeyPressMsg{Code: tea.KeyEnter})
	c.Update(saidMsg{&control.Error{Code: control.CodeUnreachable, Message: "nobody is linked"}})
	c.shows("Not said: nobody is linked; 2 lines were not said either")
	c.shows("> e")
	if !c.press("esc", "esc") {
		t.Error("Esc quits, after it has cleared the line")
	}
}

func TestChatQuit(t *testing.T) {
	for _, keys := range [][]string{{"ctrl+c"}, {"esc"}, {"ctrl+d"}, {"x", "ctrl+c", "ctrl+c"}, {"x", "esc", "esc"}, {"/", "q", "u", "i", "t", "enter"}} {
		if c := newChatTest(t, 80, 24); !c.press(keys...) {
			t.Errorf("%v does not quit", keys)
		}
	}
	c := newChatTest(t, 80, 24)
	if c.press("x", "ctrl+d") || c.press("p", "i", "n", ":", "1", "enter", "y") {
		t.Error("that is no end")
	}
	c = newChatTest(t, 80, 24)
	for _, keys := range [][]string{{"x", "esc"}, {"y", "ctrl+c"}, {"p", "i", "n", ":", "1", "enter", "ctrl+c"}} {
		if c.press(keys...) {
			t.Errorf("%v quits", keys)
		}
	}
	c.shows("> pin:1")
}

// TestChatCommands: what begins with a slash is a command, and is never said by mistake.
func TestChatCommands(t *testing.T) {
	write := func(c *chatTest, text string) (quit bool) {
		for _, r := range text {
			c.press(string(r))
		}
		return c.press("enter")
	}
	for _, test := range []struct {
		line, said, shows string
		quit              bool
	}{
		{"/quit", "", "", true},
		{" /quit ", "", "", true},
		{"/help", "", "//TEXT        say a text that begins with a slash", false},
		{"/?", "", "//TEXT        say a text that begins with a slash", false},
		{"/me waves", "", "Not said: no command /me; try: /help, or //TEXT to say a text with a slash", false},
		{"/quit now", "", "Not said: no command /quit; try: /help, or //TEXT to say a text with a slash", false},
		{"//etc/hosts is wrong", "/etc/hosts is wrong", "> ", false},
		{"and/or", "and/or", "> ", false},
	} {
		c := newChatTest(t, 80, 24)
		c.hear("x")
		if quit := write(c, test.line); quit != test.quit {
			t.Errorf("%q: quits %v", test.line, quit)
		}
		if said := fmt.Sprint(c.said); test.said == "" && len(c.said) > 0 || test.said != "" && said != fmt.Sprintf("[{%s false}]", test.said) {
			t.Errorf("%q: said %s", test.line, said)
		}
		if test.shows != "" {
			c.shows(strings.TrimRight(test.shows, " "))
		}
	}
	c := newChatTest(t, 20, 5)
	write(c, "/help")
	c.shows("Enter         say t…")
	if c.press("esc") || c.help {
		t.Error("Esc does not just close the help page")
	}
	// A text that could not be said comes back as it must be typed.
	c.outbox = []outgoing{{"/x", false}}
	c.Update(saidMsg{errors.New("oh")})
	c.shows("> //x")
}

// TestChatTyped: Up and Down go through what was typed, and lose nothing.
func TestChatTyped(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.press("up", "down")
	c.press("a", "enter", "b", "enter", "b", "enter", "c", "esc", "n", "e", "w")
	for _, step := range [][2]string{{"up", "c"}, {"up", "b"}, {"up", "a"}, {"up", "a"}, {"down", "b"}, {"down", "c"}, {"down", "new"}, {"down", "new"}} {
		c.press(step[0])
		if got := c.edit.text(); got != step[1] {
			t.Errorf("%s: got %q, want %q", step[0], got, step[1])
		}
	}
	for i := range 2 * typedMost {
		c.typed.add(fmt.Sprint(i))
	}
	if len(c.typed.lines) != typedMost {
		t.Errorf("%d lines are kept", len(c.typed.lines))
	}
}

// TestChatDaemonEnds: it is said, and the next stream shows all anew.
func TestChatDaemonEnds(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.hear("before")
	c.Update(endedMsg{fmt.Errorf("%w (it ended)", control.ErrNoDaemon)})
	c.shows("The daemon has stopped; waiting for it.")
	c.Update(linksMsg{err: errors.New("oh")})
	c.Update(entryMsg{control.Entry{Time: fixtureTime, Own: true, Text: "before"}, true})
	c.Update(entryMsg{control.Entry{Time: fixtureTime, Own: true, Text: "after"}, false})
	if rows := strings.Join(c.screen(), "\n"); strings.Count(rows, "before") != 1 || strings.Contains(rows, "No daemon") {
		t.Errorf("got\n%s", rows)
	}
}

func TestChatColor(t *testing.T) {
	c := newChatTest(t, 80, 24)
	c.color = true
	c.hear("hello \x1b[5m")
	row := c.screen()[21]
	for code := range strings.SplitSeq(row, "\x1b") {
		if code != "" && !strings.HasPrefix(code, "[") {
			t.Errorf("got %q", row)
		}
	}
	if !strings.Contains(row, "\x1b[3") || strings.Contains(row, "\x1b[5m") {
		t.Errorf("got %q", row)
	}
}
