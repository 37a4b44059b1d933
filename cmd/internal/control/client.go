package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"anodenet/anode/private"
	"anodenet/overlay"
)

// maxAnswer is the most bytes of an answer: a status of some ten thousand peers.
const maxAnswer = 16 << 20

// Client sends requests to a daemon. Its methods return an *Error of the daemon, or an
// error that wraps ErrNoDaemon if nothing listens. Any goroutine may call them.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a client; it connects with the first call.
func NewClient(socket string) *Client {
	c := &Client{socket: socket}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, err
			}
			return conn, checkServer(conn, socket)
		},
	}
	return c
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns the whole status.
func (c *Client) Status(ctx context.Context) (overlay.Status, error) {
	return call[overlay.Status](ctx, c, http.MethodGet, "status", nil)
}

// Resolve returns the peer that a text means.
func (c *Client) Resolve(ctx context.Context, peer string) (Resolved, error) {
	return call[Resolved](ctx, c, http.MethodPost, "resolve", ResolveRequest{peer})
}

// Ping sends one ping and waits for its reply.
func (c *Client) Ping(ctx context.Context, r PingRequest) (overlay.PingReply, error) {
	limit := time.Duration(r.TimeoutMS)*time.Millisecond + answerLimit
	return callFor[overlay.PingReply](ctx, c, limit, http.MethodPost, "ping", r)
}

// Add adds a peer, or changes the name and the endpoints of one that was added.
func (c *Client) Add(ctx context.Context, r AddRequest) (Added, error) {
	return call[Added](ctx, c, http.MethodPost, "peers/add", r)
}

// Remove forgets a peer.
func (c *Client) Remove(ctx context.Context, r RemoveRequest) error {
	_, err := call[Done](ctx, c, http.MethodPost, "peers/remove", r)
	return err
}

// Rename changes the name of a peer.
func (c *Client) Rename(ctx context.Context, r RenameRequest) error {
	_, err := call[Done](ctx, c, http.MethodPost, "peers/rename", r)
	return err
}

// Block blocks a peer's key, or ends the block.
func (c *Client) Block(ctx context.Context, r BlockRequest) error {
	_, err := call[Done](ctx, c, http.MethodPost, "peers/block", r)
	return err
}

// Book returns what people decided about peers.
func (c *Client) Book(ctx context.Context) (Book, error) {
	return call[Book](ctx, c, http.MethodGet, "peers", nil)
}

// Endpoints changes the endpoints of a peer, and returns those that it has then.
func (c *Client) Endpoints(ctx context.Context, r EndpointsRequest) (Endpoints, error) {
	return call[Endpoints](ctx, c, http.MethodPost, "peers/endpoints", r)
}

// Stop ends the daemon; it may still be ending when the answer comes.
func (c *Client) Stop(ctx context.Context) error {
	_, err := call[Done](ctx, c, http.MethodPost, "stop", StopRequest{})
	return err
}

// answerLimit is how long a daemon may take to answer. It ends its own work earlier, so
// one that takes longer was stopped, or hangs.
const answerLimit = maxRequest + 2*time.Second

func call[Answer any](ctx context.Context, c *Client, method, path string, request any) (answer Answer, err error) {
	return callFor[Answer](ctx, c, answerLimit, method, path, request)
}

// callFor is a call to which the daemon must have answered within a limit.
func callFor[Answer any](ctx context.Context, c *Client, limit time.Duration, method, path string, request any) (answer Answer, err error) {
	err = c.exchange(ctx, limit, method, path, request, &answer)
	return answer, err
}

// exchange sends a request and reads the answer, a pointer, within a limit. It is not generic:
// there are thirty kinds of answers, and each would have its own copy.
func (c *Client) exchange(ctx context.Context, limit time.Duration, method, path string, request, answer any) error {
	limited, cancel := context.WithTimeoutCause(ctx, limit, ErrSilent)
	defer cancel()
	err := c.read(limited, method, path, request, answer)
	if err != nil && context.Cause(limited) == ErrSilent {
		return fmt.Errorf("%w (%s)", ErrSilent, c.socket)
	}
	return err
}

func (c *Client) read(ctx context.Context, method, path string, request, answer any) error {
	body, err := c.ask(ctx, method, path, request)
	if err != nil {
		return err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if err != nil {
		return c.explain(ctx, err)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("%s: the daemon's answer: %w", c.socket, err)
	}
	return nil
}

// ask sends a request and returns the body of an answer that is no error.
func (c *Client) ask(ctx context.Context, method, path string, request any) (io.ReadCloser, error) {
	var body io.Reader
	if request != nil {
		b, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	return c.exchangeBodies(ctx, method, path, body)
}

// exchangeBodies is ask for a body as it is, which may still be sent when the answer comes.
func (c *Client) exchangeBodies(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://anode/v1/"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, c.explain(ctx, err)
	}
	failed := &Error{}
	if json.Unmarshal(b, failed) != nil || failed.Message == "" {
		return nil, fmt.Errorf("%s: the daemon answered %s", c.socket, response.Status)
	}
	return nil, failed
}

// explain distinguishes a missing daemon from other failures.
func (c *Client) explain(ctx context.Context, err error) error {
	var foreign *private.Error
	var dialed *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &foreign):
		return foreign
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nothing listens on %s)", ErrNoDaemon, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", c.socket, fs.ErrPermission)
	case errors.As(err, &dialed) && dialed.Op == "dial":
		return fmt.Errorf("%s: %w", c.socket, err)
	}
	// The connection was there and broke: net/http has many words for that.
	return fmt.Errorf("%w (it ended during a request on %s)", ErrNoDaemon, c.socket)
}
