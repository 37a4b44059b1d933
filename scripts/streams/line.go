//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lineLoss  = 0.01 // of the frames of each direction
	lineDelay = 10 * time.Millisecond
	lineRate  = 1e9 / 8 // bytes a second
	lineQueue = 50 * time.Millisecond
	lineWait  = 1 << 16 // frames on their way, at most

	longest  = 1514 // a frame
	overhead = 24   // of a frame on a cable: preamble, checksum, gap
)

// lineCounters counts the frames of one direction.
type lineCounters struct{ passed, lost, full, long atomic.Int64 }

// line is a cable between two interfaces. A frame arrives a delay after it left the queue of the
// rate; some are lost, each with the same chance. Frames longer than a cable carries would hide
// how many packets they stand for, so they are an error: the interfaces must not have offloads.
func line(ctx context.Context, j job) error {
	var ends sync.WaitGroup
	var ports [2]*os.File
	for i := range ports {
		p, err := linePort(j.arg(i))
		if err != nil {
			return err
		}
		ports[i] = p
	}
	var counters [2]lineCounters
	for i := range ports {
		ends.Go(func() { carry(ports[i], ports[1-i], &counters[i], rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	<-ctx.Done()
	for _, p := range ports {
		p.Close()
	}
	ends.Wait()
	long := int64(0)
	for i := range counters {
		c := &counters[i]
		fmt.Fprintf(os.Stderr, "from %s: %d frames passed, %d lost, %d did not fit into the queue\n", j.arg(i), c.passed.Load(), c.lost.Load(), c.full.Load())
		long += c.long.Load()
	}
	if long > 0 {
		return fmt.Errorf("%d frames were longer than a cable carries; try: ethtool -K INTERFACE tso off gso off tx-udp-segmentation off", long)
	}
	return nil
}

// linePort opens an interface for whole frames that come from outside.
func linePort(name string) (*os.File, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

type frame struct {
	b   []byte
	due time.Time
}

// carry takes frames of one direction until the interface is closed.
func carry(from, to *os.File, c *lineCounters, random *rand.Rand) {
	onWay := make(chan frame, lineWait)
	var ends sync.WaitGroup
	defer ends.Wait()
	ends.Go(func() { arrive(to, onWay, c) })
	defer close(onWay)
	var free time.Time // when the queue is empty
	buf := make([]byte, 1<<17)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, syscall.ENETDOWN) {
			continue
		}
		if err != nil {
			return
		}
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		switch {
		case n > longest:
			c.long.Add(1)
		case random.Float64() < lineLoss:
			c.lost.Add(1)
		case free.Sub(now) > lineQueue || len(onWay) == cap(onWay):
			c.full.Add(1)
		default:
			free = free.Add(time.Duration(float64(n+overhead) / lineRate * float64(time.Second)))
			onWay <- frame{append([]byte(nil), buf[:n]...), free.Add(lineDelay)}
		}
	}
}

func arrive(to *os.File, onWay <-chan frame, c *lineCounters) {
	for f := range onWay {
		if wait := time.Until(f.due); wait > 50*time.Microsecond {
			time.Sleep(wait)
		}
		if _, err := to.Write(f.b); err == nil {
			c.passed.Add(1)
		}
	}
}
