//go:build unix

package link

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestRefusals(t *testing.T) {
	var c counters
	for errno, name := range map[syscall.Errno]string{
		syscall.EMSGSIZE: "tx_too_big", syscall.ENETUNREACH: "tx_unreachable", syscall.ECONNREFUSED: "tx_port_unreachable",
		syscall.EPERM: "tx_denied", syscall.ENOBUFS: "tx_no_buffer", syscall.EADDRNOTAVAIL: "tx_bad_source", syscall.EPIPE: "tx_other",
	} {
		c.refuse(errnoOf(fmt.Errorf("write: %w", errno)), 2)
		if c.all()[name] != 2 {
			t.Errorf("%v is not counted as %s: %v", errno, name, c.all())
		}
	}
	if errnoOf(errors.New("no errno")) != syscall.EINVAL {
		t.Error("an error without a number")
	}
	if !passing(syscall.ECONNREFUSED) || passing(syscall.EBADF) {
		t.Error("which errors pass")
	}
}
