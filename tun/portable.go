package tun

import (
	"errors"
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/tun"
)

// portable is the only queue of a device of wireguard's package tun: one packet at a
// time, and every checksum complete. That package needs room in front of a packet, where
// it writes what its system expects there; the frame's header is that room.
type portable struct {
	dev  tun.Device
	done chan struct{} // closed when nobody drains the device's events any more

	frames [1][]byte // read's arguments
	sizes  [1]int

	mu  sync.Mutex // guards out, for packets come in and errors are made in goroutines of their own
	out [1][]byte  // write's argument
}

func newPortable(dev tun.Device) *portable {
	p := &portable{dev: dev, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for range dev.Events() {
		}
	}()
	return p
}

// read always waits: these devices cannot do otherwise.
func (p *portable) read(frame []byte, wait bool) (int, error) {
	if !wait {
		return 0, nil
	}
	p.frames[0] = frame
	n, err := p.dev.Read(p.frames[:], p.sizes[:], vnetSize)
	if err != nil {
		return 0, closedError(err)
	}
	if n == 0 || p.sizes[0] == 0 {
		return 0, errNothing
	}
	clear(frame[:vnetSize])
	return vnetSize + p.sizes[0], nil
}

func (p *portable) write(frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out[0] = frame
	_, err := p.dev.Write(p.out[:], vnetSize)
	p.out[0] = nil
	return closedError(err)
}

// close ends the waiting read and the goroutine that drains the events.
func (p *portable) close() error {
	err := p.dev.Close()
	<-p.done
	return err
}

// errNothing is a read that returned neither a packet nor an error.
var errNothing = errors.New("tun: empty read")

func closedError(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return ErrClosed
	}
	return err
}
