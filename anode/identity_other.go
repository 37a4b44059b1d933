//go:build !unix

package anode

import "io/fs"

// checkMode has nothing to check: modes say nothing of access lists.
func checkMode(string, fs.FileInfo) error { return nil }

// syncDir has nothing to do: directories cannot be written to the disk by themselves.
func syncDir(string) error { return nil }
