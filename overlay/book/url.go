package book

import (
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
		return wire.Endpoint{}, fmt.Errorf("%w: %q: %s", ErrEndpoint, hideUser(text), fault)
	}
	return e, nil
}

// hideUser leaves out what may be a password.
func hideUser(text string) string {
	scheme, host, path := cutURL(text)
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		return scheme + "://..." + host[at:] + path
	}
	return text
}

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
		case c < ' ' || c > '~':
			return "a URL has only ASCII characters: write others as %XX in the path, and as DNS has them (xn--...) in the host name"
		}
	}
	u, err := url.Parse(text)
	_, host, _ := cutURL(text)
	switch {
	case manyColons(host) && !strings.Contains(host, "@"), err != nil && strings.Contains(host, "["):
		return "want an IPv6 address in brackets, such as http://[2001:db8::1]:8080/"
	case err != nil && strings.Contains(host, ":") && !strings.Contains(host, "@"):
		return "the port is not valid: want 1 to 65535"
	case err != nil:
		return "the URL is not valid"
	case u.Scheme != "http" && u.Scheme != "https":
		return "only http:// and https:// are available"
	case u.User != nil:
		return "a URL with a user name or password cannot be used"
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
	case noMachine(ip.Unmap()):
		return "no single machine has that IP address"
	}
	return ""
}
