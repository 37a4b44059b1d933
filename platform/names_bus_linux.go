package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// busSocket is where the system bus is, and busVariable what says otherwise.
const (
	busSocket   = "/run/dbus/system_bus_socket"
	busVariable = "DBUS_SYSTEM_BUS_ADDRESS"
)

// bus is a connection to the system bus.
type bus struct{ *dbus.Conn }

// busPath returns the path of the socket, from an address as the specification of D-Bus has it:
//
//	unix:path=/run/dbus/system_bus_socket,guid=...;...
func busPath(address string) (string, error) {
	if address == "" {
		return busSocket, nil
	}
	first, _, _ := strings.Cut(address, ";")
	rest, ok := strings.CutPrefix(first, "unix:")
	for pair := range strings.SplitSeq(rest, ",") {
		if path, is := strings.CutPrefix(pair, "path="); is && ok {
			return url.PathUnescape(path)
		}
	}
	return "", fmt.Errorf("%s: %q is not unix:path=FILE", busVariable, address)
}

// dialBus connects. A service that comes or goes is told on changed.
func dialBus(ctx context.Context, changed chan<- struct{}) (*bus, error) {
	path, err := busPath(os.Getenv(busVariable))
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// What the library does first has no time limit.
	defer context.AfterFunc(ctx, func() { c.Close() })()
	conn, err := dbus.NewConn(c, dbus.WithSignalHandler(ownerChanges{changed}), dbus.WithHandler(noObjects{}))
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	b := &bus{conn}
	if err := b.greet(ctx); err != nil {
		return nil, errors.Join(err, b.Close(), ctx.Err())
	}
	return b, nil
}

// greet says who we are, and what we want to hear of.
func (b *bus) greet(ctx context.Context) error {
	if err := b.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return err
	}
	if err := b.Hello(); err != nil {
		return err
	}
	for _, s := range []service{resolve1, network1} {
		if err := b.AddMatchSignalContext(ctx, dbus.WithMatchSender(busName), dbus.WithMatchInterface(busName),
			dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, s.name)); err != nil {
			return err
		}
	}
	return nil
}

const busName = "org.freedesktop.DBus"

// ownerChanges hears signals. Any user of the bus may send us some; those of the bus count.
type ownerChanges struct{ changed chan<- struct{} }

// DeliverSignal implements dbus.SignalHandler. It never waits, and keeps nothing.
func (o ownerChanges) DeliverSignal(_, _ string, s *dbus.Signal) {
	if s.Sender == busName && s.Name == busName+".NameOwnerChanged" {
		tell(o.changed)
	}
}

// noObjects is a dbus.Handler: there is nothing here that others could call.
type noObjects struct{}

// LookupObject implements dbus.Handler.
func (noObjects) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return nil, false }

// runs reports whether a service runs.
func (b *bus) runs(ctx context.Context, name string) (yes bool) {
	err := b.BusObject().CallWithContext(ctx, busName+".NameHasOwner", 0, name).Store(&yes)
	return err == nil && yes
}

// property reads a text property of a service that runs; "": there is none.
func (b *bus) property(ctx context.Context, name string, path dbus.ObjectPath, iface, property string) string {
	var v dbus.Variant
	err := b.Object(name, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, iface, property).Store(&v)
	text, ok := v.Value().(string)
	if err != nil || !ok {
		return ""
	}
	return text
}

// networkManagerMode returns how NetworkManager resolves names: "dnsmasq", "systemd-resolved", ...
func (b *bus) networkManagerMode(ctx context.Context) string {
	return b.property(ctx, "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager/DnsManager", "org.freedesktop.NetworkManager.DnsManager", "Mode")
}

// systemdVersion returns the number of systemd's version; 0: not known.
func (b *bus) systemdVersion(ctx context.Context) int {
	return leadingNumber(b.property(ctx, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Version"))
}

// leadingNumber reads "258.1-2" as 258.
func leadingNumber(text string) int {
	text = strings.TrimPrefix(text, "v")
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		text = text[:end]
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}
