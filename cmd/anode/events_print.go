package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// eventJSON prints events for programs, a line each.
type eventJSON struct{ out io.Writer }

func (j *eventJSON) print(e event) {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	b, err := json.Marshal(e)
	if err != nil {
		return // no event has anything that cannot be written
	}
	j.out.Write(append(b, '\n')) // one Write, so that lines stay whole
}

// eventText prints events for people.
type eventText struct {
	out   io.Writer
	color bool
	width int // of the terminal; 0: lines are not broken
}

func (t *eventText) print(e event) {
	var b strings.Builder
	switch e.Type {
	case eventRunning:
		t.greet(&b, e.Node)
	case eventStopped:
		b.WriteString("\n" + e.Message + "\n")
	case eventFound: // the command fits 80 columns, and can be copied
		fmt.Fprintf(&b, "%s  %s; to meet it, run:\n%s\n", e.Time.Format(time.TimeOnly), e.Message, e.Try)
	default:
		lead, word := e.Time.Format(time.TimeOnly)+"  ", urgency(e.Type)
		if word == "" {
			b.WriteString(t.lines(lead, e.Message))
		} else {
			b.WriteString(strings.Replace(t.lines(lead, word+": "+e.Message), word, t.loud(word), 1))
		}
		if e.Try != "" {
			b.WriteString(t.lines(strings.Repeat(" ", len(time.TimeOnly)+2), "try: "+e.Try))
		}
	}
	io.WriteString(t.out, b.String())
}

// urgency is the word before an event that people must not overlook.
func urgency(kind eventType) string {
	switch kind {
	case eventWarning, eventProblem:
		return "warning"
	case eventError:
		return "error"
	}
	return ""
}

// greet says who this node is, and what everybody has to know about it.
func (t *eventText) greet(b *strings.Builder, n *eventNode) {
	fmt.Fprintf(b, "This machine is now on the network as\n\n  address   %s\n  IPv6      %s\n  short ID  %s\n", n.Address, n.ULA, n.ID)
	adapter, doors := doorFacts(n.Tun != nil, n.Local, nil)
	if n.Tun != nil {
		adapter = fmt.Sprintf("%s, MTU %d", n.Tun.Name, n.Tun.MTU)
	}
	fmt.Fprintf(b, "  adapter   %s\n", strings.Join(fold(adapter, usualWidth-len("  adapter   ")), "\n            "))
	for _, d := range doors {
		fmt.Fprintf(b, "  %-9s %s\n", d[0], d[1])
	}
	if n.Zone != 0 {
		fmt.Fprintf(b, "  zone      %s\n", zoneWords(n))
	}
	for _, l := range n.Listen {
		fmt.Fprintf(b, "  listens   %s\n", l)
	}
	fmt.Fprintf(b, "  settings  open: %s, secret: %s, relay: %s, Info2 bridge: %s\n\n",
		yesNo(n.Open), yesNo(n.Secret), yesNo(n.Relay), yesNo(n.Bridged))
	for _, warning := range n.Warns {
		fmt.Fprintf(b, "%s: %s\n\n", t.loud("WARNING"), strings.Join(fold(warning, usualWidth-len("WARNING: ")), "\n         "))
	}
	switch n.Added {
	case 0:
		b.WriteString(noPeers + "\n")
	case 1:
		b.WriteString("One peer is added.\n")
	default:
		fmt.Fprintf(b, "%d peers are added.\n", n.Added)
	}
	b.WriteString("Ctrl-C stops and cleans up.\n\n")
}

// lines returns a text after a lead; what does not fit goes below the text.
func (t *eventText) lines(lead, text string) string {
	if t.width == 0 {
		return lead + text + "\n"
	}
	between := "\n" + strings.Repeat(" ", len(lead))
	return lead + strings.Join(fold(text, t.width-len(lead)), between) + "\n"
}

func (t *eventText) loud(word string) string {
	if t.color {
		return "\x1b[1;31m" + word + "\x1b[0m"
	}
	return word
}

// eventLog prints the lines of a log as events: message (key value, key value).
type eventLog struct {
	level  slog.Leveler
	print  func(event)
	prefix string // of keys: the open groups
	attrs  []string
	cause  string // the value of err
}

// Enabled reports whether a level is logged.
func (l *eventLog) Enabled(_ context.Context, level slog.Level) bool { return level >= l.level.Level() }

// Handle prints a record.
func (l *eventLog) Handle(_ context.Context, r slog.Record) error {
	full := l.clone()
	r.Attrs(func(a slog.Attr) bool {
		full.add(a)
		return true
	})
	e := event{Schema: schema, Time: r.Time, Type: eventInfo, Message: oneLine(r.Message)}
	switch {
	case r.Level >= slog.LevelError:
		e.Type = eventError
	case r.Level >= slog.LevelWarn:
		e.Type = eventWarning
	}
	e.Message, e.Try, _ = strings.Cut(e.Message, "; try: ")
	if full.cause != "" {
		cause, try, _ := strings.Cut(full.cause, "; try: ")
		e.Message, e.Try = e.Message+": "+cause, cmp.Or(try, e.Try)
	}
	if len(full.attrs) > 0 {
		e.Message += " (" + strings.Join(full.attrs, ", ") + ")"
	}
	l.print(e)
	return nil
}

func (l *eventLog) clone() *eventLog {
	c := *l
	c.attrs = append([]string{}, l.attrs...)
	return &c
}

func (l *eventLog) add(a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		inner := l.prefix
		l.prefix += a.Key + "."
		for _, member := range value.Group() {
			l.add(member)
		}
		l.prefix = inner
		return
	}
	text := oneLine(value.String())
	if key := l.prefix + a.Key; key == "err" {
		l.cause = text
	} else {
		l.attrs = append(l.attrs, key+" "+text)
	}
}

// WithAttrs returns a handler that adds attributes to each record.
func (l *eventLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := l.clone()
	for _, a := range attrs {
		c.add(a)
	}
	return c
}

// WithGroup returns a handler that puts a name before the keys that follow.
func (l *eventLog) WithGroup(name string) slog.Handler {
	c := l.clone()
	c.prefix += name + "."
	return c
}
