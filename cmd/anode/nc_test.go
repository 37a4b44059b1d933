package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSocket answers what it is sent, after a delay.
type fakeSocket struct {
	delay         time.Duration
	sent          []string
	answers, back chan []byte
	fail          chan error
}

func newFakeSocket(delay time.Duration) *fakeSocket {
	return &fakeSocket{delay: delay, answers: make(chan []byte, 10), back: make(chan []byte, 10), fail: make(chan error, 1)}
}

func (s *fakeSocket) Send(b []byte) error {
	s.sent = append(s.sent, string(b))
	answer := append([]byte("re "), b...)
	s.answers <- answer
	time.AfterFunc(s.delay, func() { s.back <- <-s.answers }) // in order
	return nil
}

func (s *fakeSocket) Receive() ([]byte, error) {
	select {
	case b := <-s.back:
		return b, nil
	case err := <-s.fail:
		return nil, err
	}
}

// typedLines is an input of which each read returns one line.
type typedLines struct{ lines []string }

func (r *typedLines) Read(b []byte) (int, error) {
	if len(r.lines) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.lines[0])
	r.lines = r.lines[1:]
	return n, nil
}

// Each read of the input is a datagram, what comes back is printed, and it ends when nothing
// more comes, when the peer refuses, or by Ctrl-C.
func TestNcDatagrams(t *testing.T) {
	gone := errors.New("connection refused")
	for _, x := range []struct {
		name        string
		delay, wait time.Duration
		fail        error
		cancel      time.Duration // 0: never
		out         string
		took        time.Duration
	}{
		{"answered", time.Second, 2 * time.Second, nil, 0, "re one\nre two\n", 3 * time.Second},
		{"late", 3 * time.Second, 2 * time.Second, nil, 0, "", 2 * time.Second},
		{"until Ctrl-C", 3 * time.Second, 0, nil, time.Minute, "re one\nre two\n", time.Minute},
		{"refused", time.Second, 2 * time.Second, gone, 0, "", 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if x.cancel > 0 {
					time.AfterFunc(x.cancel, cancel)
				}
				s := newFakeSocket(x.delay)
				if x.fail != nil {
					s.fail <- x.fail
				}
				var out bytes.Buffer
				start := time.Now()
				err := (&app{out: &out}).exchange(ctx, s, &typedLines{[]string{"one\n", "two\n"}}, x.wait)
				want := x.fail
				if x.name == "late" {
					want = errNothingCame
				}
				if !errors.Is(err, want) || time.Since(start) != x.took || x.fail == nil && out.String() != x.out {
					t.Errorf("%q, %v after %v", out.String(), err, time.Since(start))
				}
				if x.fail == nil && strings.Join(s.sent, "|") != "one\n|two\n" {
					t.Errorf("sent %q", s.sent)
				}
				cancel()
				synctest.Wait()
				time.Sleep(time.Hour) // virtual: what is still delayed comes
				select {              // and whoever waits for it ends
				case s.fail <- gone:
				default:
				}
			})
		})
	}
}
