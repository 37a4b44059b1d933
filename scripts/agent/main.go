// Command agent stands ready to ask for a password in the session that it is started in, as a desktop's
// polkit agent does: one for the session, whichever program it is about. It prints "ready", then each
// action that it is to ask for, and says that the person has closed the window. scripts/booted runs it.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/godbus/dbus/v5"
)

const (
	path = "/anode/agent"
	face = "org.freedesktop.PolicyKit1.AuthenticationAgent"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	session := os.Getenv("XDG_SESSION_ID") // pam_systemd(8)
	if session == "" {
		return errors.New("this is no session of logind")
	}
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Export(asked{}, path, face); err != nil {
		return err
	}
	subject := subject{"unix-session", map[string]dbus.Variant{"session-id": dbus.MakeVariant(session)}}
	err = bus.Object("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority").
		Call("org.freedesktop.PolicyKit1.Authority.RegisterAuthenticationAgent", 0, subject, "C", path).Err
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-bus.Context().Done()
	return errors.New("the bus has gone")
}

// subject is (sa{sv}), what an agent stands ready for.
type subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// asked is what polkit calls.
type asked struct{}

// BeginAuthentication is of the interface face.
func (asked) BeginAuthentication(action, _, _ string, _ map[string]string, _ string, _ []subject) *dbus.Error {
	fmt.Println("asked for", action)
	return &dbus.Error{Name: "org.freedesktop.PolicyKit1.Error.Cancelled"}
}

// CancelAuthentication is of it too.
func (asked) CancelAuthentication(string) *dbus.Error { return nil }
