package zone

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
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
	ErrPortal    = errors.New("this network wants people to log in first")
	ErrPage      = fmt.Errorf("%w: it is a web page, such as that of a network that wants people to log in", ErrInvalid)
)

// Errors of servers.
var (
	errSlow      = fmt.Errorf("the server does not send the file within %v", attemptTimeout)
	errEncoded   = errors.New("the server sends the file compressed")
	errRedirects = errors.New("the server redirects too often")
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
	File     *File     // nil: none
	Source   string    // the URI that it came from; "": none of Candidates
	ETag     string    // as the server sent it, "" for none
	Modified string    // likewise, of Last-Modified
	Whole    time.Time // when it came whole; zero: in another network, or not known
	Lower    Lower     // what else the web has
}

// maxUnchanged is how long "not modified" is believed of a copy that came whole. Whoever
// forges a file can give it the ETag that the zone's own file has, or the present as the time
// of its last change, and the zone's own server would take it for its own.
const maxUnchanged = 24 * time.Hour

// conditional reports whether a place is asked only whether the copy has changed.
func (c Copy) conditional(uri string, now time.Time) bool {
	age := now.Sub(c.Whole)
	return c.File != nil && c.Source == uri && c.ETag+c.Modified != "" && age >= 0 && age < maxUnchanged
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

// Error says what a person can do something about: see Reasons.
func (e *FetchError) Error() string { return strings.Join(e.Reasons(), "; ") }

// Reasons are why there is no file, one for each place that a person would look at. Most
// zones have no name in DNS: it is left out if there is another reason. The two ways to the
// zone's own address, by IPv4 and by NAT64, are one place, and the second only matters where
// there is no IPv4.
func (e *FetchError) Reasons() (list []string) {
	var name string
	for i, a := range e.Attempts {
		switch {
		case a.byName() && isNotFound(a.Err):
			name = a.Error()
		case a.mapped() && e.NoIPv4():
			list[len(list)-1] = e.Attempts[i-1].URI + ": this machine has no IPv4, and by IPv6: " + plain(a.Err)
		case a.mapped():
		default:
			list = append(list, a.Error())
		}
	}
	if len(list) == 0 && name != "" {
		list = append(list, name)
	}
	return list
}

// NoIPv4 reports whether this machine has no IPv4, which leads to the zone's own address.
func (e *FetchError) NoIPv4() bool {
	i := slices.IndexFunc(e.Attempts, (*Attempt).mapped)
	return i > 0 && errors.Is(e.Attempts[i-1].Err, syscall.ENETUNREACH)
}

// byName reports whether an attempt was that by the zone's name in DNS.
func (a *Attempt) byName() bool { return strings.HasPrefix(a.URI, "http://"+namePrefix) }

// mapped reports whether an attempt was that by NAT64.
func (a *Attempt) mapped() bool { return strings.HasPrefix(a.URI, "http://[::ffff:") }

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
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
// with a lower revision than the one that is known is dropped, at first: see Lower. A
// candidate begins when the one before it has failed, or has not answered for a quarter of a
// second: DNS that does not answer would cost many seconds otherwise. The place that known is
// from is asked only whether it has changed, except once a day.
//
// If no candidate has a file, Fetch returns known, however old, with a *FetchError; its Lower
// may have changed. On zone 0
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
	var lower Copy
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
			lower = higher(lower, r.copy)
			failed[r.index] = &Attempt{uris[r.index], r.err}
			next.Reset(0)
		case <-ctx.Done():
			return known, context.Cause(ctx)
		}
	}
	if lower.File != nil {
		now := clock()
		known.Lower = known.Lower.seen(now)
		if known.Lower.settled(now) {
			return lower, nil
		}
	}
	return known, &FetchError{failed}
}

// higher returns the copy with the higher revision.
func higher(a, b Copy) Copy {
	if a.File == nil || b.File != nil && b.File.Revision() > a.File.Revision() {
		return b
	}
	return a
}

// result is what came of the candidate with an index. A copy with an error is one with a
// lower revision.
type result struct {
	index int
	copy  Copy
	err   error
}

func attempt(ctx context.Context, client *http.Client, uri string, index int, known Copy) result {
	c, err := get(ctx, client, uri, known)
	if err == nil && known.File != nil && c.File.Revision() < known.File.Revision() {
		err = fmt.Errorf("%w: %d after %d", ErrOlder, c.File.Revision(), known.File.Revision())
		if !c.File.dated() {
			c = Copy{}
		}
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
	conditional := known.conditional(uri, time.Now())
	if conditional {
		setUnless(req.Header, "If-None-Match", known.ETag)
		setUnless(req.Header, "If-Modified-Since", known.Modified)
	}
	resp, err := client.Do(req)
	if err != nil {
		return Copy{}, portal(uri, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNetworkAuthenticationRequired:
		return Copy{}, ErrPortal
	case resp.StatusCode == http.StatusNotModified && conditional:
		known.Lower = Lower{}
		return known, nil
	case resp.StatusCode != http.StatusOK:
		return Copy{}, &statusError{resp.StatusCode}
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return Copy{}, errEncoded // nobody asked for it, and a little of it may be a lot
	}
	f, err := read(resp.Body)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Copy{}, errSlow
	case err != nil:
		return Copy{}, err
	}
	now := clock()
	return Copy{File: f, Source: uri, ETag: validator(resp.Header, "ETag"), Modified: modified(resp.Header, now), Whole: now}, nil
}

// portal marks a redirection to an address that is not public as ErrPortal: networks that want
// people to log in answer so in place of the server. Other errors it returns as they are.
func portal(uri string, err error) error {
	request, ok := errors.AsType[*url.Error](err)
	if ok && errors.Is(err, ErrNotPublic) && request.URL != uri {
		return &portalError{err}
	}
	return err
}

// portalError is an ErrPortal with what happened.
type portalError struct{ err error }

func (e *portalError) Error() string { return e.err.Error() }

func (e *portalError) Unwrap() []error { return []error{ErrPortal, e.err} }

// read reads a file of the web, which may be anything.
func read(body io.Reader) (*File, error) {
	b, err := io.ReadAll(io.LimitReader(body, MaxSize+1))
	if err != nil {
		return nil, err
	}
	f, err := Parse(b)
	if err == nil {
		err = f.Usable()
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

// modified returns the Last-Modified of an answer. A time in the future is none: until it has
// passed, every file would count as not modified since.
func modified(h http.Header, now time.Time) string {
	text := validator(h, "Last-Modified")
	if at, err := http.ParseTime(text); err != nil || at.After(now) {
		return ""
	}
	return text
}

// statusError is an answer without a file.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code)))
}

// plain returns why a request failed, without the names of what was called.
func plain(err error) string {
	var refused *notPublic
	var dns *net.DNSError
	var timeout net.Error
	var errno syscall.Errno
	var request *url.Error
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &refused):
		return refused.Error()
	case errors.Is(err, ErrNoNAT64):
		return ErrNoNAT64.Error()
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
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection too early"
	case errors.Is(err, errRedirects):
		return errRedirects.Error()
	case errors.As(err, &request) && strings.HasPrefix(request.Err.Error(), "unsupported protocol scheme"):
		return "the server redirects to a place that is not on the web"
	case errors.As(err, &certificate):
		return "the server redirects to one whose certificate is not valid"
	case errors.As(err, &request):
		return "the server does not answer as a web server should"
	}
	return err.Error()
}
