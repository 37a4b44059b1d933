package platform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// service is a manager of links' DNS settings. systemd-resolved and systemd-networkd have the same
// methods, see org.freedesktop.resolve1(5) and org.freedesktop.network1(5); only the one that
// takes all back is called differently.
type service struct {
	manager string
	name    string // on the bus
	path    dbus.ObjectPath
	iface   string
	undo    string
}

var (
	resolve1 = service{ManagerResolved, "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager", "RevertLink"}
	network1 = service{ManagerNetworkd, "org.freedesktop.network1", "/org/freedesktop/network1", "org.freedesktop.network1.Manager", "RevertLinkDNS"}
)

// setting is a call that sets something of a link.
type setting struct {
	method   string
	value    any
	optional bool // old versions lack it
}

// linkServer is an element of SetLinkDNSEx: a(iayqs).
type linkServer struct {
	Family  int32
	Address []byte
	Port    uint16
	Name    string // of its certificate
}

// linkDomain is an element of SetLinkDomains: a(sb).
type linkDomain struct {
	Domain  string
	Routing bool // only: it is not added to names without a dot
}

// calls returns what to call, in this order: the server comes last, so that not even for a moment
// it is asked for other names, and the adapter carries no LLMNR.
//
// DNSSEC is off on this link because what is asked there comes from this machine and is signed by
// nobody. Resolved itself does not demand signatures below .internal; below another suffix it would.
func (s NameSettings) calls() []setting {
	domains := make([]linkDomain, len(s.Domains))
	for i, d := range s.Domains {
		domains[i] = linkDomain{d, i > 0 || !s.Search}
	}
	family := int32(unix.AF_INET6)
	if s.Server.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	multicast := "no"
	if s.MulticastDNS {
		multicast = "yes"
	}
	return []setting{
		{"SetLinkLLMNR", "no", true},
		{"SetLinkMulticastDNS", multicast, true},
		{"SetLinkDNSOverTLS", "no", true},
		{"SetLinkDNSSEC", "no", true},
		{"SetLinkDefaultRoute", false, false},
		{"SetLinkDomains", domains, false},
		{"SetLinkDNSEx", []linkServer{{family, s.Server.Addr().Unmap().AsSlice(), s.Server.Port(), ""}}, false},
	}
}

// callError is a call that failed.
type callError struct {
	to     service
	method string
	err    error
}

func (e *callError) Error() string { return fmt.Sprintf("%s: %s: %v", e.to.manager, e.method, e.err) }
func (e *callError) Unwrap() error { return e.err }

// refusal is why a call failed.
type refusal string

const (
	refusedAbsent  refusal = "absent"  // the service does not run
	refusedBusy    refusal = "busy"    // the link is another manager's
	refusedDenied  refusal = "denied"  // we may not
	refusedNoLink  refusal = "no link" // the service does not know the link yet, or any more
	refusedUnknown refusal = "unknown" // the service is too old for the call
	refusedOther   refusal = "other"
)

// refusalOf reads the name of a D-Bus error.
func refusalOf(err error) refusal {
	var e dbus.Error
	if !errors.As(err, &e) {
		return refusedOther
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner":
		return refusedAbsent
	case "org.freedesktop.resolve1.LinkBusy":
		return refusedBusy
	case "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "org.freedesktop.DBus.Error.AuthFailed":
		return refusedDenied
	case "org.freedesktop.resolve1.NoSuchLink":
		return refusedNoLink
	case "org.freedesktop.DBus.Error.UnknownMethod":
		return refusedUnknown
	}
	return refusedOther
}

// plainBusError returns the words of an error that a service sent, cleaned.
func plainBusError(err error) string {
	clean := func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}
	const longest = 200
	text := strings.Map(clean, err.Error())
	return text[:min(len(text), longest)]
}

// newLinkPause is how often is asked again about a link that is so new that the kernel's
// announcement has not reached the service yet, and that many times.
const (
	newLinkPause = 50 * time.Millisecond
	newLinkTries = 10
)

// configure makes all calls.
func (b *bus) configure(ctx context.Context, to service, s NameSettings) error {
	for _, c := range s.calls() {
		err := b.set(ctx, to, c, s.Link)
		if refusalOf(err) == refusedUnknown && c.optional {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// set makes one call, again if the link is too new.
func (b *bus) set(ctx context.Context, to service, c setting, link int) error {
	for try := 1; ; try++ {
		err := b.call(ctx, to, c.method, int32(link), c.value)
		if refusalOf(err) != refusedNoLink || try == newLinkTries {
			return err
		}
		select {
		case <-time.After(newLinkPause):
		case <-ctx.Done():
			return err
		}
	}
}

// revert takes back what configure did.
func (b *bus) revert(ctx context.Context, from service, link int) error {
	err := b.call(ctx, from, from.undo, int32(link))
	switch refusalOf(err) {
	case refusedAbsent, refusedNoLink, refusedBusy:
		return nil // nothing of ours is left there
	}
	return err
}

// call calls a method, and starts no service by that. Nobody is asked for a password: the flag
// that would allow it is not set.
func (b *bus) call(ctx context.Context, to service, method string, args ...any) error {
	c := b.Object(to.name, to.path).CallWithContext(ctx, to.iface+"."+method, dbus.FlagNoAutoStart, args...)
	if c.Err != nil {
		return &callError{to, method, c.Err}
	}
	return nil
}
