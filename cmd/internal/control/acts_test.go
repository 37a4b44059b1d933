package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// TestLogChange has a line for each thing that changed, and none for what did not.
func TestLogChange(t *testing.T) {
	a := newAddress(t)
	entry := func(f func(*book.Entry)) book.Entry {
		e := book.Entry{Address: a, Name: "north", Added: true}
		f(&e)
		return e
	}
	same := func(*book.Entry) {}
	stranger := book.Entry{Address: a}
	for _, test := range []struct {
		name string
		c    book.Change
		want []string
	}{
		{"nothing", book.Change{Before: entry(same), After: entry(same)}, nil},
		{"added", book.Change{Before: stranger, After: entry(same)}, []string{"peer added"}},
		{"removed", book.Change{Before: entry(same), After: stranger}, []string{"peer removed"}},
		{"removed, with endpoints", book.Change{Before: entry(func(e *book.Entry) { e.Endpoints = make([]wire.Endpoint, 1) }), After: stranger}, []string{"peer removed"}},
		{"renamed", book.Change{Before: entry(func(e *book.Entry) { e.Name = "pole" }), After: entry(same)}, []string{"peer renamed"}},
		{"endpoints", book.Change{Before: entry(same), After: entry(func(e *book.Entry) { e.Endpoints = make([]wire.Endpoint, 1) })}, []string{"peer has other endpoints"}},
		{"both", book.Change{Before: entry(func(e *book.Entry) { e.Name = "pole" }), After: entry(func(e *book.Entry) { e.Endpoints = make([]wire.Endpoint, 1) })}, []string{"peer renamed", "peer has other endpoints"}},
		{"blocked", book.Change{Before: entry(same), After: entry(func(e *book.Entry) { e.Blocked = true })}, []string{"peer blocked; its sessions end"}},
		{"a stranger blocked", book.Change{Before: stranger, After: book.Entry{Address: a, Blocked: true}}, []string{"peer blocked; its sessions end"}},
		{"unblocked", book.Change{Before: entry(func(e *book.Entry) { e.Blocked = true }), After: entry(same)}, []string{"peer unblocked"}},
		{"removed and blocked still", book.Change{Before: entry(func(e *book.Entry) { e.Blocked = true }), After: book.Entry{Address: a, Blocked: true}}, []string{"peer removed"}},
	} {
		var out bytes.Buffer
		LogChange(slog.New(slog.NewTextHandler(&out, nil)), test.c, "me")
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if out.Len() == 0 {
			lines = nil
		}
		if len(lines) != len(test.want) {
			t.Errorf("%s: got %q, want %q", test.name, lines, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.Contains(lines[i], fmt.Sprintf("msg=%q", want)) || !strings.Contains(lines[i], "level=INFO") ||
				!strings.Contains(lines[i], "address="+a.String()+" by=me") || !strings.Contains(lines[i], a.ID().String()) {
				t.Errorf("%s: got %s, want %q", test.name, lines[i], want)
			}
		}
	}
}

// TestActsAreLogged runs each verb over the socket: the log names what was done and who did
// it.
func TestActsAreLogged(t *testing.T) {
	var out bytes.Buffer
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	server := NewServer(&fakeNode{self: newAddress(t)}, &fakeTalk{}, cancel, slog.New(slog.NewTextHandler(&out, nil)))
	go func() { served <- server.Serve(running, l) }()
	c := NewClient(path)
	defer c.Close()
	a := newAddress(t)
	if _, err := c.Add(ctx, AddRequest{Address: a, Name: "north"}); err != nil {
		t.Error(err)
	}
	if err := c.Rename(ctx, RenameRequest{Address: a, Name: "pole"}); err != nil {
		t.Error(err)
	}
	if err := c.Rename(ctx, RenameRequest{Address: a, Name: "no good"}); err == nil {
		t.Error("a bad name was taken")
	}
	for _, blocked := range []bool{true, false} {
		if err := c.Block(ctx, BlockRequest{Address: a, Blocked: blocked}); err != nil {
			t.Error(err)
		}
	}
	if err := c.Remove(ctx, RemoveRequest{Address: a}); err != nil {
		t.Error(err)
	}
	if err := c.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	by := "by=somebody"
	if runtime.GOOS == "linux" {
		by = fmt.Sprintf("by=\"uid %d, pid %d\"", os.Getuid(), os.Getpid())
	}
	rest := out.String()
	for _, want := range []string{"peer added", "peer renamed", "peer blocked; its sessions end", "peer unblocked", "peer removed", "asked to stop"} {
		line, after, _ := strings.Cut(rest, "\n")
		if !strings.Contains(line, fmt.Sprintf("msg=%q", want)) || !strings.Contains(line, by) {
			t.Errorf("got %q, want %q", line, want)
		}
		rest = after
	}
	if rest != "" {
		t.Errorf("more was logged: %s", rest)
	}
}
