package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"anodenet/anode/invite"
	"anodenet/cmd/internal/control"
)

// TestMain lets scripts run this test's binary as anode.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"anode": main})
}

// TestScripts runs testdata/script. Beside testscript's own commands there are
//
//	exits CODE COMMAND...   runs a command that ends with that exit code
//	daemon SOCKET           a control server with the node of fixture_test.go
//	stopped                 waits until somebody has stopped it
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Values[serverKey{}] = &server{}
			e.Setenv("SELF", selfAddress.String())
			e.Setenv("NORTH", northAddress.String())
			e.Setenv("SOUTH", southAddress.String())
			e.Setenv("STRANGER", strangerAddress.String())
			e.Setenv("WEST", westAddress.String())
			e.Setenv("BANK", bankAddress.String())
			return setLinks(e)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "daemon": scriptDaemon, "stopped": scriptStopped,
		},
	})
}

// linkOf is a link that west issued, which calls it so. What becomes of it says fixturePeople.
func linkOf(name string) string {
	return invite.Link{Address: westAddress, Token: fixtureToken, Name: name, Expires: time.Now().Add(time.Hour)}.String()
}

// setLinks gives a script links in variables, and in files.
func setLinks(e *testscript.Env) error {
	for _, name := range []string{"east", "used", "revoked", "asleep", "secretive", "north"} {
		e.Setenv("LINK_"+strings.ToUpper(name), linkOf(name))
	}
	l := linkOf("east")
	at := len(l) - 30
	e.Setenv("LINK_CUT", l[:len(l)-3])
	e.Setenv("LINK_TYPO", l[:at]+"0"+l[at+1:])
	e.Setenv("LINK_EXPIRED", invite.Link{Address: westAddress, Token: fixtureToken, Expires: time.Now().Add(-time.Hour)}.String())
	e.Setenv("WEST_HALF1", l[:at])
	e.Setenv("WEST_HALF2", l[at:])
	return errors.Join(
		os.WriteFile(filepath.Join(e.WorkDir, "east.txt"), []byte(l+"\n"), 0o600),
		os.WriteFile(filepath.Join(e.WorkDir, "mail.txt"), []byte("Hi,\n\nhere is my link:\n\n"+l[:75]+"=\n"+l[75:100]+"=\n"+l[100:]+"\n\nSee you\n-- \nwest\n"), 0o600),
		os.WriteFile(filepath.Join(e.WorkDir, "broken.txt"), []byte("Hello,\n> "+l[:70]+"\n> "+l[70:]+"\n> See you\n"), 0o600))
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("the exit code is %d, want %d", code, want)
	}
}

// serverKey finds a script's server.
type serverKey struct{}

// server is the control server of a script.
type server struct {
	stopped <-chan struct{} // by "anode down"
	served  <-chan error
}

func scriptDaemon(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: daemon SOCKET")
	}
	l, err := control.Listen(ts.MkAbs(args[0]))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	named, err := newFixtureNames()
	ts.Check(err)
	go func() {
		var naming sync.WaitGroup
		naming.Go(func() { _ = named.run(ctx) })
		s := control.NewServer(newFixture(), newFixtureTalk(), cancel, slog.New(slog.DiscardHandler))
		s.ServePeople(newFixturePeople())
		s.ServeNames(named)
		err := s.Serve(ctx, l)
		cancel()
		naming.Wait()
		served <- err
		close(served)
	}()
	ts.Defer(func() {
		cancel()
		ts.Check(<-served)
	})
	*ts.Value(serverKey{}).(*server) = server{ctx.Done(), served}
}

func scriptStopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: stopped")
	}
	s := ts.Value(serverKey{}).(*server)
	<-s.stopped
	ts.Check(<-s.served)
}
