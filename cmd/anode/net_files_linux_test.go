package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fileLine is a line of send --json and recv --json.
type fileLine struct {
	Type                string
	Files               int
	Failed              int
	Pieces              int64
	Bytes               int64
	Done                int64 `json:"done_bytes"`
	Kept                int64 `json:"kept_bytes"`
	Name, Path, Local   string
	Address, Error, Raw string
}

// lastLine returns the last line of a type.
func lastLine(t *testing.T, out, kind string) (last fileLine, found bool) {
	t.Helper()
	for line := range strings.Lines(out) {
		var l fileLine
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &l) == nil && l.Type == kind {
			last, found = l, true
		}
	}
	return last, found
}

// fileSum returns the hash of a file.
func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestNetFiles: a big file, of which the receiver is killed in the middle, arrives whole, and
// only what is missing goes again. Then a tree, a stranger, and what a user is told.
func TestNetFiles(t *testing.T) {
	const pieces = 200
	a, b := upPair(t)
	big := filepath.Join(a.dir, "big")
	from, err := os.Create(big)
	if err != nil {
		t.Fatal(err)
	}
	random, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(from, random, pieces<<20); err != nil {
		t.Fatal(err)
	}
	random.Close()
	from.Close()
	in := filepath.Join(b.dir, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	receive := func(flags ...string) *process {
		return b.start(append([]string{b.bin, "recv", "--socket", b.socket(), "--dir", in}, flags...)...)
	}

	step(t, "killed", func(t *testing.T) {
		// Slow enough to be killed in the middle: about three seconds for the file.
		a.run("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "500mbit", "burst", "256k", "latency", "50ms")
		receiver := receive("--from", "a", "--json")
		sender := a.start(a.bin, "send", "--socket", a.socket(), "--json", big, "b")
		within(t, dialWait, "a third to arrive", func() bool {
			l, _ := lastLine(t, receiver.output(), "progress")
			return l.Done > pieces<<20/3
		})
		receiver.end(syscall.SIGKILL)
		killed, _ := lastLine(t, receiver.output(), "progress")
		receiver = receive("--from", "a", "--json")
		if code := sender.wait(time.Minute); code != 0 {
			t.Errorf("send ends with %d:\n%s", code, sender.output())
		}
		if code := receiver.wait(time.Minute); code != 0 {
			t.Errorf("recv ends with %d:\n%s", code, receiver.output())
		}
		sent, _ := lastLine(t, sender.output(), "sent")
		got, _ := lastLine(t, receiver.output(), "received")
		started, _ := lastLine(t, receiver.output(), "started")
		again := sent.Pieces - pieces
		t.Logf("killed at %d of %d bytes; the second receiver had %d, and took %d pieces; %d went again", killed.Done, pieces<<20, started.Kept, got.Pieces, again)
		// What was in buffers between both went for nothing: those of two sockets, of the
		// adapter, and of the pieces that wait for the disk.
		if started.Kept < killed.Done || got.Pieces != pieces-started.Kept>>20 || again < 0 || again > 24 {
			t.Errorf("%+v\n%+v", sent, got)
		}
		if fileSum(t, big) != fileSum(t, filepath.Join(in, "big")) {
			t.Error("another file arrived")
		}
		if list, err := os.ReadDir(in); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		a.run("tc", "qdisc", "del", "dev", "eth1", "root")
	}, a, b)
	step(t, "words", func(t *testing.T) {
		small := filepath.Join(a.dir, "note.txt")
		if err := os.WriteFile(small, []byte("hello"), 0o640); err != nil {
			t.Fatal(err)
		}
		receiver := receive("--yes")
		out, code := a.tryAnode("send", small, "b")
		if code != 0 || !strings.Contains(out, "sent 1 file, 5 B, to b (") {
			t.Errorf("%d: %s", code, out)
		}
		if code := receiver.wait(time.Minute); code != 0 || !strings.Contains(receiver.output(), ": note.txt\n") {
			t.Errorf("%d: %s", code, receiver.output())
		}
		if out, code := a.tryAnode("send", "--patience", "1", small, "b"); code != 5 || !strings.Contains(out, "nobody receives files there\ntry: on that machine: anode recv") {
			t.Errorf("%d: %s", code, out)
		}
		if out, code := b.tryAnode("recv", "--dir", in); code != 2 || !strings.Contains(out, "--yes or --from PEER") {
			t.Errorf("%d: %s", code, out)
		}
		if out, code := a.tryAnode("send", filepath.Join(a.dir, "nothing"), "b"); code != 1 || !strings.Contains(out, "no such file") {
			t.Errorf("%d: %s", code, out)
		}
	}, a, b)
	step(t, "sender killed, daemon restarted", func(t *testing.T) {
		a.run("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "500mbit", "burst", "256k", "latency", "50ms")
		receiver := receive("--yes", "--json")
		sender := a.start(a.bin, "send", "--socket", a.socket(), "--json", big, "b")
		third := func() bool {
			l, _ := lastLine(t, receiver.output(), "progress")
			return l.Done > pieces<<20/3
		}
		within(t, dialWait, "a third to arrive", third)
		first, _ := lastLine(t, sender.output(), "progress")
		sender.end(syscall.SIGKILL)
		a.down(syscall.SIGKILL)
		a.up()
		sender = a.start(a.bin, "send", "--socket", a.socket(), "--json", big, "b")
		if code := sender.wait(time.Minute); code != 0 {
			t.Errorf("send ends with %d:\n%s", code, sender.output())
		}
		if code := receiver.wait(time.Minute); code != 0 {
			t.Errorf("recv ends with %d:\n%s", code, receiver.output())
		}
		sent, _ := lastLine(t, sender.output(), "sent")
		if sent.Pieces > pieces-first.Done>>20 {
			t.Errorf("%d bytes were there, and %d pieces went", first.Done, sent.Pieces)
		}
		if fileSum(t, big) != fileSum(t, filepath.Join(in, "big (2)")) {
			t.Error("another file arrived")
		}
	}, a, b)
}
