package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
)

// TroubleKind is why an endpoint of a connection could not be used.
type TroubleKind uint8

// The kinds.
const (
	Unreachable   TroubleKind = iota // no connection, or no answer
	CaptivePortal                    // a page came that somebody on the way has made
	ProxyAuth                        // the proxy wants a name and a password, or others
	ProxyRefused                     // the proxy does not let this through
	TLS                              // who answers cannot prove that it is the server
	NotAnode                         // a server is there, and does not speak this
	Busy                             // it does, and takes no more
)

// String returns a word for scripts.
func (k TroubleKind) String() string {
	return [...]string{"unreachable", "captive_portal", "proxy_auth", "proxy_refused", "tls", "not_anode", "busy"}[k]
}

// Trouble is the error of an endpoint.
type Trouble struct {
	Kind TroubleKind
	Err  error // says what happened
}

// Error implements error. The text is for people, with a remedy if there is one.
func (t *Trouble) Error() string {
	switch t.Kind {
	case CaptivePortal:
		return fmt.Sprintf("this network: it shows its own page instead of the server (%v); try: open a web browser and log in to the network", plainly(t.Err))
	case ProxyAuth:
		return fmt.Sprintf("proxy: %v; try: a file with NAME:PASSWORD, and proxy_credentials = \"file:PATH\" in the configuration", plainly(t.Err))
	case ProxyRefused:
		return fmt.Sprintf("proxy: it refuses the connection (%v)", plainly(t.Err))
	case TLS:
		return fmt.Sprintf("TLS: the server cannot prove who it is (%v)", plainly(t.Err))
	case NotAnode:
		return fmt.Sprintf("server: it does not speak the Anode protocol (%v)", plainly(t.Err))
	case Busy:
		return fmt.Sprintf("server: it takes no more connections now (%v)", plainly(t.Err))
	}
	return fmt.Sprintf("connection: %v", plainly(t.Err))
}

// Unwrap returns what happened.
func (t *Trouble) Unwrap() error { return t.Err }

// said is an error whose text is for people as it stands.
type said struct{ error }

// Unwrap returns what it is about.
func (s said) Unwrap() error { return errors.Unwrap(s.error) }

// plainly is an error's text for people: without the names of calls and packages.
func plainly(err error) string {
	if s, ok := err.(said); ok {
		return s.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "no address is known for " + dns.Name
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	timeout, _ := errors.AsType[net.Error](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case timeout != nil && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, context.Canceled):
		return "the connection ended before there was an answer"
	case record:
		return "it does not speak TLS"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	text := err.Error()
	for _, prefix := range []string{"remote error: ", "tls: ", "failed to verify certificate: ", "x509: ", "link: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if strings.Contains(strings.ToLower(text), "http") || strings.Contains(text, "MIME") { // net/http and net/textproto have no types for these
		return "it does not answer as a web server does"
	}
	return text
}

// lasting reports whether another attempt right now makes no sense.
func (t *Trouble) lasting() bool { return t.Kind != Unreachable && t.Kind != Busy }

// trouble makes one with a text.
func trouble(k TroubleKind, format string, args ...any) *Trouble {
	return &Trouble{k, said{fmt.Errorf(format, args...)}}
}

// troubleOf returns the trouble that an error is.
func troubleOf(err error) *Trouble {
	if t, ok := errors.AsType[*Trouble](err); ok {
		return t
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return trouble(Unreachable, "no answer in time")
	}
	_, verify := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	_, name := errors.AsType[x509.HostnameError](err)
	if verify || record || alert || name {
		return &Trouble{TLS, err}
	}
	return &Trouble{Unreachable, err}
}

// troubles are the last ones, of endpoints that can be dialled.
type troubles struct {
	mu   sync.Mutex
	last map[Endpoint]*Trouble // by Place
}

const maxTroubles = 256

// set notes the trouble of an endpoint; nil: there is none any more.
func (t *troubles) set(ep Endpoint, x *Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x == nil {
		delete(t.last, ep)
		return
	}
	if t.last == nil {
		t.last = make(map[Endpoint]*Trouble)
	}
	if t.last[ep] == nil && len(t.last) >= maxTroubles {
		for other := range t.last {
			delete(t.last, other)
			break
		}
	}
	t.last[ep] = x
}

// Trouble returns why an endpoint that was dialled could not be used the last time, a *Trouble;
// nil: it could, or it was not tried.
func (m *Mux) Trouble(ep Endpoint) error {
	m.troubles.mu.Lock()
	defer m.troubles.mu.Unlock()
	if x := m.troubles.last[ep.Place()]; x != nil {
		return x
	}
	return nil
}
