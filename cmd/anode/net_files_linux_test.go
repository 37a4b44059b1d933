package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
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

// bigFile makes a file of random bytes on a host, of some pieces of 1 MiB.
func bigFile(t *testing.T, h *host, pieces int64) string {
	t.Helper()
	random, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	defer random.Close()
	f, err := os.Create(filepath.Join(h.dir, "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, random, pieces<<20); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// inbox makes a directory to receive into.
func inbox(t *testing.T, h *host) string {
	t.Helper()
	in := filepath.Join(h.dir, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	return in
}

// receive starts a receiver on a host.
func receive(h *host, in string, flags ...string) *process {
	return h.start(append([]string{h.bin, "recv", "--socket", h.socket(), "--dir", in}, flags...)...)
}

// slowly has a file of 200 MB take some three seconds.
func slowly(h *host) {
	h.run("tc", "qdisc", "add", "dev", "eth1", "root", "tbf", "rate", "500mbit", "burst", "256k", "latency", "50ms")
}

// killReceiver has a send a file to b, whose receiver is killed when a third is there, and
// started again: the file arrives whole, and only what is missing goes again, of which at most
// ahead pieces were on their way.
func killReceiver(t *testing.T, a, b *host, big, in string, pieces, ahead int64) {
	t.Helper()
	receiver := receive(b, in, "--from", "a", "--json")
	sender := a.start(a.bin, "send", "--socket", a.socket(), "--json", big, "b")
	within(t, dialWait, "a third to arrive", func() bool {
		l, _ := lastLine(t, receiver.output(), "progress")
		return l.Done > pieces<<20/3
	})
	receiver.end(syscall.SIGKILL)
	killed, _ := lastLine(t, receiver.output(), "progress")
	receiver = receive(b, in, "--from", "a", "--json")
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
	// What was in buffers between both went for nothing: those of two sockets or a stream,
	// of the path, and of the pieces that wait for the disk.
	if killed.Done == pieces<<20 || started.Kept < killed.Done || got.Pieces != pieces-started.Kept>>20 || again < 0 || again > ahead {
		t.Errorf("%+v\n%+v", sent, got)
	}
	if fileSum(t, big) != fileSum(t, filepath.Join(in, "big")) {
		t.Error("another file arrived")
	}
	if list, err := os.ReadDir(in); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// sendTrusted has a host send a file to another one, whose configuration trusts it.
func sendTrusted(t *testing.T, from, to *host, in string) {
	t.Helper()
	file := filepath.Join(from.dir, "to "+to.name)
	settings := filepath.Join(to.dir, "files.toml")
	text := fmt.Sprintf("[files]\ntrust = [%q]\ndir = %q\n", from.name, in)
	if err := errors.Join(os.WriteFile(file, bytes.Repeat([]byte(from.name), 5<<20), 0o644), os.WriteFile(settings, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
	receiver := to.start(to.bin, "recv", "--socket", to.socket(), "--config", settings, "--json")
	if out, code := from.tryAnode("send", file, to.name); code != 0 {
		t.Errorf("send from %s ends with %d: %s", from.name, code, out)
	}
	if code := receiver.wait(time.Minute); code != 0 {
		t.Errorf("recv of %s ends with %d: %s", to.name, code, receiver.output())
	}
	if fileSum(t, file) != fileSum(t, filepath.Join(in, filepath.Base(file))) {
		t.Errorf("%s received another file", to.name)
	}
}

// TestNetFilesStreams: the same without adapters, by the daemons' streams; and with one, at
// either end, by its gateway.
func TestNetFilesStreams(t *testing.T) {
	const pieces = 200
	a, b := pair(t)
	a.up("--tun", "none")
	b.up("--tun", "none")
	big, in := bigFile(t, a, pieces), inbox(t, b)
	slowly(a)
	killReceiver(t, a, b, big, in, pieces, 64+8)
	// The port is free again, and taken once.
	receiver := receive(b, in, "--yes", "--keep")
	if out, code := a.tryAnode("send", big, "b"); code != 0 {
		t.Errorf("%d: %s", code, out)
	}
	if out, code := b.tryAnode("recv", "--yes"); code != 1 || !strings.Contains(out, "the port is in use") {
		t.Errorf("%d: %s", code, out)
	}
	if code := receiver.end(syscall.SIGINT); code != 0 || !strings.Contains(receiver.output(), ": big (2)\n") {
		t.Errorf("%d: %s", code, receiver.output())
	}
	if out, code := a.tryAnode("send", "--patience", "1", big, "b"); code != 5 || !strings.Contains(out, "nobody receives files there\ntry: ") {
		t.Errorf("%d: %s", code, out)
	}
	a.down(syscall.SIGTERM)
	a.up()
	a.meets(b)
	sendTrusted(t, a, b, in)
	sendTrusted(t, b, a, inbox(t, a))
	if out, code := a.tryAnode("send", "--patience", "1", big, "b"); code != 5 || !strings.Contains(out, "nobody receives files there\ntry: ") {
		t.Errorf("%d: %s", code, out)
	}
}

// TestNetFiles: a big file, of which the receiver is killed in the middle, arrives whole, and
// only what is missing goes again. The same with the sender and its daemon. What a user is
// told.
func TestNetFiles(t *testing.T) {
	const pieces = 200
	a, b := upPair(t)
	big, in := bigFile(t, a, pieces), inbox(t, b)
	slowly(a)
	step(t, "killed", func(t *testing.T) { killReceiver(t, a, b, big, in, pieces, 16) }, a, b)
	step(t, "words", func(t *testing.T) {
		small := filepath.Join(a.dir, "note.txt")
		if err := os.WriteFile(small, []byte("hello"), 0o640); err != nil {
			t.Fatal(err)
		}
		receiver := receive(b, in, "--yes")
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
		receiver := receive(b, in, "--yes", "--json")
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

// TestNetFilesRestart: a receiver goes on when its daemon is restarted, and so has another adapter.
// A sender that the other side does not let in is told so.
func TestNetFilesRestart(t *testing.T) {
	a, b := upPair(t)
	in, small := inbox(t, b), filepath.Join(a.dir, "note.txt")
	if err := os.WriteFile(small, []byte("hello"), 0o640); err != nil {
		t.Fatal(err)
	}
	receiver := receive(b, in, "--yes", "--keep")
	for _, arrived := range []string{": note.txt\n", ": note (2).txt\n", ": note (3).txt\n"} {
		if out, code := a.tryAnode("send", "--patience", "20", small, "b"); code != 0 || strings.Contains(out, "broke") {
			t.Errorf("%d: %s", code, out)
		}
		within(t, dialWait, arrived, func() bool { return strings.Contains(receiver.output(), arrived) })
		b.down(syscall.SIGKILL)
		b.up()
		a.meets(b)
	}
	b.anode("peers", "remove", "a")
	out, code := a.tryAnode("send", "--patience", "2", small, "b")
	if code != 5 || strings.Contains(out, "permission denied") || !strings.Contains(out, ": it does not let this machine in\ntry: on that machine: anode peers add") {
		t.Errorf("%d: %s", code, out)
	}
	if code := receiver.end(syscall.SIGINT); code != 0 {
		t.Errorf("recv ends with %d: %s", code, receiver.output())
	}
}
