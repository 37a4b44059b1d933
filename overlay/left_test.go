package overlay

import (
	"context"
	"errors"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/vnet"
)

// slowGateway has a service that never answers.
type slowGateway struct{ asked, ended chan struct{} }

func (g *slowGateway) Outbound([]byte) {}

func (g *slowGateway) Inbound(ctx context.Context, _ anode.ULA, _ uint16) (Taken, error) {
	g.asked <- struct{}{}
	<-ctx.Done()
	g.ended <- struct{}{}
	return nil, ctx.Err()
}

// A program that no longer waits for its stream ends it at once, and the peer is told. The S_OPEN
// is the first packet of its session, and is judged by what the handshake said.
func TestDialCancelled(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		g := &slowGateway{make(chan struct{}, 10), make(chan struct{}, 10)}
		a, b := newBareNode(t, w.Host("a")), newTestNode(t, w.Host("b"), func(c *Config) { c.Gateway = g })
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := a.Dial(ctx, "tcp", "b:80")
			failed <- err
		}()
		select {
		case <-g.asked:
		case err := <-failed:
			t.Fatal(err)
		}
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		settle(time.Second)
		if b.counter("drop_stream_withdrawn") != 1 || len(g.ended) != 1 {
			t.Error("the peer goes on asking the service")
		}
		before := b.status().Counters["rx_packets"]
		settle(time.Minute)
		if len(g.asked) != 0 {
			t.Error("the stream was opened again")
		}
		t.Logf("%d packets came later", b.status().Counters["rx_packets"]-before)
	})
}
