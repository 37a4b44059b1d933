package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/people"
	"anodenet/overlay/vnet"
)

// peopleVerbs are the requests about people that have a body.
var peopleVerbs = [...]string{"invite", "invites/revoke", "join", "people/ask", "people/accept", "people/decline", "people/introduce", "people/mine"}

// peopleLists are those without one.
var peopleLists = [...]string{"invites", "people/requests", "people", "names"}

// FuzzPeopleRequests sends two requests about people to a server with a core, and asks for all lists then.
// Whatever is in them, the server has an answer that is JSON, never an internal error, and holds no more
// than the requests can have made.
func FuzzPeopleRequests(f *testing.F) {
	node, identity := closedNode(f)
	other := fuzzIdentity(f)
	card := invite.Link{Address: other.Address(), Name: "north"}
	link := card
	link.Token, link.Expires = invite.Token{1, 2, 3}, time.Now().Add(time.Hour)
	for k, body := range []string{
		`{"name":"east","uses":2,"seconds":3600,"card":false,"mine":true}`,
		`{"id":"3fa9"}`,
		fmt.Sprintf(`{"link":%q,"as":"north","ask":false,"note":"hello","mine":false}`, link),
		fmt.Sprintf(`{"address":%q,"name":"north","note":"hello","endpoints":["udp:192.0.2.1:8737","host.example:8737"]}`, other.Address()),
		fmt.Sprintf(`{"address":%q,"as":"north"}`, other.Address()),
		fmt.Sprintf(`{"address":%q,"block":false}`, other.Address()),
		fmt.Sprintf(`{"a":%q,"b":%q,"note":"hello"}`, other.Address(), identity.Address()),
		fmt.Sprintf(`{"address":%q,"mine":true}`, other.Address()),
	} {
		f.Add(uint8(k), []byte(body), uint8(2), []byte(fmt.Sprintf(`{"link":%q}`, card)))
		f.Add(uint8(3), []byte(fmt.Sprintf(`{"address":%q}`, other.Address())), uint8(k), []byte(body))
	}
	f.Add(uint8(0), []byte(`{"uses":-1,"seconds":9223372036854775807}`), uint8(1), []byte(`{"id":""}`))
	f.Add(uint8(0), []byte(`{"card":true,"name":"\u001b[2J"}`), uint8(2), []byte(`{"link":"anode:"} {}`))
	f.Fuzz(func(t *testing.T, verb1 uint8, body1 []byte, verb2 uint8, body2 []byte) {
		h, end := newFuzzServer(t, node, identity)
		defer end()
		askServer(t, h, http.MethodPost, peopleVerbs[int(verb1)%len(peopleVerbs)], body1)
		askServer(t, h, http.MethodPost, peopleVerbs[int(verb2)%len(peopleVerbs)], body2)
		for _, list := range peopleLists {
			if answer := askServer(t, h, http.MethodGet, list, nil); len(answer) > 16<<10 {
				t.Errorf("%s: %d bytes after two requests", list, len(answer))
			}
		}
	})
}

// FuzzPeopleFields is FuzzPeopleRequests with requests that are right as JSON, all of them, in an order
// and about addresses that the input chooses.
func FuzzPeopleFields(f *testing.F) {
	node, identity := closedNode(f)
	other := fuzzIdentity(f).Address()
	addresses := []string{identity.Address().String(), other.String(), fuzzIdentity(f).Address().String(), "", "aeaab"}
	link := invite.Link{Address: other, Token: invite.Token{1}, Expires: time.Now().Add(time.Hour), Name: "north"}
	f.Add("east", "hello", link.String(), "udp:192.0.2.1:8737", 1, int64(3600), byte(0), []byte{0, 1, 2, 3, 4, 5, 6, 7})
	f.Add("", "\x1b[2J\u202e", identity.Address().String(), "host.example:8737", 1001, int64(-1), byte(0xff), []byte{3, 13, 23, 6, 16, 0, 0, 1})
	f.Add(strings.Repeat("n", 33), strings.Repeat("é", 71), "anode:", "http://192.0.2.1/", 0, int64(1)<<62, byte(0x55), []byte{2, 2, 7, 17})
	f.Fuzz(func(t *testing.T, name, note, link, place string, uses int, seconds int64, flags byte, order []byte) {
		h, end := newFuzzServer(t, node, identity)
		defer end()
		on := func(bit int) bool { return flags>>bit&1 == 1 }
		for _, k := range order[:min(len(order), 16)] {
			a, b := addresses[int(k)/8%5], addresses[int(k)/8/5%5]
			fields := [len(peopleVerbs)]map[string]any{
				{"name": name, "uses": uses, "seconds": seconds, "card": on(0), "mine": on(1)},
				{"id": note},
				{"link": link, "as": name, "ask": on(2), "note": note, "mine": on(3)},
				{"address": a, "name": name, "note": note, "endpoints": []string{place}},
				{"address": a, "as": name},
				{"address": a, "block": on(4)},
				{"a": a, "b": b, "note": note},
				{"address": a, "mine": on(5)},
			}
			body, err := json.Marshal(fields[k%8])
			if err != nil {
				t.Fatal(err)
			}
			askServer(t, h, http.MethodPost, peopleVerbs[k%8], body)
		}
		for _, list := range peopleLists {
			if answer := askServer(t, h, http.MethodGet, list, nil); len(answer) > 64<<10 || strings.Contains(answer, `\u001b`) || strings.Contains(answer, "\u202e") {
				t.Errorf("%s: %d bytes, %q", list, len(answer), answer)
			}
		}
	})
}

// askServer makes one request, and returns the answer.
func askServer(t *testing.T, h http.Handler, method, path string, body []byte) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond) // some wait for other machines
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, "/v1/"+path, strings.NewReader(string(body))))
	if !json.Valid(w.Body.Bytes()) || w.Code == http.StatusInternalServerError {
		t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
	}
	return w.Body.String()
}

func fuzzIdentity(tb testing.TB) *anode.Identity {
	tb.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

// closedNode returns a node that has ended: it has no candidates.
func closedNode(tb testing.TB) (*overlay.Node, *anode.Identity) {
	tb.Helper()
	w := vnet.New(1)
	defer w.Close()
	h := w.Host("fuzz")
	h.Attach(w.Segment("lan", vnet.Link{}), netip.MustParsePrefix("10.0.0.1/24"))
	id := fuzzIdentity(tb)
	node, err := overlay.New(overlay.Config{Identity: id, Network: h, Port: 8737})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	if err := node.Run(ctx); err != nil {
		tb.Fatal(err)
	}
	return node, id
}

// newFuzzServer returns a server with a core that keeps its tables in memory, and whose actions nobody
// carries out.
func newFuzzServer(t *testing.T, node *overlay.Node, id *anode.Identity) (h http.Handler, end func()) {
	t.Helper()
	b, _, err := book.Open(id.Address(), book.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{identity: id, book: b, clock: clock{}, log: slog.New(slog.DiscardHandler), options: Options{State: NoState,
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
		}}}
	s, err := d.newPeople(&secret{}, func() []people.Service { return nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.node = node
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case x := <-s.calls:
				x.verb(s.core)
				s.core.Take()
				s.publish()
				s.wakeWaiting()
				close(x.done)
			case <-stop:
				return
			}
		}
	}()
	server := control.NewServer(node, struct{ control.Info2 }{}, func() {}, d.log)
	server.ServePeople(s)
	return server.Handler(t.Context()), func() { close(stop); <-stopped }
}
