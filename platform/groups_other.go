//go:build !linux

package platform

import (
	"errors"
	"net/netip"
)

// Groups returns an error: this system is not asked yet for the groups that programs joined.
func Groups(int) ([]netip.Addr, error) {
	return nil, errors.ErrUnsupported
}
