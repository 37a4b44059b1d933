//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

const (
	countPort = ":9" // counts what comes
	holdPort  = ":7" // waits for the end of each stream

	libraryPort  = 9001 // UDP, of a node that serves streams
	netstackPort = 9002 // UDP, of a node with a netstack
)

func id(_ context.Context, j job) error {
	id, _, err := anode.LoadOrCreateIdentity(j.arg(0), 0)
	if err != nil {
		return err
	}
	_, err = fmt.Println(id.Address(), id.Address().ULA())
	return err
}

// quiet leaves the beacons to the daemon in the same namespace.
type quiet struct{ link.System }

func (*quiet) ListenBeacons() (link.Conn, error) { return nil, net.ErrClosed }

// configure makes the configuration of a node whose key is in file, with one peer, called peer.
func configure(file, peer, endpoint string) (c overlay.Config, err error) {
	if c.Identity, err = anode.LoadIdentity(file); err != nil {
		return c, err
	}
	e := book.Entry{Name: "peer"}
	if e.Address, err = anode.ParseAddress(peer); err != nil {
		return c, err
	}
	if endpoint != "" {
		at, err := netip.ParseAddrPort(endpoint)
		if err != nil {
			return c, err
		}
		e.Endpoints = []wire.Endpoint{wire.UDP(at)}
	}
	c.Network = new(quiet)
	c.Book, _, err = book.Open(c.Identity.Address(), book.NewMemory(), []book.Entry{e})
	return c, err
}

// with runs a node while f works, and then stops it.
func with(ctx context.Context, c overlay.Config, f func(context.Context, *overlay.Node) error) error {
	n, err := overlay.New(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- n.Run(ctx)
	}()
	err = f(ctx, n)
	cancel()
	if failed := <-ended; !errors.Is(failed, context.Canceled) {
		err = errors.Join(err, failed)
	}
	return err
}

func serve(ctx context.Context, j job) error {
	c, err := configure(j.arg(0), j.arg(1), "")
	if err != nil {
		return err
	}
	c.Port = libraryPort
	return with(ctx, c, func(ctx context.Context, n *overlay.Node) error {
		counted, err := n.Listen("tcp", countPort)
		if err != nil {
			return err
		}
		held, err := n.Listen("tcp", holdPort)
		if err != nil {
			return err
		}
		var ends sync.WaitGroup
		ends.Go(func() { hold(ctx, held) })
		err = take(ctx, counted)
		ends.Wait()
		return err
	})
}

// hold takes streams and waits for the end of each, as servers do.
func hold(ctx context.Context, l net.Listener) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var ends sync.WaitGroup
	defer ends.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		ends.Go(func() {
			defer c.Close()
			defer context.AfterFunc(ctx, func() { c.Close() })()
			small := make([]byte, 512) // io.Copy would take 32 KiB for each
			_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, small)
		})
	}
}

// sender runs a node while f works, once the node has a connection to its peer.
func (j *job) sender(ctx context.Context, f func(context.Context, *overlay.Node) error) error {
	c, err := configure(j.arg(0), j.arg(1), j.arg(2))
	if err != nil {
		return err
	}
	return with(ctx, c, f)
}

func sendStream(ctx context.Context, j job) error {
	return j.sender(ctx, func(ctx context.Context, n *overlay.Node) error {
		c, err := n.Dial(ctx, "tcp", "peer"+countPort)
		if err != nil {
			return err
		}
		defer c.Close()
		return j.send(c.(halfCloser))
	})
}

// settle is how long streams have been idle when their memory is read, and for how long their
// CPU time is.
const settle = 10 * time.Second

// idle opens streams, half of them one after the other, half of them many at a time, and prints
// how fast that was, the memory of both ends, and what the streams cost while nothing happens.
func idle(ctx context.Context, j job) error {
	n, err := strconv.Atoi(j.arg(3))
	if err != nil {
		return err
	}
	return j.sender(ctx, func(ctx context.Context, node *overlay.Node) error {
		first, err := node.Dial(ctx, "tcp", "peer"+holdPort)
		if err != nil {
			return err
		}
		defer first.Close()
		before := []int{memory("self"), memory(j.pids)}
		start := time.Now()
		if err := open(ctx, node, n/2, 1); err != nil {
			return err
		}
		alone := time.Since(start)
		start = time.Now()
		if err := open(ctx, node, n-n/2, 64); err != nil {
			return err
		}
		together := time.Since(start)
		from, err := used(j.pids)
		if err != nil {
			return err
		}
		time.Sleep(settle)
		to, err := used(j.pids)
		if err != nil {
			return err
		}
		fmt.Printf("{\"streams\": %d, \"opens_per_s\": %.0f, \"opens_together_per_s\": %.0f, \"client_kb\": [%d, %d], \"server_kb\": [%d, %d], \"idle_cpu_percent\": %.2f}\n",
			n, float64(n/2)/alone.Seconds(), float64(n-n/2)/together.Seconds(), before[0], memory("self"), before[1], memory(j.pids),
			100*(to.processes-from.processes)/to.at.Sub(from.at).Seconds())
		return nil
	})
}

// open opens n streams, some at a time. They stay open until the node ends.
func open(ctx context.Context, node *overlay.Node, n, together int) error {
	var ends sync.WaitGroup
	errs := make([]error, together)
	for i := range together {
		ends.Go(func() {
			for k := i; k < n && errs[i] == nil; k += together {
				_, errs[i] = node.Dial(ctx, "tcp", "peer"+holdPort)
			}
		})
	}
	ends.Wait()
	return errors.Join(errs...)
}

// memory returns how much of a process is in memory, in KiB.
func memory(pid string) (kb int) {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &kb)
		}
	}
	return kb
}
