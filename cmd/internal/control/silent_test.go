package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"anodenet/overlay"
)

// A daemon that was stopped (SIGSTOP) or hangs still accepts connections: the kernel does.
func TestSilentDaemon(t *testing.T) {
	socket := socketPath(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(socket)
	defer c.Close()
	_, err = callFor[overlay.Status](t.Context(), c, time.Millisecond, http.MethodGet, "status", nil)
	if !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), socket) {
		t.Errorf("got %v, want ErrSilent with the socket", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want what ended the caller's context", err)
	}
}
