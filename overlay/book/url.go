package book

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"anodenet/anode/wire"
)

// maxURL is the longest URL of an endpoint, which is what package wire reads.
const maxURL = 1024

// isURL reports whether a text is meant as a URL that packets could be sent to.
func isURL(text string) bool {
	scheme, _, ok := strings.Cut(text, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// cutURL cuts a URL into its scheme, its host with a port, and what follows.
func cutURL(text string) (scheme, host, path string) {
	scheme, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return scheme, rest[:i], rest[i:]
	}
	return scheme, rest, ""
}

// parseURL reads a URL as people write it, and gives one place one spelling: small letters in
// front of the path, no port where it is the usual one, and a path.
func parseURL(text string) (wire.Endpoint, error) {
	scheme, host, path := cutURL(text)
	scheme, host = strings.ToLower(scheme), strings.ToLower(host)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if name, ok := strings.CutSuffix(host, map[string]string{"http": ":80", "https": ":443"}[scheme]); ok && !manyColons(host) {
		host = name
	}
	e := wire.Endpoint{Kind: wire.HTTP, URI: scheme + "://" + host + path}
	if fault := urlFault(e.URI); fault != "" {
		return wire.Endpoint{}, fmt.Errorf("%w: %q: %s", ErrEndpoint, shown(text), fault)
	}
	return e, nil
}

// maxShown is the most characters of a wrong text that an error repeats.
const maxShown = 100

// shown returns a text for an error: without what may be a password, and in part if it is long.
func shown(text string) string {
	text = hideUser(text)
	if r := []rune(text); len(r) > maxShown {
		return string(r[:maxShown]) + "..."
	}
	return text
}

// hideUser leaves out what may be a password: all between the scheme and the last @, since a
// password may hold any character that a URL does not allow there.
func hideUser(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		scheme, rest, _ = strings.Cut(text, ":")
	}
	at := strings.LastIndexByte(rest, '@')
	switch {
	case at < 0:
		return text
	case ok:
		return scheme + "://..." + rest[at:]
	}
	return scheme + ":..." + rest[at:]
}

// noUser is the fault of an endpoint with credentials.
const noUser = "an endpoint has no user name and no password; those of a proxy go into the file that proxy_credentials names"

// manyColons reports whether a host is an IPv6 address without the brackets that tell it from
// a port.
func manyColons(host string) bool {
	return strings.Count(host, ":") > 1 && !(strings.HasPrefix(host, "[") && strings.Contains(host, "]"))
}

// urlFault says in plain words why packets cannot be sent to a URL; "" if they can.
func urlFault(text string) string {
	if len(text) > maxURL {
		return fmt.Sprintf("the URL is too long: want at most %d characters", maxURL)
	}
	for i := range len(text) {
		switch c := text[i]; {
		case c == ' ':
			return "a URL has no blanks: write %20"
		case c == '\\':
			return "a URL is written with /, not with \\"
		case c < ' ' || c > '~':
			return "a URL has only ASCII characters: write others as %XX in the path, and as DNS has them (xn--...) in the host name"
		}
	}
	u, err := url.Parse(text)
	_, host, path := cutURL(text)
	_, escaped := errors.AsType[url.EscapeError](err)
	switch {
	case strings.Contains(host, "@"), err != nil && strings.Contains(path, "@"):
		return noUser
	case manyColons(host), err != nil && strings.Contains(host, "["):
		return "want an IPv6 address in brackets, such as http://[2001:db8::1]:8080/"
	case escaped:
		return "a % in a URL must be followed by two hex digits: write the sign itself as %25"
	case err != nil && strings.Contains(host, ":"):
		return "the port is not valid: want 1 to 65535"
	case err != nil:
		return "the URL is not valid"
	case u.Scheme != "http" && u.Scheme != "https":
		return "only http:// and https:// are available"
	case strings.Contains(text, "#"):
		return "a URL with # cannot be used: that part is not sent to the server"
	case u.Hostname() == "":
		return "the host is missing, such as http://home.example.org/"
	case strings.HasSuffix(u.Host, ":"):
		return "the port is missing after the colon"
	}
	if port := u.Port(); port != "" {
		switch n, err := strconv.ParseUint(port, 10, 16); {
		case err != nil:
			return "the port is not valid: want 1 to 65535"
		case n == 0:
			return "the port must not be 0"
		}
	}
	return urlHostFault(u.Hostname())
}

// urlHostFault is urlFault of the host alone.
func urlHostFault(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return hostFault(strings.ToLower(host))
	case ip.Zone() != "":
		return "an address with the name of an interface is of no use to other programs"
	}
	return ipFault(ip.Unmap())
}
