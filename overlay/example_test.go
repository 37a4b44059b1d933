package overlay_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

// A web server that peers reach, and nobody else: net/http takes a node's listener, and an
// http.Client dials by a node.
func ExampleNode_Listen() {
	server, client, stop := twoNodes()
	defer stop()

	l, err := server.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "Hello from", r.Host)
	}))

	web := http.Client{Transport: &http.Transport{DialContext: client.Dial}}
	page, err := web.Get("http://server/")
	if err != nil {
		log.Fatal(err)
	}
	defer page.Body.Close()
	io.Copy(os.Stdout, page.Body)
	// Output: Hello from server
}

// A service that sends each datagram back. A program on a machine with an adapter reaches it
// by any UDP socket.
func ExampleNode_ListenPacket() {
	server, client, stop := twoNodes()
	defer stop()

	socket, err := server.ListenPacket("udp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := socket.ReadFrom(buf)
			if err != nil {
				return
			}
			socket.WriteTo(buf[:n], from)
		}
	}()

	conn, err := client.Dial(context.Background(), "udp", "server:7")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(conn, "ping")
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	fmt.Println(string(buf[:n]), err)
	// Output: ping <nil>
}

// A listener knows each peer by its key, and can be for some of them alone.
func ExampleNode_ListenFor() {
	server, client, stop := twoNodes()
	defer stop()

	friend, err := server.ResolveULA(context.Background(), client.Address().ULA())
	if err != nil {
		log.Fatal(err)
	}
	l, err := server.ListenFor("tcp", ":1234", overlay.Who{Only: []anode.Address{friend}})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		conn, err := client.Dial(context.Background(), "tcp", "server:1234")
		if err != nil {
			log.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "it is me")
	}()

	conn, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	peer, proved := overlay.PeerOf(conn.RemoteAddr())
	fmt.Println(string(said), err, proved, peer == friend)
	// Output: it is me <nil> true true
}

// twoNodes runs two nodes that have added each other, without adapters or files, in this
// process. A real program runs one, with an identity that it keeps.
func twoNodes() (server, client *overlay.Node, stop func()) {
	one, err := anode.NewIdentity(0)
	if err != nil {
		log.Fatal(err)
	}
	two, err := anode.NewIdentity(0)
	if err != nil {
		log.Fatal(err)
	}
	server, stopServer := run(one, book.Entry{Address: two.Address(), Name: "client"})
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), server.Port())
	client, stopClient := run(two, book.Entry{Address: one.Address(), Name: "server", Endpoints: []wire.Endpoint{wire.UDP(at)}})
	return server, client, func() {
		stopClient()
		stopServer()
	}
}

// run starts a node that has added a peer.
func run(id *anode.Identity, peer book.Entry) (*overlay.Node, func()) {
	peers, _, err := book.Open(id.Address(), book.NewMemory(), []book.Entry{peer})
	if err != nil {
		log.Fatal(err)
	}
	node, err := overlay.New(overlay.Config{Identity: id, Book: peers, Network: new(loopback)})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- node.Run(ctx) }()
	return node, func() {
		cancel()
		if err := <-ended; err != nil {
			log.Fatal(err)
		}
	}
}

// loopback is the system's network without the LAN: examples send nothing to others.
type loopback struct{ link.System }

func (*loopback) State() (link.State, error) { return link.State{}, nil }

func (*loopback) ListenBeacons() (link.Conn, error) { return nil, net.ErrClosed }
