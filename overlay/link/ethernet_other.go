//go:build !linux

package link

// CheckEthernet reports why this process cannot send frames.
func CheckEthernet() error { return ErrNoEthernet }

func newEtherPort(*Mux, *Interface) (etherPort, error) { return nil, ErrNoEthernet }
