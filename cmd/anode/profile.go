package main

import (
	"errors"
	"os"
	"runtime/pprof"
)

// profileCPU profiles the process into a file, for "go tool pprof", until stop is called,
// which returns an error if not all of it was written.
func profileCPU(file string) (stop func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
