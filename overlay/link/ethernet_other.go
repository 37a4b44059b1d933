//go:build !linux

package link

func checkEthernet() error { return ErrNoEthernet }

func newEtherPort(*Mux, *Interface) (etherPort, error) { return nil, ErrNoEthernet }
