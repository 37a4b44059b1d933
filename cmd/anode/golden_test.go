package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/store"
)

// onTerminal is an app that writes to a terminal.
func onTerminal() (*app, *bytes.Buffer) {
	var out bytes.Buffer
	a := newApp(&out, io.Discard)
	a.terminal = true
	a.now = func() time.Time { return fixtureTime }
	return a, &out
}

func wantText(t *testing.T, got, want string) {
	t.Helper()
	if want = strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestColor(t *testing.T) {
	a, out := onTerminal()
	a.color = true
	a.columns([][]string{{"A", "STATE", "B"}, {"x", "up", "y"}, {"x", "unreachable", "y"}, {"x", "idle", "y"}})
	wantText(t, out.String(), "A  STATE        B\n"+
		"x  \x1b[32mup\x1b[0m           y\n"+
		"x  \x1b[31munreachable\x1b[0m  y\n"+
		"x  idle         y\n")
}

func TestWords(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{millis(0.004), "0.00"}, {millis(0.42), "0.42"}, {millis(37.25), "37.2"}, {millis(250.4), "250"},
		{bytesOf(0), "0 B"}, {bytesOf(999), "999 B"}, {bytesOf(1000), "1.0 kB"}, {bytesOf(9_949), "9.9 kB"}, {bytesOf(9_950), "10 kB"},
		{bytesOf(999_499), "999 kB"}, {bytesOf(999_500), "1.0 MB"}, {bytesOf(1 << 63), "9.2 EB"},
		{age(0), "0 s"}, {age(59 * time.Second), "59 s"}, {age(3725 * time.Second), "1 h 2 min"}, {age(26 * time.Hour), "1 d 2 h"},
		{route(overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:10.0.0.2:8737"}, nil), "direct udp:10.0.0.2:8737"},
		{route(overlay.PathStatus{Kind: overlay.PathRelay, Via: &hubAddress}, map[anode.Address]string{hubAddress: "hub"}), "relay hub"},
		{route(overlay.PathStatus{Kind: overlay.PathNone}, nil), "no path"},
		{route(overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "tcp:192.0.2.1:443", Transport: "tcp"}, nil), "direct tcp:192.0.2.1:443"},
		{route(overlay.PathStatus{Kind: overlay.PathRelay, Via: &hubAddress, Endpoint: "https://home.example.org/", Transport: "http"}, map[anode.Address]string{hubAddress: "hub"}), "relay http hub"},
		{pathWord(overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "tcp:192.0.2.1:443", Transport: "tcp"}, nil), "direct tcp"},
		{pathWord(overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "http://192.0.2.1/"}, nil), "direct http"},
		{pathWord(overlay.PathStatus{Kind: overlay.PathLAN, Endpoint: "eth:02:00:00:00:00:01"}, nil), "LAN ethernet"},
		{pathWord(overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:192.0.2.1:443", Transport: "udp"}, nil), "direct"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

// pings runs a pinger in virtual time. answers has a round trip for each ping; 0 is
// none within 2 s.
func pings(ctx context.Context, count int, interval time.Duration, answers ...time.Duration) (string, error) {
	var out bytes.Buffer
	var sent atomic.Int64
	p := &pinger{
		report: &pingText{out: &out, label: "north (dd9fcbf1d49c786b)", ula: northAddress.ULA(), size: 40},
		now:    time.Now, count: count, interval: interval,
		ping: func(ctx context.Context) (overlay.PingReply, error) {
			rtt := answers[int(sent.Add(1)-1)%len(answers)]
			if rtt == 0 {
				ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
				defer cancel()
				<-ctx.Done()
				if errors.Is(ctx.Err(), context.Canceled) {
					return overlay.PingReply{}, context.Canceled
				}
				return overlay.PingReply{}, &control.Error{Code: control.CodeUnreachable, Message: "the peer cannot be reached: no answer in time"}
			}
			select {
			case <-time.After(rtt):
			case <-ctx.Done():
				return overlay.PingReply{}, ctx.Err()
			}
			return overlay.PingReply{Size: 40, RTT: rtt, Path: overlay.PathStatus{Kind: overlay.PathDirect, Endpoint: "udp:10.0.0.2:8737"}}, nil
		},
	}
	err := p.run(ctx)
	return out.String(), err
}

func TestPingReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := pings(t.Context(), 3, time.Second, 420*time.Microsecond, 0, 30*time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		wantText(t, got, `
PING north (dd9fcbf1d49c786b) fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b: 40 bytes
40 bytes from north (dd9fcbf1d49c786b): seq=1 time=0.42 ms, direct udp:10.0.0.2:8737
40 bytes from north (dd9fcbf1d49c786b): seq=3 time=30.0 ms, direct udp:10.0.0.2:8737
no reply from north (dd9fcbf1d49c786b): seq=2, no answer in time

--- north (dd9fcbf1d49c786b) ping statistics ---
3 packets transmitted, 2 received, 33.33% packet loss, time 3000ms
rtt min/avg/max/mdev = 0.420/15.210/30.000/14.790 ms
`)
	})
}

func TestPingUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got, err := pings(t.Context(), 1, time.Second, 0)
		if !errors.Is(err, errNoReply) {
			t.Errorf("%v", err)
		}
		wantText(t, got, `
PING north (dd9fcbf1d49c786b) fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b: 40 bytes
no reply from north (dd9fcbf1d49c786b): seq=1, no answer in time

--- north (dd9fcbf1d49c786b) ping statistics ---
1 packets transmitted, 0 received, 100% packet loss, time 2000ms
`)
	})
}

// TestPingInterrupted stops while a reply is on its way, which is no loss.
func TestPingInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(1010*time.Millisecond, cancel)
		got, err := pings(ctx, 0, time.Second, time.Millisecond, 100*time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		wantText(t, got, `
PING north (dd9fcbf1d49c786b) fd00:0:3b:4ea5:dd9f:cbf1:d49c:786b: 40 bytes
40 bytes from north (dd9fcbf1d49c786b): seq=1 time=1.00 ms, direct udp:10.0.0.2:8737

--- north (dd9fcbf1d49c786b) ping statistics ---
1 packets transmitted, 1 received, 0% packet loss, time 1010ms
rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms
`)
	})
}

// TestPingDaemonGone ends at the first error that is not the peer's.
func TestPingDaemonGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pinger{report: &pingText{out: io.Discard}, now: time.Now, interval: time.Second, ping: func(context.Context) (overlay.PingReply, error) {
			return overlay.PingReply{}, fmt.Errorf("%w (it ended)", control.ErrNoDaemon)
		}}
		if err := p.run(t.Context()); explain(err).exit != exitNoDaemon {
			t.Errorf("%v", err)
		}
	})
}

// TestPingOrder: losses are reported in their order, however fast each one fails.
func TestPingOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var sent atomic.Int64
		p := &pinger{
			report: &pingJSON{out: &out, peer: control.Resolved{Address: northAddress, Name: "north"}},
			now:    time.Now, count: 4, interval: time.Second,
			ping: func(context.Context) (overlay.PingReply, error) {
				switch sent.Add(1) {
				case 1:
					time.Sleep(2500 * time.Millisecond)
				case 4:
					return overlay.PingReply{Size: 40, RTT: time.Millisecond, Path: overlay.PathStatus{Kind: overlay.PathLAN, Endpoint: "udp:10.0.0.2:8737", Transport: "udp"}}, nil
				}
				return overlay.PingReply{}, &control.Error{Code: control.CodeUnreachable, Message: "no answer in time", Reason: overlay.ReasonNoAnswer}
			},
		}
		if err := p.run(t.Context()); err != nil {
			t.Error(err)
		}
		lost := func(n int) string {
			return fmt.Sprintf(`{"schema":1,"type":"lost","address":"%s","name":"north","seq":%d,"reason":"no_answer","message":"no answer in time"}`+"\n", northAddress, n)
		}
		wantText(t, out.String(), lost(1)+lost(2)+lost(3)+
			`{"schema":1,"type":"reply","address":"`+northAddress.String()+`","name":"north","seq":4,"size":40,"rtt_ms":1,"path":{"kind":"lan","endpoint":"udp:10.0.0.2:8737","via":null,"transport":"udp","rtt_ms":null,"mtu":null},"hops":0}`+"\n"+
			`{"schema":1,"type":"summary","address":"`+northAddress.String()+`","name":"north","transmitted":4,"received":1,"loss_percent":75,"time_ms":3000,"rtt":{"min_ms":1,"avg_ms":1,"max_ms":1,"mdev_ms":0}}`+"\n")
	})
}

// TestPingUntilDirect: a relay's replies go on, the first direct one ends it.
func TestPingUntilDirect(t *testing.T) {
	for _, c := range []struct {
		count int
		want  error
		sent  int
	}{{0, nil, 3}, {2, errNotDirect, 2}, {3, nil, 3}} {
		synctest.Test(t, func(t *testing.T) {
			var sent atomic.Int64
			p := &pinger{
				report: &pingText{out: io.Discard}, now: time.Now, count: c.count, interval: time.Second, untilDirect: true,
				ping: func(context.Context) (overlay.PingReply, error) {
					path := overlay.PathStatus{Kind: overlay.PathRelay, Via: &hubAddress}
					if sent.Add(1) == 3 {
						path = overlay.PathStatus{Kind: overlay.PathDirect}
					}
					return overlay.PingReply{RTT: time.Millisecond, Path: path}, nil
				},
			}
			if err := p.run(t.Context()); !errors.Is(err, c.want) || p.sent != c.sent {
				t.Errorf("%d pings: %v after %d", c.count, err, p.sent)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		err  error
		want failure
	}{
		{errors.New("a\nb"), failure{exitFailed, "a; b", ""}},
		{errors.New("it is closed; try: the window"), failure{exitFailed, "it is closed", "the window"}},
		{fmt.Errorf("x: %w", overlay.ErrUnreachable), failure{exitUnreachable, "x: the peer cannot be reached", ""}},
		{&control.Error{Code: control.CodeRefused, Message: "no", Try: "yes"}, failure{exitFailed, "no", "yes"}},
		{fmt.Errorf("%w", store.ErrStateBusy), failure{exitFailed, "the state is in use by a running daemon", "anode down; or another --state DIR and --socket PATH"}},
		{context.Canceled, failure{exitFailed, "interrupted", ""}},
	} {
		if got := explain(test.err); *got != test.want {
			t.Errorf("%v: got %+v, want %+v", test.err, *got, test.want)
		}
	}
}

func TestFindByDNS(t *testing.T) {
	records := map[string][]string{
		"north.example.org": {"v=spf1 -all", northAddress.TXT()},
		"two.example.org":   {northAddress.TXT(), southAddress.TXT()},
		"none.example.org":  {"v=spf1 -all"},
		"bad.example.org":   {"anode:aeaa"},
	}
	a, _ := onTerminal()
	a.txt = func(_ context.Context, name string) ([]string, error) {
		if r, ok := records[name]; ok {
			return r, nil
		}
		return nil, errors.New("no such host")
	}
	a.state = t.TempDir()
	b, err := a.openStore()
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if _, err := b.add(t.Context(), control.AddRequest{Address: northAddress, Name: "north"}); err != nil {
		t.Fatal(err)
	}
	if r, err := a.find(t.Context(), b, "north.example.org"); err != nil || r.Address != northAddress || r.Name != "north" || !r.Known {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range []string{"two.example.org", "none.example.org", "other.example.org", "east"} {
		if r, err := a.find(t.Context(), b, name); err == nil || explain(err).exit != exitUnknownPeer {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := a.find(t.Context(), b, "bad.example.org"); err == nil {
		t.Errorf("%+v", r)
	}

	// To add somebody the DNS alone is not enough.
	refused := errors.New("not sure")
	sure := func(answer error) func(anode.Address, string) error {
		return func(address anode.Address, domain string) error {
			if address != northAddress || domain != "north.example.org" {
				t.Errorf("asked about %s of %s", address, domain)
			}
			return answer
		}
	}
	if _, err := a.whole(t.Context(), "north.example.org", sure(refused)); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	if got, err := a.whole(t.Context(), "north.example.org", sure(nil)); err != nil || got != northAddress {
		t.Errorf("%v, %v", got, err)
	}
	for text, exit := range map[string]int{
		"north": exitUsage, "aeaa": exitUsage, northAddress.ID().String(): exitUsage,
		northAddress.ULA().String(): exitUsage, "two.example.org": exitUnknownPeer, "none.example.org": exitUnknownPeer,
		northAddress.String()[:63]: exitUsage, northAddress.CheckForm()[:68] + "1": exitUsage,
	} {
		if got, err := a.whole(t.Context(), text, sure(nil)); err == nil || explain(err).exit != exit || explain(err).try == "" {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

// TestConfirm: who is not asked has to say --yes, and who is asked sees the address.
func TestConfirm(t *testing.T) {
	a, _ := onTerminal()
	var asked bytes.Buffer
	a.err = &asked
	if err := a.confirm(t.Context(), strings.NewReader("y\n"), northAddress, "north.example.org", false); err == nil ||
		!strings.Contains(err.Error(), northAddress.String()) || !strings.Contains(explain(err).try, "--yes") {
		t.Errorf("%v", err)
	}
	if err := a.confirm(t.Context(), nil, northAddress, "north.example.org", true); err != nil {
		t.Errorf("%v", err)
	}
	for answer, added := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "": false, "n\n": false, "maybe\n": false} {
		asked.Reset()
		if err := a.askForAddress(t.Context(), strings.NewReader(answer), northAddress, "north.example.org"); (err == nil) != added {
			t.Errorf("%q: %v", answer, err)
		}
		if !strings.Contains(asked.String(), northAddress.String()) || !strings.Contains(asked.String(), northAddress.ID().String()) {
			t.Error(asked.String())
		}
	}
}
