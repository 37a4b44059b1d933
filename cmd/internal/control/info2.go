package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"

	"anodenet/info2"
)

// Limits of requests about texts.
const (
	MaxLast     = 2000             // entries of the history in one answer
	maxSay      = 30 * time.Second // a text waits for its turn
	maxFollower = 10 * time.Second // for one who follows to take an entry
)

// Info2 is what the server needs of the text networks. Its methods return an *Error, or
// errors that wrap those of package info2.
type Info2 interface {
	Status(ctx context.Context) (Info2Status, error)
	Hosts(ctx context.Context) (Info2Hosts, error)
	Say(ctx context.Context, r SayRequest) (Said, error)
	Connect(ctx context.Context, addr netip.Addr) (Connecting, error)
	// Log returns the last entries, oldest first, and with follow a channel of those that
	// come after them, which is closed when the daemon ends. stop ends it sooner, and
	// must be called.
	Log(ctx context.Context, last int, follow bool) (past []Entry, next <-chan Entry, stop func(), err error)
}

// Network names one of the text networks.
type Network string

// The networks.
const (
	NetworkAdapter Network = "adapter" // the peers that were added, encrypted
	NetworkBare    Network = "bare"    // strangers, in clear text
)

// Info2Status is the state of the text networks. It does not list those that are off.
type Info2Status struct {
	Schema   int            `json:"schema"`
	Networks []Info2Network `json:"networks"`
	Bridged  bool           `json:"bridged"`
	History  int            `json:"history"` // entries that are kept at most
}

// Info2Network is the state of one network. If Failed is set, only Network and Port are
// set too.
type Info2Network struct {
	info2.Status
	Counters  map[string]uint64 `json:"counters"` // by name; they replace those of the Status
	Encrypted bool              `json:"encrypted"`
	Failed    string            `json:"failed,omitempty"` // why it does not run
}

// Info2Hosts lists the known hosts of the networks, linked or not.
type Info2Hosts struct {
	Schema int         `json:"schema"`
	Hosts  []Info2Host `json:"hosts"`
}

// Info2Host is one known host.
type Info2Host struct {
	Network Network `json:"network"`
	info2.HostStatus
}

// SayRequest says a text to everybody.
type SayRequest struct {
	Network Network `json:"network"` // empty: the adapter's, or the bare one where that alone is on
	Text    string  `json:"text"`
	Anyway  bool    `json:"anyway"` // even if it looks like a secret
}

// Said is the result of a SayRequest.
type Said struct {
	Network Network   `json:"network"`
	MID     info2.MID `json:"mid"`
}

// ConnectRequest dials an address: a peer's ULA on the adapter, IPv4 on the bare
// network.
type ConnectRequest struct {
	Addr netip.Addr `json:"addr"`
}

// Connecting is the answer to a ConnectRequest; it comes before the result of the
// dialling.
type Connecting struct {
	Network Network `json:"network"`
}

// LogRequest asks for the history's last entries, and with Follow for what comes
// after them.
type LogRequest struct {
	Last   int  `json:"last"` // at most MaxLast
	Follow bool `json:"follow"`
}

// Entry is a text of the history.
type Entry struct {
	Time    time.Time `json:"time"`
	Network Network   `json:"network"`
	MID     info2.MID `json:"mid"`
	// From is the neighbour that brought the text. Nobody can know who wrote it.
	From netip.Addr `json:"from,omitzero"`
	Name string     `json:"name,omitempty"` // of From, where it is a peer that was added
	Own  bool       `json:"own"`            // said here
	Text string     `json:"text"`
	// Lost counts entries before this one that were dropped because the reader was too
	// slow.
	Lost uint64 `json:"lost,omitempty"`
}

func (s *Server) say(ctx context.Context, r SayRequest) (Said, error) { return s.chat.Say(ctx, r) }

func (s *Server) connect(ctx context.Context, r ConnectRequest) (Connecting, error) {
	if !r.Addr.IsValid() {
		return Connecting{}, &Error{Code: CodeInvalid, Message: "missing address"}
	}
	return s.chat.Connect(ctx, r.Addr)
}

// messages streams entries until the client or the daemon ends.
func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	var request LogRequest
	err := decode(w, r, &request)
	if err == nil && (request.Last < 0 || request.Last > MaxLast) {
		err = &Error{Code: CodeInvalid, Message: fmt.Sprintf("last: want 0 to %d entries", MaxLast)}
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	past, next, stop, err := s.chat.Log(r.Context(), request.Last, request.Follow)
	if err != nil {
		reply(w, nil, err)
		return
	}
	defer stop()
	stream := http.NewResponseController(w)
	// The request was read; from now on the limit is each entry's own.
	if stream.SetReadDeadline(time.Time{}) != nil {
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	e := json.NewEncoder(w)
	send := func(entries ...Entry) bool {
		if stream.SetWriteDeadline(time.Now().Add(maxFollower)) != nil {
			return false
		}
		for _, entry := range entries {
			if e.Encode(entry) != nil {
				return false
			}
		}
		return stream.Flush() == nil
	}
	if !send(past...) || !request.Follow {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case entry, ok := <-next:
			if !ok || !send(entry) {
				return
			}
		}
	}
}

// Info2 returns the state of the text networks.
func (c *Client) Info2(ctx context.Context) (Info2Status, error) {
	return call[Info2Status](ctx, c, http.MethodGet, "info2", nil)
}

// Info2Hosts returns the known hosts of the text networks.
func (c *Client) Info2Hosts(ctx context.Context) (Info2Hosts, error) {
	return call[Info2Hosts](ctx, c, http.MethodGet, "info2/hosts", nil)
}

// Say says a text.
func (c *Client) Say(ctx context.Context, r SayRequest) (Said, error) {
	return call[Said](ctx, c, http.MethodPost, "info2/say", r)
}

// Connect dials an address.
func (c *Client) Connect(ctx context.Context, r ConnectRequest) (Connecting, error) {
	return call[Connecting](ctx, c, http.MethodPost, "info2/connect", r)
}

// Log calls take for the entries of the history, and with Follow for those that come
// after them. It returns when take fails, when ctx ends, or with ErrNoDaemon when the
// daemon ends.
func (c *Client) Log(ctx context.Context, r LogRequest, take func(Entry) error) error {
	body, err := c.ask(ctx, http.MethodPost, "info2/log", r)
	if err != nil {
		return err
	}
	defer body.Close()
	d := json.NewDecoder(body)
	for {
		var entry Entry
		err := d.Decode(&entry)
		switch {
		case errors.Is(err, io.EOF) && !r.Follow:
			return nil
		case err != nil:
			return c.explain(ctx, err)
		}
		// What the daemon sends should be clean; what reaches a terminal must be.
		entry.Name, entry.Text = info2.Clean(entry.Name), info2.Clean(entry.Text)
		if err := take(entry); err != nil {
			return err
		}
	}
}
