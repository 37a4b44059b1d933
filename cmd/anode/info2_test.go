package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

func TestInfo2Status(t *testing.T) {
	a, out := onTerminal()
	a.printInfo2(fixtureInfo2())
	wantText(t, out.String(), `
network  adapter, port 26000, encrypted
linked   north, south (dialled for each text)
inbound  works: others reach this machine
known    3 friends
texts    1 said here, 9 received, 12 sent or forwarded

network  bare, port 26000, clear text
failed   the port is taken
`)
	out.Reset()
	a.printInfo2(control.Info2Status{})
	wantText(t, out.String(), "Info2 is off: it needs an adapter, and info2.enabled = true (the default).\n")
}

func TestKnownWords(t *testing.T) {
	for want, h := range map[string]info2.HostCounts{
		"0 friends":                            {},
		"1 friend, 1 other host that answered": {Friends: 1, Verified: 1},
		"2 friends, 3 other hosts that answered, 4 other hosts that never answered": {Friends: 2, Verified: 3, Hearsay: 4},
	} {
		if got := knownWords(h); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestInfo2Links(t *testing.T) {
	a, out := onTerminal()
	var links []info2Link
	for _, l := range fixtureInfo2().Networks[0].Links {
		links = append(links, info2Link{"adapter", l})
	}
	links[0].Suspect = true
	t.Setenv("COLUMNS", "120")
	a.columns(a.linkRows(links))
	wantText(t, out.String(), `
NAME   NETWORK  ADDRESS                             DIRECTION  STATE           SINCE          NEW  DUPLICATE  WAITING
north  adapter  fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b  out        open, doubtful  1 h 0 min ago  7    2          0
-      adapter  fd00:0:45:bc96:314c:6a36:62eb:ad08  out        dialing         1 s ago        0    0          0
`)
	t.Setenv("COLUMNS", "80")
	hosts, _ := newFixtureTalk().Hosts(t.Context())
	for _, rows := range [][][]string{a.linkRows(links), a.hostRows(hosts.Hosts)} {
		out.Reset()
		a.columns(rows)
		for line := range strings.Lines(out.String()) {
			if len([]rune(strings.TrimRight(line, "\n"))) > 80 {
				t.Errorf("too wide for a terminal: %q", line)
			}
		}
		if !strings.Contains(out.String(), "north") {
			t.Errorf("got %q", out.String())
		}
	}
	if got := a.moment(fixtureTime.Add(5 * time.Minute)); got != "in 5 min" {
		t.Errorf("got %q", got)
	}
}

func TestPrinter(t *testing.T) {
	f := newFixtureTalk()
	for i := range f.entries { // as the client hands them on
		f.entries[i].Text = info2.Clean(f.entries[i].Text)
	}
	f.entries[1].Lost = 2
	print := func(p *printer) string {
		var out bytes.Buffer
		p.out, p.zone = &out, time.UTC
		for _, e := range f.entries {
			if err := p.print(e); err != nil {
				t.Error(err)
			}
		}
		return out.String()
	}
	wantText(t, print(&printer{terminal: true}), `
2026-11-20 10:00:00  via north  good morning
(2 texts arrived too fast to be shown here)
2026-11-21 11:59:00  you  hello 👋
2026-11-21 11:59:59  bare 10.0.0.9  red ␛[31malert␛[0m �evil� �2J
`)
	wantText(t, print(&printer{terminal: true, color: true}), ""+
		"2026-11-20 10:00:00  \x1b[34mvia north\x1b[m  good morning\n"+
		"(2 texts arrived too fast to be shown here)\n"+
		"2026-11-21 11:59:00  \x1b[1myou\x1b[m  hello 👋\n"+
		"2026-11-21 11:59:59  \x1b[35mbare 10.0.0.9\x1b[m  red ␛[31malert␛[0m �evil� �2J\n")
}

// screenful is a place for the output of several goroutines.
type screenful struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screenful) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *screenful) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestHook runs a program that tells what it is given.
func TestHook(t *testing.T) {
	script := filepath.Join(t.TempDir(), "tell")
	text := "#!/bin/sh\nread -r line\necho \"$1|$2|$line|$ANODE_TEXT|$ANODE_NAME|$ANODE_NETWORK\" >> \"$1\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	told := filepath.Join(t.TempDir(), "told")
	var out, errs screenful
	h, err := newHook(t.Context(), script+" "+told+" $HOME", &out, &errs)
	if err != nil {
		t.Fatal(err)
	}
	f := newFixtureTalk()
	evil := "$(touch nothing); `rm x` && \"quoted"
	h.run(control.Entry{Own: true, Network: control.NetworkAdapter, Text: "mine"})
	e := f.entries[0]
	e.Text = evil
	h.run(e)
	close(h.jobs) // let it end by itself
	h.group.Wait()
	got, err := os.ReadFile(told)
	if want := fmt.Sprintf("%s|$HOME|%s|%s|north|adapter\n", told, evil, evil); err != nil || string(got) != want {
		t.Errorf("got %q, want %q, %v", got, want, err)
	}
	if out.String()+errs.String() != "" {
		t.Errorf("got %q, %q", &out.b, &errs.b)
	}
}

// TestHookBounds: a program that does not end holds up nobody, and what finds no
// room is counted.
func TestHookBounds(t *testing.T) {
	var out, errs screenful
	h, err := newHook(t.Context(), "sleep 1000", &out, &errs)
	if err != nil {
		t.Fatal(err)
	}
	const texts = 500
	for range texts {
		h.run(newFixtureTalk().entries[0])
	}
	h.close()
	lost := 0
	for line := range strings.Lines(errs.String()) {
		var n int
		if _, err := fmt.Sscanf(strings.Replace(line, " text ", " texts ", 1), "anode: --exec sleep: %d texts arrived too fast for the program", &n); err != nil {
			t.Error(err)
		}
		lost += n
	}
	if lost < texts-execAtOnce-execWaiting || lost > texts-execWaiting {
		t.Errorf("got %q", errs.String())
	}
	if _, err := newHook(t.Context(), "/no/such/program", &out, &errs); err == nil || explain(err).exit != exitUsage {
		t.Errorf("got %v", err)
	}
	var none *hook
	none.run(control.Entry{})
	none.close()
}

func TestLinkedNames(t *testing.T) {
	n := fixtureInfo2().Networks[0]
	n.Links = append(n.Links, n.Links[0]) // the other side has dialled too
	n.Links[0].Name = "\x1b[2J"
	n.Links[2].Name = "\x1b[2J"
	if got := strings.Join(linkedNames(n), ","); got != "␛[2J,south (dialled for each text)" {
		t.Errorf("got %q", got)
	}
	if got := linkedWords(linksMsg{Info2Status: control.Info2Status{Networks: []control.Info2Network{{Status: info2.Status{Network: "adapter"}}}}}); got != "adapter: nobody is linked" {
		t.Errorf("got %q", got)
	}
}
