package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode/invite"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

func TestDayTime(t *testing.T) {
	a, _ := onTerminal()
	now := fixtureTime // Saturday noon
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{now, "today 12:00"},
		{now.Add(24 * time.Hour), "tomorrow 12:00"},
		{now.Add(12 * time.Hour), "tomorrow 00:00"},
		{now.Add(-13 * time.Hour), "yesterday 23:00"},
		{now.Add(7 * day), "Sat 28 Nov 12:00"},
		{now.Add(60 * day), "Wed 20 Jan 12:00"},
		{now.Add(-400 * day), "17 Oct 2025 12:00"},
		{now.In(time.FixedZone("", 3600)), "today 12:00"},
	} {
		if got := a.dayTime(c.t); got != c.want {
			t.Errorf("%v: %q, want %q", c.t, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{"24h": day, "7d": 7 * day, "1d12h": 36 * time.Hour, "30m": 30 * time.Minute, "2s": 2 * time.Second, "0d": 0} {
		var s span
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%q: %v, %v", text, time.Duration(s), err)
		}
	}
	for _, text := range []string{"", "d", "7", "-1h", "-1d", "1d-2h", "1.5d", "1dd", "1h1d", "99999d", "x"} {
		var s span
		if err := s.Set(text); err == nil {
			t.Errorf("%q: read as %v", text, time.Duration(s))
		}
	}
	for d, want := range map[time.Duration]string{day: "24h", 7 * day: "7d", 90 * time.Minute: "1h30m0s"} {
		if got := (*span)(&d).String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestTables: what people see of invitations and requests fits a usual terminal.
func TestTables(t *testing.T) {
	a, out := onTerminal()
	p := newFixturePeople()
	p.invitations[0].Name = strings.Repeat("n", 64)
	p.invitations[0].Late[0].Name = strings.Repeat("m", 200)
	p.requests[0].Name = strings.Repeat("w", 64)
	p.requests[0].Note = strings.Repeat("note ", 28)
	p.requests[0].Via = strings.Repeat("v", 20)
	a.columns(a.inviteRows(p.invitations))
	a.columns(a.requestRows(p.requests))
	list := []entry{entryOf(control.BookEntry{Address: northAddress, Name: strings.Repeat("n", 64)})}
	list[0].Relation, list[0].State, list[0].Seen, list[0].Alias = control.StateIntroduced, overlay.StateUnreachable, &fixtureTime, "100.100.100.100"
	a.columns(a.entryRows(list, false))
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > usualWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, id := range []string{"3fa9c1d2", westAddress.ID().String(), strangerAddress.ID().String(), northAddress.ID().String()} {
		if !strings.Contains(out.String(), id) {
			t.Errorf("%s is cut:\n%s", id, out)
		}
	}
}

func TestFindRequest(t *testing.T) {
	list := newFixturePeople().requests
	west := list[0]
	forged := control.Request{Address: northAddress, Name: west.ID.String()} // says the ID of another
	for text, want := range map[string]int{
		"west": 0, west.ID.String(): 0, strings.ToUpper(west.ID.String()): 0, west.ID.String()[:6]: 0, west.Address.String(): 0,
		west.Address.CheckForm(): 0, west.Address.TXT(): 0, west.Address.ULA().String(): 0, " west ": 0,
		"bank": -1, "West": -1, "wes": -1, "nobody": -1, "": -1, list[2].ID.String(): 2,
	} {
		got, err := findRequest(list, text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got.Address != list[want].Address) {
			t.Errorf("%q: %v, %v", text, got.Name, err)
		}
	}
	if got, err := findRequest(append(list, forged), west.ID.String()); err == nil {
		t.Errorf("a name that is another's ID: %v", got)
	}
}

// TestLinkLines reads links that people paste, with what is around them.
func TestLinkLines(t *testing.T) {
	a, _ := onTerminal()
	l := linkOf("east")
	for what, text := range map[string]string{
		"a line":            l + "\n",
		"no line end":       l,
		"broken":            l[:50] + "\r\n" + l[50:90] + "\r\n" + l[90:] + "\r\n\r\nBye",
		"words around":      "Hello,\nhere it is:\n> " + l[:80] + "\n> " + l[80:] + "\n-- \nN.\n",
		"blank lines first": "\n\n" + l + "\n",
		"a letter":          "Hi,\n\nhere it is:\n\n" + l + "\n\nBye",
	} {
		got, err := a.readLines(t.Context(), strings.NewReader(text), true)
		if err != nil || got.String() != l {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	for what, text := range map[string]string{"": "no link", "anode:" + westAddress.String()[:30]: "cut off", l[:len(l)-1] + "\n\n" + l[len(l)-1:]: "cut off", "hello\n": "not a link"} {
		if _, err := a.readLines(t.Context(), strings.NewReader(what), true); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.20q: %v, want %s", what, err, text)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	cancel()
	if _, err := a.readLines(ctx, r, true); err == nil {
		t.Error("not interrupted")
	}
}

// TestLongTexts: a link behind more text than is read is no wrong link.
func TestLongTexts(t *testing.T) {
	a, _ := onTerminal()
	letter := strings.Repeat("Received: from mail.example.org\n", maxLink/30) + linkOf("east") + "\n"
	file := filepath.Join(t.TempDir(), "letter")
	if err := os.WriteFile(file, []byte(letter), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, in := range map[string]string{"-": letter, "file:" + file: ""} {
		if _, err := a.readLink(t.Context(), strings.NewReader(in), []string{what}); err == nil || !strings.Contains(err.Error(), "is too long") {
			t.Errorf("%.5s: %v", what, err)
		}
	}
}

// TestLinkPrompts: what people see while they paste: an empty line brings the question again, and Ctrl-D ends its line.
func TestLinkPrompts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ask = "Paste the link and press Enter"
		for _, c := range []struct {
			typed []string // with a pause after each
			want  string
		}{
			{nil, ask + ": \n"},
			{[]string{"\n"}, ask + ": " + ask + ", or stop by Ctrl-C: \n"},
			{[]string{"hello\n"}, ask + ": The link is not complete. Paste the rest, or press Enter to stop: \n"},
			{[]string{"hello\n", "\n"}, ask + ": The link is not complete. Paste the rest, or press Enter to stop: "},
			{[]string{"\n" + linkOf("east") + "\n"}, ask + ": "},
		} {
			a, _ := onTerminal()
			var said strings.Builder
			a.err = &said
			r, w := io.Pipe()
			go func() {
				for _, text := range c.typed {
					_, _ = io.WriteString(w, text)
					time.Sleep(time.Second)
				}
				w.Close()
			}()
			_, _ = a.readLines(t.Context(), r, true)
			if _, _ = io.Copy(io.Discard, r); said.String() != c.want {
				t.Errorf("%q: %q, want %q", c.typed, said.String(), c.want)
			}
		}
	})
}

// TestYes: a question that nobody answers ends at once by Ctrl-C, and by Ctrl-D it is a no. Both end its line.
func TestYes(t *testing.T) {
	a, _ := onTerminal()
	var said strings.Builder
	a.err = &said
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if yes, err := a.yes(ctx, r, "Now?"); yes || !errors.Is(err, context.Canceled) || said.String() != "Now? [y/N] \n" {
		t.Errorf("Ctrl-C: %v, %v, %q", yes, err, said.String())
	}
	said.Reset()
	if yes, err := a.yes(t.Context(), strings.NewReader(""), "Now?"); yes || err != nil || said.String() != "Now? [y/N] \n" {
		t.Errorf("Ctrl-D: %v, %v, %q", yes, err, said.String())
	}
	said.Reset()
	if yes, err := a.yes(t.Context(), strings.NewReader(" Yes \n"), "Now?"); !yes || err != nil || said.String() != "Now? [y/N] " {
		t.Errorf("yes: %v, %v, %q", yes, err, said.String())
	}
}

// TestJoinClock: the time that a join has taken is shown also while the daemon does not answer.
func TestJoinClock(t *testing.T) {
	silent, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	j := joining{app: &app{}, client: control.NewClient(silent.Addr().String()), request: control.JoinRequest{Link: linkOf("east")}}
	defer j.client.Close()
	tick := make(chan time.Time, 3)
	for range cap(tick) {
		tick <- fixtureTime
	}
	shown := 0
	if _, err := j.ask(ctx, tick, func() {
		if shown++; shown == 1+cap(tick) {
			cancel()
		}
	}); err == nil || shown != 1+cap(tick) {
		t.Errorf("shown %d times, %v", shown, err)
	}
}

// TestJoinInterrupted: Ctrl-C ends the watching, and says that the daemon goes on.
func TestJoinInterrupted(t *testing.T) {
	people, socket := servePeople(t)
	a, _ := onTerminal()
	a.now = time.Now
	var said strings.Builder
	a.err, a.socket = &said, socket
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for people.joined() < 2 && ctx.Err() == nil {
			_ = wait(ctx, time.Millisecond)
		}
		cancel()
	}()
	if code := a.run(ctx, []string{"join", linkOf("asleep"), "--socket", socket}); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(said.String(), "this machine goes on trying in the background until ") {
		t.Error(said.String())
	}
}

func (p *fixturePeople) joined() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.joins
}

// TestWarnings: who issues a link that nobody can use is told so.
func TestWarnings(t *testing.T) {
	a, _ := onTerminal()
	for how, want := range map[string]string{"direct": "", "relay": "", "lan": "this LAN only", "": "nobody can use"} {
		lines := strings.Join(a.inviteWords(control.Invited{Reachable: how, Invitation: control.Invitation{ID: "abcd", Of: 1}}, false), "\n")
		if strings.Contains(lines, "warning") != (want != "") || !strings.Contains(lines, want) {
			t.Errorf("%q: %s", how, lines)
		}
	}
}

// TestOlderDaemon: what a daemon does not know is no riddle, and the list of peers goes without.
func TestOlderDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- control.NewServer(newFixture(), newFixtureTalk(), cancel, slog.New(slog.DiscardHandler)).Serve(ctx, l)
	}()
	defer func() { cancel(); <-served }()
	a, _ := onTerminal()
	var said strings.Builder
	a.err = &said
	if code := a.run(t.Context(), []string{"invite", "--socket", socket}); code != exitUsage || !strings.Contains(said.String(), "restart the daemon if it is older") {
		t.Error(code, said.String())
	}
	a, out := onTerminal()
	a.err = &said
	if code := a.run(t.Context(), []string{"peers", "list", "--socket", socket}); code != exitOK || strings.Contains(out.String(), "RELATION") {
		t.Error(code, out.String())
	}
}

// TestPeopleCompletions: IDs of requests and invitations, with what they are.
func TestPeopleCompletions(t *testing.T) {
	_, socket := servePeople(t)
	for line, want := range map[string]string{
		"peers accept":    westAddress.ID().String() + "\t\"west\"",
		"peers decline":   westAddress.ID().String() + "\t\"west\"",
		"invite revoke":   "3fa9c1d2e4b5a697\teast, until tomorrow 12:00",
		"peers introduce": "north\t" + northAddress.ID().String(),
		"peers set":       "north\t" + northAddress.ID().String(),
	} {
		a, out := onTerminal()
		args := append([]string{"__complete", "--socket", socket}, strings.Fields(line)...)
		if code := a.run(t.Context(), append(args, "")); code != exitOK || !slices.Contains(strings.Split(out.String(), "\n"), want) {
			t.Errorf("%s: %d, %s", line, code, out)
		}
	}
}

func TestTaken(t *testing.T) {
	long := strings.Repeat("n", book.MaxName)
	for _, c := range []struct{ name, taken, want string }{
		{"north", "south", "north"}, {"", "", ""}, {"north", "north", "north-2"}, {"north", "north north-2", "north-3"}, {long, long, long[:book.MaxName-2] + "-2"},
	} {
		if got := freeName(c.name, strings.Fields(c.taken)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if l := (invite.Link{Address: westAddress}); !bareAddress(l) || bareAddress(invite.Link{Address: westAddress, Name: "n"}) {
		t.Error("a bare address")
	}
}
