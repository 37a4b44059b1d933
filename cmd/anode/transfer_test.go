package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
)

// TestSender is who may send, and about whose offers nobody is asked.
func TestSender(t *testing.T) {
	peers := fixtureStatus().Peers
	north, both := []anode.Address{northAddress}, []anode.Address{southAddress, northAddress}
	for _, c := range []struct {
		from    anode.Address
		may     admission
		trusted bool
		refused string
	}{
		{northAddress, admission{}, false, ""},
		{northAddress, admission{mute: true}, false, "files.trust does not name it, and there is no terminal to ask on"},
		{northAddress, admission{all: true, mute: true}, true, ""},
		{northAddress, admission{trusted: north, mute: true}, true, ""},
		{southAddress, admission{trusted: north}, false, ""},
		{southAddress, admission{trusted: north, mute: true}, false, "files.trust does not name it, and there is no terminal to ask on"},
		{northAddress, admission{only: both}, true, ""},
		{southAddress, admission{only: north, trusted: both}, false, "--from does not name it"},
		{strangerAddress, admission{all: true}, false, "it is not a peer that you added"}, // but known
		{selfAddress, admission{all: true}, false, "it is not a peer that you added"},
	} {
		p, err := c.may.sender(peers, c.from.ULA().Addr())
		if (err == nil) != (c.refused == "") || err != nil && err.Error() != c.refused || p.Trusted != c.trusted {
			t.Errorf("%v, %+v: %+v, %v", c.from.ID(), c.may, p, err)
		}
		if err == nil && (p.Key != c.from.String() || !strings.Contains(p.Name, c.from.ID().String())) {
			t.Errorf("%+v", p)
		}
	}
	if _, err := (admission{all: true}).sender(peers, netip.MustParseAddr("::1")); err == nil {
		t.Error("this machine may send")
	}
}

// TestTrustedPeers: a configuration trusts whole names of peers that were added.
func TestTrustedPeers(t *testing.T) {
	peers := fixtureStatus().Peers
	for _, text := range []string{"north", northAddress.String(), northAddress.ULA().String(), northAddress.ID().String()} {
		list, err := trustedPeers(peers, []string{text, "south"}, "/etc/anode.toml")
		if err != nil || !slices.Equal(list, []anode.Address{northAddress, southAddress}) {
			t.Errorf("%s: %v, %v", text, list, err)
		}
	}
	for text, says := range map[string]string{
		"nort":                        `files.trust: no peer has the name "nort", nor that address, ULA or short ID`,
		northAddress.String()[:20]:    `no peer has the name`,
		"north.example.org":           `no peer has the name`,
		"":                            `no peer has the name ""`,
		strangerAddress.String():      `is not a peer that you added`,
		strangerAddress.ID().String(): `is not a peer that you added`,
	} {
		_, err := trustedPeers(peers, []string{"north", text}, "/etc/anode.toml")
		if f := explain(err); f.exit != exitUnknownPeer || !strings.Contains(f.message, says) || !strings.HasSuffix(f.try, "; or change files.trust in /etc/anode.toml") {
			t.Errorf("%q: %+v", text, f)
		}
	}
}

func TestMaySend(t *testing.T) {
	status := fixtureStatus()
	of := func(a anode.Address) control.Resolved { return control.Resolve(names.Peer{Address: a}, false) }
	for a, exit := range map[anode.Address]int{northAddress: 0, selfAddress: exitUnknownPeer, strangerAddress: exitUnknownPeer} {
		err := maySend(status, of(a))
		if (err == nil) != (exit == 0) || err != nil && explain(err).exit != exit {
			t.Errorf("%v: %v", a.ID(), err)
		}
	}
}

func TestOfferText(t *testing.T) {
	o := files.Offer{Peer: files.Peer{Name: "north (055b413c40ef750d)"}, Files: 3, Bytes: 1_234_567, Kept: 5000,
		Tops: []files.Top{{Name: "photos", Dir: true, Files: 2, Bytes: 34_567}, {Name: "a\u202egpj.exe", Files: 1, Bytes: 1_200_000}}}
	const want = "north (055b413c40ef750d) sends 3 files, 1.2 MB:\n" +
		"  photos/  2 files, 35 kB\n" +
		"  a�gpj.exe  1.2 MB\n" +
		"5.0 kB of that are here already\n" +
		"Receive into /srv/in? [y/N] "
	if got := offerText(o, "/srv/in"); got != want {
		t.Errorf("got\n%s", got)
	}
	for range 20 {
		o.Tops = append(o.Tops, files.Top{Name: "x"})
	}
	if got := offerText(o, "/"); !strings.Contains(got, "  and 12 more\n") || strings.Count(got, "\n") != 13 {
		t.Errorf("got\n%s", got)
	}
}

// TestAsker: only a clear yes is one, and a sender that goes ends the question.
func TestAsker(t *testing.T) {
	for text, want := range map[string]bool{"y\n": true, " YES \n": true, "\n": false, "no\n": false, "yy\n": false} {
		in, typed := io.Pipe()
		a := &asker{out: io.Discard, in: in}
		a.listen()
		go func() {
			// A line that comes before the question waits for it is dropped.
			for {
				if _, err := io.WriteString(typed, text); err != nil {
					return
				}
			}
		}()
		if yes, err := a.ask(t.Context(), files.Offer{}); yes != want || err != nil {
			t.Errorf("%q: %v, %v", text, yes, err)
		}
		in.Close()
	}
	var out bytes.Buffer
	in, _ := io.Pipe()
	a := &asker{out: &out, in: in}
	a.listen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if yes, err := a.ask(ctx, files.Offer{}); yes || !errors.Is(err, context.Canceled) || !strings.HasSuffix(out.String(), "(the sender has gone)\n") {
		t.Errorf("%v, %v, %s", yes, err, out.String())
	}
	in.Close()
	out.Reset()
	stopped := &asker{out: &out, in: in, ended: ctx.Done()}
	if yes, err := stopped.ask(ctx, files.Offer{}); yes || !errors.Is(err, context.Canceled) || !strings.HasSuffix(out.String(), "[y/N] \n") {
		t.Errorf("%v, %v, %s", yes, err, out.String())
	}
	ended := &asker{out: io.Discard, in: strings.NewReader("")}
	ended.listen()
	if yes, err := ended.ask(t.Context(), files.Offer{}); yes || explain(err).try == "" {
		t.Errorf("%v, %v", yes, err)
	}
	// An answer that comes before the question is none.
	early, typed := io.Pipe()
	hasty := &asker{out: io.Discard, in: early}
	hasty.listen()
	io.WriteString(typed, "yes\n")
	io.WriteString(typed, "no\n") // the first was taken, and dropped
	asked := make(chan bool)
	go func() {
		yes, _ := hasty.ask(t.Context(), files.Offer{})
		asked <- yes
	}()
	for done := false; !done; {
		select {
		case yes := <-asked:
			if done = true; yes {
				t.Error("a line from before the question answered it")
			}
		default:
			io.WriteString(typed, "no\n")
		}
	}
	early.Close()
}

func TestTransferFailure(t *testing.T) {
	for _, c := range []struct {
		err  error
		exit int
		says string
		try  string
	}{
		{context.Canceled, exitFailed, "interrupted", "the same command again: it goes on where it ended"},
		{fmt.Errorf("%w in 10m0s: %w", files.ErrStalled, errNobodyReceives), exitUnreachable, "no progress in 10m0s: nobody receives files there", "on that machine: anode recv; then the same command again: it goes on where it ended"},
		{fmt.Errorf("%w in 10m0s: %w", files.ErrStalled, errNotLetIn), exitUnreachable, "no progress in 10m0s: it does not let this machine in", "on that machine: anode peers add, with the address that \"anode id\" prints here"},
		{files.ErrRefused, exitFailed, "north: the other side refused", ""},
		{&fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, exitFailed, "the disk is full", "free some space, then the same command again: it goes on where it ended"},
	} {
		f := explain(transferFailure(c.err, "north"))
		if f.exit != c.exit || f.message != c.says || f.try != c.try {
			t.Errorf("%v: %+v", c.err, f)
		}
	}
}

// TestTransferText is what people see.
func TestTransferText(t *testing.T) {
	north := files.Peer{Key: "k", Name: "north"}
	var out, notes bytes.Buffer
	a := &app{out: &out, err: &notes}
	r := a.newTransferReport(transferFlags{}, "received")
	for _, e := range []files.Event{
		{Type: files.Refused, Peer: files.Peer{Name: "fd00::1"}, Err: errors.New("it is not a peer that you added")},
		{Type: files.Refused, Peer: files.Peer{Name: "fd00::1"}, Err: errors.New("it is not a peer that you added")},
		{Type: files.Started, Peer: north, Files: 3, Bytes: 9000, Done: 2000, Kept: 2000},
		{Type: files.Received, Peer: north, Path: "d/x", Local: "d (2)/x"},
		{Type: files.Received, Peer: north, Path: "d/y", Local: "d (2)/y"},
		{Type: files.Progress, Peer: north, Files: 3, Bytes: 9000, Done: 3000},
		{Type: files.Failed, Peer: north, Path: "d/z\x1b[2J", Err: &fs.PathError{Op: "open", Path: "/secret", Err: fs.ErrPermission}},
		{Type: files.Interrupted, Peer: north, Err: io.EOF},
	} {
		r.event(e)
	}
	r.end(north, files.Outcome{Files: 2, Bytes: 8000})
	const says = "refused: fd00::1: it is not a peer that you added\n" +
		"2.0 kB of 9.0 kB are there already\n" +
		"not received: d/z�[2J: permission denied\n" +
		"the connection to north broke; it goes on when the other side is back\n"
	if notes.String() != says || out.String() != "received 2 files, 8.0 kB, from north: d (2)\n" {
		t.Errorf("%s\n%s", notes.String(), out.String())
	}
}

// TestBar: a bar goes from what was there to all, and says the rate.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	r := &transferText{out: io.Discard, err: &out, verb: "sent", bars: true, told: map[string]bool{}}
	r.event(files.Event{Type: files.Started, Files: 2, Bytes: 9000, Done: 1000, Kept: 1000})
	r.event(files.Event{Type: files.Progress, Files: 2, Bytes: 9000, Done: 5000})
	if state := r.bar.State(); state.CurrentNum != 4000 || state.Max != 8000 {
		t.Errorf("%+v", state)
	}
	r.end(files.Peer{}, files.Outcome{})
	if !strings.Contains(out.String(), "2 files") {
		t.Errorf("%q", out.String())
	}
}

// TestSendNothing: a file that does not exist is known before anything is sent.
func TestSendNothing(t *testing.T) {
	dir := t.TempDir()
	var out, notes bytes.Buffer
	a := &app{out: &out, err: &notes}
	err := a.send(t.Context(), lines{}, control.Resolved{}, []string{filepath.Join(dir, "nothing")}, transferFlags{})
	if f := explain(err); f.exit != exitFailed || !strings.Contains(f.message, "nothing: no such file") || f.try == "" {
		t.Errorf("%+v", f)
	}
}

// TestAdapterNow: a receiver takes what comes by the adapter of a restarted daemon, and by the last
// one while no daemon answers.
func TestAdapterNow(t *testing.T) {
	status := func(index int) overlay.Status { return overlay.Status{Tun: &overlay.TunStatus{Index: index}} }
	var now overlay.Status
	var broken error
	index := lines{peers: func(context.Context) (overlay.Status, error) { return now, broken }}.adapter(t.Context(), status(3))
	for _, c := range []struct {
		status overlay.Status
		err    error
		want   int
	}{{status(3), nil, 3}, {overlay.Status{}, control.ErrNoDaemon, 3}, {status(7), nil, 7}, {overlay.Status{}, nil, 7}, {overlay.Status{}, control.ErrSilent, 7}, {status(8), nil, 8}} {
		if now, broken = c.status, c.err; index() != c.want {
			t.Errorf("%+v, %v: want %d", c.status.Tun, c.err, c.want)
		}
	}
}

// TestBarWidth: a bar never wraps.
func TestBarWidth(t *testing.T) {
	for _, columns := range []int{25, 38, 40, 51, 52, 60, 66, 79, 80, 200} {
		var out bytes.Buffer
		bar := progressbar.NewOptions64(456<<30, append(barParts(columns, 304), progressbar.OptionSetWriter(&out), progressbar.OptionShowBytes(true))...)
		bar.Set64(123 << 30)
		for line := range strings.SplitSeq(out.String(), "\r") {
			if n := utf8.RuneCountInString(strings.TrimRight(line, " ")); n > columns {
				t.Errorf("%d columns: %d in %q", columns, n, line)
			}
		}
	}
}
