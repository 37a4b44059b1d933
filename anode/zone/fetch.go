package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"anodenet/anode"
)

// Errors of fetching.
var (
	ErrLocal     = errors.New("zone 0 is the local zone and has no zone file")
	ErrOlder     = errors.New("an older revision than the one that is known")
	ErrNotPublic = errors.New("not a public address")
)

const (
	attemptTimeout = 10 * time.Second       // for one of the candidates
	headStart      = 250 * time.Millisecond // of a candidate before the next one (as RFC 8305)
)

// Candidates are the places where the zone's file may be, to be tried in this order:
//
//	http://a--XXXXXXXX.net/z       draft 2.1.1
//	http://a.b.c.d/z               if the zone ID is an address that a host can have
//	http://[::ffff:a.b.c.d]/z      the same for hosts with IPv6 alone, by NAT64
//
// Zone 0 has none.
func Candidates(z anode.Zone) []string {
	if z == 0 {
		return nil
	}
	uris := []string{"http://" + host(z) + "/z"}
	if ip, usable := IP(z); usable {
		uris = append(uris, ipURI(z), "http://[::ffff:"+ip.String()+"]/z")
	}
	return uris
}

// ipURI is the place of a zone's file on the machine whose address the zone ID is.
func ipURI(z anode.Zone) string {
	ip, _ := IP(z)
	return "http://" + ip.String() + "/z"
}

// Copy is a zone file, and what is needed to ask whether it has changed.
type Copy struct {
	File     *File  // nil: none
	Source   string // the URI that it came from; "": none of Candidates
	ETag     string // as the server sent it, "" for none
	Modified string // likewise, of Last-Modified
}

// maxValidator is the longest ETag or Last-Modified that is kept.
const maxValidator = 256

// Attempt is why one of the candidates had no file that can be used.
type Attempt struct {
	URI string
	Err error
}

func (a *Attempt) Error() string { return a.URI + ": " + plain(a.Err) }

func (a *Attempt) Unwrap() error { return a.Err }

// FetchError is why no candidate had a file that can be used.
type FetchError struct{ Attempts []*Attempt }

func (e *FetchError) Error() string {
	list := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		list[i] = a.Error()
	}
	return strings.Join(list, "; ")
}

// Unwrap returns the attempts.
func (e *FetchError) Unwrap() []error {
	list := make([]error, len(e.Attempts))
	for i, a := range e.Attempts {
		list[i] = a
	}
	return list
}

// Fetch gets the zone's file from the first of Candidates that answers with one. A file
// with a lower revision than the one that is known is dropped. A candidate begins when the
// one before it has failed, or has not answered for a quarter of a second: DNS that does not
// answer would cost many seconds otherwise. The place that known is from is asked only
// whether it has changed.
//
// If no candidate has a file, Fetch returns known, however old, with a *FetchError; on zone 0
// it fails with ErrLocal. It waits for all that it began. Where the client may connect to is
// the client's affair; see NewClient.
func Fetch(ctx context.Context, client *http.Client, z anode.Zone, known Copy) (Copy, error) {
	if z == 0 {
		return known, ErrLocal
	}
	ctx, cancel := context.WithCancel(ctx)
	uris := Candidates(z)
	results := make(chan result, len(uris))
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	failed := make([]*Attempt, len(uris))
	next := time.NewTimer(0)
	defer next.Stop()
	for begun, ended := 0, 0; ended < len(uris); {
		select {
		case <-next.C:
			if begun < len(uris) {
				go func(i int) { results <- attempt(ctx, client, uris[i], i, known) }(begun)
				begun, running = begun+1, running+1
				next.Reset(headStart)
			}
		case r := <-results:
			running--
			if r.err == nil {
				return r.copy, nil
			}
			ended++
			failed[r.index] = &Attempt{uris[r.index], r.err}
			next.Reset(0)
		case <-ctx.Done():
			return known, context.Cause(ctx)
		}
	}
	return known, &FetchError{failed}
}

// result is what came of the candidate with an index.
type result struct {
	index int
	copy  Copy
	err   error
}

func attempt(ctx context.Context, client *http.Client, uri string, index int, known Copy) result {
	c, err := get(ctx, client, uri, known)
	if err == nil && known.File != nil && c.File.Revision() < known.File.Revision() {
		err = fmt.Errorf("%w: %d after %d", ErrOlder, c.File.Revision(), known.File.Revision())
	}
	return result{index, c, err}
}

// get asks one place.
func get(ctx context.Context, client *http.Client, uri string, known Copy) (Copy, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return Copy{}, err
	}
	req.Header.Set("User-Agent", "anode")
	conditional := known.File != nil && known.Source == uri && known.ETag+known.Modified != ""
	if conditional {
		setUnless(req.Header, "If-None-Match", known.ETag)
		setUnless(req.Header, "If-Modified-Since", known.Modified)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Copy{}, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && conditional:
		return known, nil
	case resp.StatusCode != http.StatusOK:
		return Copy{}, &statusError{resp.StatusCode}
	}
	f, err := read(resp.Body)
	if err != nil {
		return Copy{}, err
	}
	return Copy{f, uri, validator(resp.Header, "ETag"), validator(resp.Header, "Last-Modified")}, nil
}

// read reads a file of the web, which may be anything.
func read(body io.Reader) (*File, error) {
	b, err := io.ReadAll(io.LimitReader(body, MaxSize+1))
	if err != nil {
		return nil, err
	}
	f, err := Parse(b)
	if err == nil && !f.plausible() {
		err = fmt.Errorf("%w: none of the entries n, d, c, r and ttl is in it", ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func setUnless(h http.Header, key, value string) {
	if value != "" {
		h.Set(key, value)
	}
}

// validator returns a header that the server wants to see again, "" if it is none.
func validator(h http.Header, key string) string {
	v := h.Get(key)
	if len(v) > maxValidator || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return v
}

// statusError is an answer without a file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code)))
}

// plain returns why a request failed, without the names of what was called.
func plain(err error) string {
	var dns *net.DNSError
	var timeout net.Error
	var errno syscall.Errno
	var request *url.Error
	switch {
	case errors.Is(err, ErrNotPublic):
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			if text := inner.Error(); strings.HasPrefix(text, ErrNotPublic.Error()) {
				return text
			}
		}
		return ErrNotPublic.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		return "DNS has no such name"
	case errors.As(err, &dns):
		return "DNS did not answer"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}
