package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/info2"
)

// fakeTalk has a past of two texts, and what is put into next.
type fakeTalk struct {
	next    chan Entry
	stopped chan struct{} // closed when a reader has gone
}

var fakePast = []Entry{
	{Time: time.Unix(1, 0).UTC(), Network: NetworkAdapter, Name: "north", Text: "first"},
	{Time: time.Unix(2, 0).UTC(), Network: NetworkAdapter, Own: true, Text: "second"},
}

func (f *fakeTalk) Status(context.Context) (Info2Status, error) {
	return Info2Status{Schema: 1, Networks: []Info2Network{{
		Status:   info2.Status{Network: "adapter", Counters: map[info2.Counter]uint64{info2.Dials: 1}},
		Counters: map[string]uint64{"dials": 2},
	}}}, nil
}

func (f *fakeTalk) Hosts(context.Context) (Info2Hosts, error) {
	return Info2Hosts{Schema: 1, Hosts: []Info2Host{{Network: NetworkBare, HostStatus: info2.HostStatus{Standing: "friend"}}}}, nil
}

func (f *fakeTalk) Say(_ context.Context, r SayRequest) (Said, error) {
	switch r.Text {
	case "secret":
		return Said{}, &info2.SecretError{What: "a secret"}
	case "nobody":
		return Said{}, info2.ErrNobody
	case "":
		return Said{}, info2.ErrEmpty
	case "long":
		return Said{}, fmt.Errorf("%w: it is", info2.ErrTooLong)
	case "stopped":
		return Said{}, info2.ErrStopped
	}
	return Said{Network: NetworkAdapter, MID: info2.MID([]byte("123456"))}, nil
}

func (f *fakeTalk) Connect(_ context.Context, addr netip.Addr) (Connecting, error) {
	return Connecting{Network: NetworkBare}, nil
}

func (f *fakeTalk) Log(_ context.Context, last int, follow bool) ([]Entry, <-chan Entry, func(), error) {
	past := fakePast[max(0, len(fakePast)-last):]
	if !follow {
		return past, nil, func() {}, nil
	}
	return past, f.next, func() { close(f.stopped) }, nil
}

func TestInfo2(t *testing.T) {
	ctx := t.Context()
	c := serve(t, &fakeNode{self: newAddress(t)}, nil)
	status, err := c.Info2(ctx)
	if err != nil || len(status.Networks) != 1 || status.Networks[0].Network != "adapter" || status.Networks[0].Counters["dials"] != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	hosts, err := c.Info2Hosts(ctx)
	if err != nil || len(hosts.Hosts) != 1 || hosts.Hosts[0].Network != NetworkBare || hosts.Hosts[0].Standing != "friend" {
		t.Errorf("%+v, %v", hosts, err)
	}
	said, err := c.Say(ctx, SayRequest{Text: "hello"})
	if err != nil || said.MID.String() != "123456" || said.Network != NetworkAdapter {
		t.Errorf("%+v, %v", said, err)
	}
	for text, code := range map[string]Code{
		"secret": CodeSecret, "nobody": CodeUnreachable, "": CodeInvalid, "long": CodeInvalid, "stopped": CodeRefused,
	} {
		_, err := c.Say(ctx, SayRequest{Text: text})
		wantCode(t, err, code, "")
		if err != nil && strings.Contains(err.Error(), "info2:") {
			t.Errorf("people are told %q", err)
		}
	}
	if _, err := c.Connect(ctx, ConnectRequest{netip.MustParseAddr("10.0.0.1")}); err != nil {
		t.Error(err)
	}
	_, err = c.Connect(ctx, ConnectRequest{})
	wantCode(t, err, CodeInvalid, "missing address")
}

func TestLog(t *testing.T) {
	ctx := t.Context()
	talk := &fakeTalk{next: make(chan Entry, 2), stopped: make(chan struct{})}
	c := serveTalk(t, &fakeNode{self: newAddress(t)}, talk, nil)
	texts := func(into *[]string) func(Entry) error {
		return func(e Entry) error { *into = append(*into, e.Text); return nil }
	}
	var got []string
	if err := c.Log(ctx, LogRequest{Last: 1}, texts(&got)); err != nil || strings.Join(got, ",") != "second" {
		t.Errorf("%q, %v", got, err)
	}
	wantCode(t, c.Log(ctx, LogRequest{Last: MaxLast + 1}, texts(&got)), CodeInvalid, "last: want 0")
	wantCode(t, c.Log(ctx, LogRequest{Last: -1}, texts(&got)), CodeInvalid, "last: want 0")

	// Past and present in one stream, clean whatever is in it, until the reader goes.
	talk.next <- Entry{Text: "third \x1b[2J\u202e", Name: "\x1b"}
	enough := errors.New("enough")
	got = nil
	err := c.Log(ctx, LogRequest{Last: 5, Follow: true}, func(e Entry) error {
		if got = append(got, e.Name+" "+e.Text); len(got) == 3 {
			return enough
		}
		return nil
	})
	if want := "north first| second|␛ third ␛[2J\uFFFD"; !errors.Is(err, enough) || strings.Join(got, "|") != want {
		t.Errorf("%q, %v", got, err)
	}
	<-talk.stopped

	// The daemon's end is the stream's.
	talk.stopped = make(chan struct{})
	close(talk.next)
	if err := c.Log(ctx, LogRequest{Follow: true}, texts(&got)); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

// TestStatusKeepsNames: the names of the counters are the daemon's, whatever version.
func TestStatusKeepsNames(t *testing.T) {
	b, err := json.Marshal(Info2Network{Status: info2.Status{Counters: map[info2.Counter]uint64{info2.Dials: 1}}, Counters: map[string]uint64{"new": 1}})
	if err != nil || strings.Count(string(b), `"counters"`) != 1 || !strings.Contains(string(b), `"counters":{"new":1}`) {
		t.Errorf("%s, %v", b, err)
	}
	if statusOf(CodeSecret) != http.StatusConflict {
		t.Error("a secret is refused")
	}
}
